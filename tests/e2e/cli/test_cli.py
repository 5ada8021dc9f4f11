"""The command line against a real server."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.processes import KEY, ServerProcess, agent_service, child, command, environment, server_process


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with server_process(tmp_path) as started:
        yield started


def client_env(server: ServerProcess, **more: str) -> dict[str, str]:
    return environment(**({"AGENT_SERVICE_TARGET": server.target, "API_KEY": KEY} | more))


async def cli(server: ServerProcess, *arguments: str, **more: str) -> tuple[int, str, str]:
    return await command(*arguments, cwd=server.directory, env=client_env(server, **more))


async def test_run_prints_a_plain_line_for_each_step_in_a_pipe(server: ServerProcess) -> None:
    code, out, _ = await cli(server, "run", "What is 17.5% of 2340?")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("task ")
    assert any("→ calculator" in line for line in lines)
    assert any("← calculator: 409.5" in line for line in lines)
    assert "409.5" in lines[-1]
    assert "\x1b" not in out


async def test_run_quietly_prints_the_answer_alone(server: ServerProcess) -> None:
    code, out, err = await cli(server, "run", "-q", "add 2 and 3")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert "5" in out


async def test_run_as_json_prints_every_event(server: ServerProcess) -> None:
    code, out, _ = await cli(server, "run", "--json", "--label", "env=test", "add 2 and 3")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert events[0]["submitted"]["labels"] == {"env": "test"}
    assert "completed" in events[-1]


async def test_tools_are_listed_and_invoked(server: ServerProcess) -> None:
    code, out, _ = await cli(server, "tools", "list")
    assert code == 0
    names = [line.partition("(")[0] for line in out.splitlines()]
    assert names == ["calculator", "current_time", "echo", "json_query", "pay"]
    code, out, _ = await cli(server, "tools", "invoke", "calculator", '{"expression": "17.5% of 2340"}')
    assert code == 0
    assert json.loads(out) in (409.5, "409.5")


async def test_a_tool_that_fails_exits_1_and_a_call_that_is_refused_5(server: ServerProcess) -> None:
    code, _, err = await cli(server, "tools", "invoke", "calculator", '{"expression": "1/0"}')
    assert (code, "TOOL_FAILED" in err) == (1, True)
    code, _, err = await cli(server, "tools", "invoke", "calculator", '{"expresion": "1"}')
    assert code == 5
    assert "inputs.expression" in err
    code, _, err = await cli(server, "tools", "invoke", "calclator")
    assert (code, "did you mean 'calculator'?" in err) == (5, True)


async def test_health_tells_the_status_and_exits_by_it(server: ServerProcess) -> None:
    for name in ((), ("liveness",), ("readiness",), ("agent_service.v1.AgentService",)):
        assert (await cli(server, "health", *name))[:2] == (0, "SERVING\n")
    code, _, err = await cli(server, "health", "nope")
    assert (code, "NOT_FOUND" in err) == (5, True)


async def test_a_wrong_key_is_one_clear_line_and_exit_5(server: ServerProcess) -> None:
    code, out, err = await cli(server, "run", "hi", API_KEY="wrong")
    assert (code, out) == (5, "")
    assert len(err.splitlines()) == 1
    assert "API_KEY_INVALID" in err


async def test_a_server_that_is_not_there_is_one_clear_line_and_exit_5(server: ServerProcess) -> None:
    code, _, err = await cli(server, "run", "hi", AGENT_SERVICE_TARGET="127.0.0.1:1")
    assert code == 5
    assert "UNAVAILABLE" in err
    assert "Traceback" not in err


async def test_a_proxy_of_the_environment_is_not_asked_for_loopback(server: ServerProcess) -> None:
    code, _, _ = await cli(server, "health", http_proxy="http://127.0.0.1:1", https_proxy="http://127.0.0.1:1")
    assert code == 0


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("run", "hi", "--label", "x"), ("nope",), ("tools", "invoke"), ("run", "hi", "--timeout", "x")],
)
async def test_wrong_usage_exits_2_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, _, err = await command(*arguments, cwd=tmp_path, env=environment())
    assert code == 2
    assert "Traceback" not in err


async def test_every_command_explains_itself(tmp_path: Path) -> None:
    for arguments in ((), ("serve",), ("run",), ("tools",), ("tools", "invoke"), ("health",)):
        code, out, _ = await command(*arguments, "--help", cwd=tmp_path, env=environment())
        assert (code, out[:6]) == (0, "Usage:")
    code, out, _ = await command("--version", cwd=tmp_path, env=environment())
    assert (code, out.split()[0]) == (0, "agent-service")


# A shell starts what it runs in the background with SIGINT ignored.
BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


@pytest.mark.parametrize("started_by", [(), BACKGROUND], ids=["a terminal", "a shell in the background"])
async def test_ctrl_c_cancels_the_task_and_exits_3(tmp_path: Path, started_by: tuple[str, ...]) -> None:
    (tmp_path / "script.yaml").write_text("- match: .*\n  turns: [{text: never, delay_s: 600}]\n")
    (tmp_path / "config.yaml").write_text(
        "models: {default: {provider: scripted, script: script.yaml}}\nagents: {assistant: {model: default}}\n"
    )
    async with server_process(tmp_path, LLM_PROVIDER="") as server:
        async with child(*started_by, *agent_service("run", "hi"), cwd=tmp_path, env=client_env(server)) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert (process.returncode, err.decode()) == (3, "canceled\n")
        line = await server.logged("task")
        assert line["state"] == "CANCELED"


async def test_settings_are_read_from_dotenv_too(server: ServerProcess) -> None:
    (server.directory / ".env").write_text(f"API_KEY={KEY}\nAGENT_SERVICE_TARGET={server.target}\n")
    code, _, _ = await command("tools", "list", cwd=server.directory, env=environment())
    assert code == 0


async def test_run_with_a_schema_prints_the_json(server: ServerProcess) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    (server.directory / "schema.json").write_text(json.dumps(schema))
    code, out, err = await cli(server, "run", "-q", "--schema", "schema.json", "What is 17.5% of 2340?")
    assert (code, json.loads(out), err) == (0, {"total": 409.5}, "")
    (server.directory / "wrong.json").write_text('{"type": "object", "properties": {"x": {"type": "strng"}}}')
    code, _, err = await cli(server, "run", "--schema", "wrong.json", "hi")
    assert (code, "output_schema.properties.x.type" in err) == (5, True)


@pytest.mark.parametrize(("name", "content"), [("none.json", None), ("text.json", "{"), ("list.json", "[1]")])
async def test_a_schema_that_is_no_file_or_no_object_is_a_usage_error(
    tmp_path: Path, name: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    code, _, err = await command("run", "--schema", name, "hi", cwd=tmp_path, env=environment())
    assert code == 2
    assert err.startswith(f"--schema {name}: ")


@pytest.mark.parametrize("placeholder", ["", "API_KEY=your-secret-key-here\n"])
async def test_with_a_copied_env_example_the_key_that_the_server_prints_is_enough(
    tmp_path: Path, placeholder: str
) -> None:
    example = (Path(__file__).parents[3] / ".env.example").read_text("utf-8")
    (tmp_path / ".env").write_text(example + placeholder, "utf-8")
    async with server_process(tmp_path, API_KEY="", LLM_PROVIDER="") as server:
        (printed,) = (line for line in server.stderr if "no API_KEY is set" in line)
        reader = environment(API_PORT=str(server.port))
        code, _, err = await command("run", "say hello", cwd=tmp_path, env=reader)
        assert (code, "API_KEY_MISSING" in err, "set API_KEY to a key of the server" in err) == (5, True, True)

        reader["API_KEY"] = printed.split()[-1]
        code, out, _ = await command("run", "-q", "say hello", cwd=tmp_path, env=reader)
        assert (code, out) == (0, "hello\n")
