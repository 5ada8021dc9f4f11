"""`agent-service doctor`: what it says of a good place and of bad ones."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.processes import KEY, command, environment, server_process
from tests.fakes.authority import DAY, authority
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, serving

Found = dict[str, list[tuple[str, str]]]
FREE = {"API_HOST": "127.0.0.1", "API_PORT": "0", "METRICS_PORT": "0", "LLM_PROVIDER": "scripted"}


async def doctor(directory: Path, **settings: str) -> tuple[int, Found]:
    """Its exit code, and of each subject what it found: (verdict, text)."""
    env = environment(**(FREE | {"API_KEY": KEY} | settings))
    code, out, err = await command("doctor", "--json", cwd=directory, env=env)
    assert err == ""
    found: Found = {}
    for line in out.splitlines():
        one = json.loads(line)
        assert (one["verdict"] == "ok") == (one["advice"] == ""), "whatever is not well has its advice"
        found.setdefault(one["subject"], []).append((one["verdict"], one["text"]))
    return code, found


async def test_a_good_place_has_no_problem(tmp_path: Path) -> None:
    code, found = await doctor(tmp_path)

    assert code == 0
    assert set(found) >= {"configuration", "keys", "store", "ports", "clock"}
    assert "problem" not in {verdict for findings in found.values() for verdict, _ in findings}
    assert os.listdir(tmp_path) == [], "nothing was made"


async def test_beside_a_running_server_its_ports_and_its_store_are_well(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        env = server.environment_of_ports()
        code, found = await doctor(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path / 'test.db'}", **env)

    assert code == 0
    assert found["ports"] == [("ok", f"API_PORT {server.port}: a server of this kind runs there, and is SERVING")]
    assert ("ok", f"{tmp_path / 'test.db'}: 0 tasks, 0 of them unfinished") in [
        (verdict, text.rpartition(",")[0]) for verdict, text in found["store"]
    ]


async def test_a_port_of_another_program_is_a_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, found = await doctor(tmp_path, API_PORT=str(port))

    assert (code, found["ports"][0]) == (1, ("problem", f"API_PORT {port}: another process has it"))


async def test_every_mistake_of_the_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("agents: {a: {model: fast}, b: {model: slow}}\n")
    code, found = await doctor(tmp_path)

    assert code == 1
    assert {verdict for verdict, _ in found["configuration"]} == {"problem"}
    assert len(found["configuration"]) == 2


async def test_keys_that_end_or_that_others_may_write_are_told(tmp_path: Path) -> None:
    entry = "{id: %s, hash: 'sha256:%s', tenant: acme, scopes: [tasks.run], not_after: %s}"
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    past = "2020-01-01T00:00:00Z"
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys:\n- {entry % ('one', 'a' * 64, soon)}\n- {entry % ('two', 'b' * 64, past)}\n")
    os.chmod(keys, 0o666)

    code, found = await doctor(tmp_path, API_KEYS_FILE=str(keys))

    assert code == 1
    verdicts = [verdict for verdict, _ in found["keys"]]
    assert verdicts == ["ok", "warning", "warning", "problem", "ok"]
    assert "two has expired" in found["keys"][2][1]


async def test_a_provider_of_identities_is_asked_for_its_keys(tmp_path: Path) -> None:
    async with serving(IdentityProvider()) as provider:
        tokens = {"JWT_ISSUER": provider.issuer, "JWT_AUDIENCE": AUDIENCE}
        good_code, good = await doctor(tmp_path, **tokens)
        provider.answers["/keys"] = (500, b"")
        code, found = await doctor(tmp_path, **tokens)

    assert (good_code, good["tokens"]) == (0, [("ok", f"the public keys of {provider.issuer} are available")])
    assert (code, found["tokens"]) == (
        1,
        [("problem", f"{provider.issuer} answers with status 500: calls with a token are refused")],
    )


async def test_a_model_that_nobody_answers_for_is_told(tmp_path: Path) -> None:
    code, found = await doctor(
        tmp_path, LLM_PROVIDER="openai", OPENAI_API_KEY="k" * 40, LLM_BASE_URL="http://127.0.0.1:9/v1"
    )

    assert (code, [verdict for verdict, _ in found["provider"]]) == (1, ["problem"])
    assert "k" * 40 not in str(found)


@pytest.mark.parametrize(
    ("spoil", "subject", "told"),
    [
        ("write no database", "store", "cannot be read: file is not a database"),
        ("belong to another program", "store", "is the SQLite database of another program"),
        ("damage a page", "store", "is damaged: "),
        ("come from the future", "clock", "behind the newest event in"),
    ],
)
async def test_a_store_that_cannot_be_used_is_told_and_left_alone(
    tmp_path: Path, spoil: str, subject: str, told: str
) -> None:
    path = tmp_path / "test.db"
    async with server_process(tmp_path) as server:
        env = environment(AGENT_SERVICE_TARGET=server.target, API_KEY=KEY)
        assert (await command("run", "-q", "add 2 and 3", cwd=tmp_path, env=env))[0] == 0
        server.process.terminate()
        await server.process.wait()
    spoiled(path, spoil)
    before = path.read_bytes()

    code, found = await doctor(tmp_path, DATABASE_URL=f"sqlite:///{path}")

    problems = [text for verdict, text in found[subject] if verdict == "problem"]
    assert (code, len(problems)) == (1, 1)
    assert told in problems[0]
    assert path.read_bytes() == before


def spoiled(path: Path, spoil: str) -> None:
    if spoil == "write no database":
        path.write_bytes(b"text" * 1000)
        return
    with closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if spoil == "belong to another program":
            store.execute("PRAGMA application_id = 7")
        elif spoil == "come from the future":
            store.execute("UPDATE tasks SET update_time = ?", (int((time.time() + 3600) * 1e6),))
        store.commit()
        (page,) = store.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tasks_of_tenant'").fetchone()
        (size,) = store.execute("PRAGMA page_size").fetchone()
    if spoil == "damage a page":
        with path.open("r+b") as file:
            file.seek((page - 1) * size + 8)
            file.write(b"\xff" * 64)


async def test_people_read_what_to_do_beside_each_finding(tmp_path: Path) -> None:
    code, out, _ = await command("doctor", cwd=tmp_path, env=environment(**FREE))

    assert code == 0
    assert "→ set API_KEY or API_KEYS_FILE" in out
    assert out.splitlines()[-1].startswith("0 problems, ")


async def test_a_certificate_that_ends_soon_and_a_key_that_all_may_read_are_told(tmp_path: Path) -> None:
    cert_file, key_file = authority().issue("localhost").write(tmp_path, "server")  # good for a day
    key_file.chmod(0o644)
    tls = {"TLS_CERT_FILE": str(cert_file), "TLS_KEY_FILE": str(key_file)}
    code, found = await doctor(tmp_path, **tls)
    assert code == 0
    readable, ends = found["tls"]
    assert readable == ("warning", f"{key_file} is readable by every user of this machine")
    assert ends[0] == "warning"
    assert ends[1].startswith(f"{cert_file} expires at 20")

    authority().issue("localhost", ends=30 * DAY).write(tmp_path, "server")
    key_file.chmod(0o600)
    code, found = await doctor(tmp_path, **tls)
    assert [verdict for verdict, _ in found["tls"]] == ["ok"]

    cert_file.write_text("garbage")
    code, found = await doctor(tmp_path, **tls)
    assert code == 1
    assert ("problem", f"{cert_file}: holds no certificate in PEM form") in found["configuration"]


async def test_a_running_server_with_tls_is_known_by_its_port_for_health(tmp_path: Path) -> None:
    cert_file, key_file = authority().issue("localhost").write(tmp_path, "server")
    tls = {"TLS_CERT_FILE": str(cert_file), "TLS_KEY_FILE": str(key_file)}
    async with server_process(tmp_path, HEALTH_PORT="0", **tls) as server:
        ports = server.environment_of_ports() | {"HEALTH_PORT": str(server.health_port)}
        code, found = await doctor(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path / 'test.db'}", **ports, **tls)
    assert code == 0
    health = ("ok", f"HEALTH_PORT {server.health_port}: a server of this kind runs there, and is SERVING")
    assert found["ports"] == [health]
