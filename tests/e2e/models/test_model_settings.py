"""Models by their names alone, and settings that are refused, against a provider that is as strict as real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_service.client import AsyncClient
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, Task
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process
from tests.fakes.strict.server import StrictProvider

# Nothing is set that a provider might refuse: what its family takes is sent.
BY_NAME = {
    "gpt-5.6-strict": "",
    "gpt-5.6-strict-by-responses": ", api: responses",
    "gpt-5-strict": "",
    "gpt-4.1-strict": "",
    "gpt-4.1-strict-by-responses": ", api: responses",
    "plain-1": "",
    "deepseek-v4": "",
    "gemini-3-pro": "",
    "mistral-large": "",
    "openrouter-kimi": "",
}


def write(directory: Path, provider: StrictProvider, models: dict[str, str]) -> dict[str, str]:
    """A file with an agent of each model's name; what the server needs beside it."""
    lines = ["models:"]
    for name, more in models.items():
        model_id = name.removesuffix("-by-responses")
        lines.append(f"  {name}: {{provider: openai, model_id: {model_id}, base_url: '{provider.base_url}'{more}}}")
    lines.append("agents:")
    lines += [f"  {name}: {{model: {name}, tools: [echo]}}" for name in models]
    (directory / "config.yaml").write_text("\n".join(lines) + "\n")
    return {"LLM_PROVIDER": "", "OPENAI_API_KEY": "provider-key-for-tests"}


async def run(server: ServerProcess, agent: str, task: str = "hi") -> Task:
    async with AsyncClient(server.target, api_key=KEY) as client:
        return await client.run(task, agent=agent)


async def test_models_that_are_only_named_call_tools_and_answer_and_no_request_is_refused(tmp_path: Path) -> None:
    async with StrictProvider() as provider:
        settings = write(tmp_path, provider, BY_NAME)
        async with server_process(tmp_path, **settings) as server:
            tasks = {name: await run(server, name, "2 turns, please") for name in BY_NAME}
    assert provider.refusals == []
    assert {name: task.state for name, task in tasks.items()} == dict.fromkeys(BY_NAME, TASK_STATE_COMPLETED)


async def test_a_refused_setting_is_named_with_its_line_in_the_failure_and_once_in_the_log(tmp_path: Path) -> None:
    async with StrictProvider() as provider:
        settings = write(tmp_path, provider, {"gpt-5-strict": ", temperature: 0.5"})
        async with server_process(tmp_path, **settings) as server:
            failures = [(await run(server, "gpt-5-strict")).failure for _ in range(2)]
            logged = await server.logged("model_setting_refused")
            lines = [line for line in server.log if line["event"] == "model_setting_refused"]
    place = "see config.yaml:2 models.gpt-5-strict.temperature"
    for failure in failures:
        assert failure.reason == reasons.ERROR_REASON_LLM_REJECTED
        assert failure.message.endswith(place)
    assert (logged["level"], logged["model"], logged["parameter"]) == ("WARNING", "gpt-5-strict", "temperature")
    assert logged["problem"].endswith(place)
    assert len(lines) == 1


@pytest.mark.parametrize("variable", ["LLM_MODEL", "LLM_TEMPERATURE"])
async def test_of_the_environments_model_the_variable_is_named(tmp_path: Path, variable: str) -> None:
    wrong = {"LLM_MODEL": "gpt-9-nowhere"} if variable == "LLM_MODEL" else {"LLM_TEMPERATURE": "0.5"}
    async with StrictProvider() as provider:
        settings = {"LLM_PROVIDER": "openai", "LLM_BASE_URL": provider.base_url, "LLM_MODEL": "gpt-5-strict", **wrong}
        async with server_process(tmp_path, **settings) as server:
            failure = (await run(server, "assistant")).failure
    rejected = reasons.ERROR_REASON_MODEL_NOT_FOUND if variable == "LLM_MODEL" else reasons.ERROR_REASON_LLM_REJECTED
    assert failure.reason == rejected
    assert f"; see {variable}" in failure.message


async def test_doctor_warns_of_models_that_end_and_of_those_that_there_are_not(tmp_path: Path) -> None:
    async with StrictProvider() as provider:
        settings = write(tmp_path, provider, {"gpt-5-strict": "", "gpt-4.1-strict": "", "gpt-5.7-strict": ""})
        free = {"API_HOST": "127.0.0.1", "API_PORT": "0", "METRICS_PORT": "0"}
        code, out, _ = await command("doctor", "--json", cwd=tmp_path, env=environment(**settings, **free))
    found = [each for line in out.splitlines() if (each := json.loads(line))["subject"] == "provider"]
    assert code == 0
    assert [each["verdict"] for each in found] == ["ok", "ok", "warning", "ok", "warning"]
    assert "gpt-4.1-strict end" in found[2]["text"]
    assert "2027-01-15" in found[2]["text"]
    assert found[4]["text"] == "model gpt-5.7-strict: the provider's list has no gpt-5.7-strict"
    assert "gpt-5.6-strict" in found[4]["advice"]
