"""All clients repeat the same calls by themselves: those that the contract's `idempotency_level` says may be repeated.

`clients/repeatable.txt` names them. Here the list is compared with the contract; a test of each client compares it with
the calls that the client really makes again: `tests/client/test_channel.py`, `clients/go/repeatable_test.go`,
`clients/typescript/test/connection.test.ts` and `ChannelsTest.java`.
"""

from __future__ import annotations

from pathlib import Path

from agent_service.server.methods import SERVICE, read_methods

CLIENTS = Path(__file__).parents[2] / "clients"


def test_the_calls_that_clients_repeat_are_those_that_the_contract_says() -> None:
    ours = [method for method in read_methods() if method.path.startswith(f"/{SERVICE}/")]
    repeatable = sorted(method.path.rpartition("/")[2] for method in ours if method.is_repeatable)

    assert (CLIENTS / "repeatable.txt").read_text("utf-8").split() == repeatable


def test_a_test_of_every_client_reads_the_list() -> None:
    tests = [
        CLIENTS.parent / "tests/client/test_channel.py",
        CLIENTS / "go/repeatable_test.go",
        CLIENTS / "typescript/test/connection.test.ts",
        CLIENTS / "java/src/test/java/dev/agentservice/client/ChannelsTest.java",
    ]

    assert [path.name for path in tests if "repeatable.txt" not in path.read_text("utf-8")] == []
