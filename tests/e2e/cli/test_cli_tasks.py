"""`agent-service tasks` and the long-lived side of `run`, as processes against a server process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent_service.cli.remote.tasks import tasks
from agent_service.client import AsyncClient
from agent_service.keys.secret import generate, hash_text, public_id_of
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_INPUT_REQUIRED
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process

SHOP = '''
from agent_service.tools.decorator import tool


@tool(side_effect="side_effecting")
def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


@tool(side_effect="read_only", approval="always")
def peek() -> str:
    """Looks at what is private."""
    return "seen"
'''
SCRIPT = """
- match: never
  turns: [{text: never, delay_s: 600}]
- match: pay and peek
  turns:
    - tool_calls: [{name: pay, arguments: {amount: 1}}, {name: peek}]
    - text: "{results[0]} and {results[1]}"
- match: pay (?P<amount>[0-9]+)
  turns:
    - tool_calls: [{name: pay, arguments: "{{\\"amount\\": {amount}}}"}]
    - text: "{result}"
- match: peek
  turns: [{tool_calls: [{name: peek}]}, {text: "{result}"}]
- match: .*
  turns: [{text: hello}]
"""
CONFIG = """
models: {default: {provider: scripted, script: script.yaml}}
tools: {modules: [shop]}
agents:
  careful: {model: default, tools: [pay, peek], approval: side_effecting, default: true}
  silent: {model: default, tools: [pay, peek]}
  free: {model: default, tools: [pay, peek], approval: never}
  strict: {model: default, tools: [pay, peek], approval: always}
  picky: {model: default, tools: [pay, peek], approval: {pay: always}}
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "config.yaml").write_text(CONFIG)
    async with server_process(tmp_path, LLM_PROVIDER="") as started:
        yield started


async def cli(server: ServerProcess, *arguments: str) -> tuple[int, list[str], list[str]]:
    env = environment(AGENT_SERVICE_TARGET=server.target, API_KEY=KEY)
    code, out, err = await command(*arguments, cwd=server.directory, env=env)
    return code, out.splitlines(), err.splitlines()


async def test_a_task_is_run_found_asked_about_answered_and_erased(server: ServerProcess) -> None:
    code, out, err = await cli(server, "run", "pay 5", "--session", "s", "--label", "env=test")
    assert (code, err) == (4, [])
    task_id = out[0].split()[1]
    assert out[-3:] == [
        'waiting for input_1: may it run? → pay {"amount": 5}',
        f"  agent-service tasks resume {task_id} input_1 --approve",
        f"  agent-service tasks resume {task_id} input_1 --deny COMMENT",
    ]
    code, shown, err = await cli(server, "tasks", "show", task_id)
    assert (code, err) == (0, [])
    assert shown[-3:] == out[-3:]
    assert "label env=test" in shown
    code, listed, _ = await cli(server, "tasks", "list", "--state", "input-required", "--session", "s")
    assert code == 0
    assert [line.split()[0] for line in listed] == [task_id]
    assert "INPUT_REQUIRED" in listed[0]

    # The command as it was printed.
    code, out, err = await cli(server, *out[-2].split()[1:])
    assert (code, err, len(out)) == (0, [], 1)
    code, out, err = await cli(server, "tasks", "watch", task_id)
    assert (code, out[-1], err) == (0, "paid 5", [])
    assert "input_1 answered by default: approve" in out
    code, out, _ = await cli(server, "tasks", "watch", task_id, "--after", "1000")
    assert (code, out) == (0, [])
    code, out, _ = await cli(server, "tasks", "show", task_id, "--json")
    assert (code, json.loads("\n".join(out))["state"]) == (0, "TASK_STATE_COMPLETED")

    code, _, err = await cli(server, "tasks", "resume", task_id, "input_1", "--deny", "")
    assert (code, len(err)) == (5, 1)
    assert "TASK_TERMINAL" in err[0]
    assert (await cli(server, "tasks", "delete", "--session", "s"))[:2] == (0, ["session s: 1 tasks deleted"])
    code, out, err = await cli(server, "tasks", "show", task_id)
    assert (code, out, len(err)) == (5, [], 1)
    assert "TASK_NOT_FOUND" in err[0]


async def test_tasks_in_the_background_are_canceled_erased_and_answered_one_input_at_a_time(
    server: ServerProcess,
) -> None:
    code, out, err = await cli(server, "run", "--background", "never", "--agent", "free")
    assert (code, len(out), err) == (0, 1, [])
    (task_id,) = out
    code, _, err = await cli(server, "tasks", "delete", task_id)
    assert (code, len(err)) == (5, 1)
    assert "TASK_NOT_TERMINAL" in err[0]
    code, out, err = await cli(server, "tasks", "cancel", task_id)
    assert (code, len(out), err) == (0, 1, [])
    assert "CANCELED" in out[0]
    code, out, _ = await cli(server, "tasks", "watch", task_id, "-q")
    assert (code, out) == (3, [])
    assert (await cli(server, "tasks", "delete", task_id))[:2] == (0, [f"{task_id} deleted"])

    code, out, _ = await cli(server, "run", "--background", "--json", "hi")
    assert (code, json.loads(out[0])["agent"]) == (0, "careful")
    await of_two_inputs_one_is_named(server)


async def of_two_inputs_one_is_named(server: ServerProcess) -> None:
    """Where a task waits for two inputs, the command says which it answers."""
    code, out, err = await cli(server, "run", "-q", "pay and peek", "--agent", "strict")
    assert (code, out) == (4, [])
    assert [line for line in err if line.startswith("waiting")] == [
        'waiting for input_1: may it run? → pay {"amount":1}',
        "waiting for input_2: may it run? → peek {}",
    ]
    task_id = err[1].split()[3]
    code, _, err = await cli(server, "tasks", "resume", task_id, "--approve")
    assert (code, err) == (2, ["the task waits for 2 inputs; name one: input_1, input_2"])
    code, _, err = await cli(server, "tasks", "resume", task_id, "--approve", "--deny", "no")
    assert (code, len(err)) == (2, 1)
    code, _, err = await cli(server, "tasks", "resume", task_id, "input_1", "--reply", "yes")
    assert code == 5
    assert err[1:] == ["  answer: APPROVAL accepts one of approve, deny"]
    code, out, _ = await cli(server, "tasks", "resume", task_id, "input_2", "--deny", "it is private")
    assert (code, "INPUT_REQUIRED" in out[0]) == (0, True)
    assert (await cli(server, "tasks", "resume", task_id, "--approve"))[0] == 0


async def test_who_decides_about_approval_is_the_agent_and_where_it_is_silent_the_tool(server: ServerProcess) -> None:
    asks = {
        "careful": ["pay"],
        "silent": ["peek"],
        "free": [],
        "strict": ["pay", "peek"],
        "picky": ["pay", "peek"],
    }
    async with AsyncClient(server.target, api_key=KEY) as client:
        for agent, tools in asks.items():
            task = await client.run("pay and peek", agent=agent)
            assert [one.tool_call.name for one in task.pending_inputs] == tools
            assert task.state == (TASK_STATE_INPUT_REQUIRED if tools else TASK_STATE_COMPLETED)
        assert {tool.name for tool in await client.list_tools() if tool.needs_approval} == {"peek"}


def test_the_commands_explain_themselves_and_refuse_what_they_cannot_do_in_a_line() -> None:
    told = CliRunner().invoke(tasks, ["--help"])
    assert told.exit_code == 0
    for name in ("list", "show", "watch", "cancel", "resume", "delete", "prune", "backup"):
        assert f"\n  {name} " in told.output
    for arguments in (["resume", "t"], ["delete"], ["resume", "t", "--result", "{"]):
        told = CliRunner().invoke(tasks, arguments)
        assert (told.exit_code, len(told.output.splitlines())) == (2, 1)


async def test_tasks_are_listed_and_canceled_by_the_key_that_submitted_them(tmp_path: Path) -> None:
    secrets = {name: generate(public_id_of(name)) for name in ("ci", "batch", "operator")}
    scopes = {"operator": ["tasks.read", "tasks.cancel", "admin"]}
    keys = [
        {
            "id": name,
            "hash": hash_text(secret),
            "tenant": "ops" if name == "operator" else "acme",
            "scopes": scopes.get(name, ["tasks.run", "tasks.read"]),
            "agents": ["*"],
        }
        for name, secret in secrets.items()
    ]
    (tmp_path / "keys.yaml").write_text(json.dumps({"keys": keys}))
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "config.yaml").write_text(CONFIG)
    async with server_process(tmp_path, LLM_PROVIDER="", API_KEY="", API_KEYS_FILE="keys.yaml") as server:

        async def called(name: str, *arguments: str) -> tuple[int, list[str]]:
            env = environment(AGENT_SERVICE_TARGET=server.target, API_KEY=secrets[name])
            code, out, err = await command(*arguments, cwd=tmp_path, env=env)
            return code, (out + err).splitlines()

        _, (of_ci,) = await called("ci", "run", "--background", "never", "--agent", "free")
        _, (of_batch,) = await called("batch", "run", "--background", "never", "--agent", "free")

        code, listed = await called("batch", "tasks", "list", "--key", "ci")
        assert (code, [line.split()[0] for line in listed]) == (0, [of_ci])
        assert await called("operator", "tasks", "list", "--key", "ci") == (0, [])
        assert (await called("batch", "tasks", "list", "--key", "ci", "--tenant", "ops"))[0] == 5
        code, canceled = await called("operator", "tasks", "cancel", "--key", "ci", "--tenant", "acme")
        assert (code, [line.split()[0] for line in canceled]) == (0, [of_ci])
        code, unfinished = await called("batch", "tasks", "list", "--state", "working")
        assert (code, [line.split()[0] for line in unfinished]) == (0, [of_batch])
        assert (await called("operator", "tasks", "cancel", "--key", "ci", of_batch))[0] == 2
        assert (await called("operator", "tasks", "cancel", of_batch, "--tenant", "acme"))[0] == 2
        code, told = await called("operator", "tasks", "cancel", "none-of-this-id", of_batch)
        assert (code, told[0].split()[0], told[1]) == (5, of_batch, "1 of 2 tasks could not be canceled")
