"""Whatever is secret or private goes in as a canary, and must not be seen where it does not belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED
from tests.e2e.processes import KEY, server_process

CANARY = "canary-4711"

TOOLS = f'''
from agent_service.tools.decorator import tool


@tool
def burst(secret: str) -> str:
    """Raises with a text of its own."""
    raise RuntimeError("{CANARY}-exception " + secret)


class Broken:
    """An agent with a bug."""

    def step(self, state):
        raise ValueError("{CANARY}-agent " + state.messages[-1].text)
'''
SCRIPT = f"""
- match: burst
  turns:
    - tool_calls: [{{name: burst, arguments: {{secret: {CANARY}-argument}}}}]
    - text: that failed
- match: .*
  turns: [{{text: {CANARY}-answer}}]
"""
CONFIG = """
models: {default: {provider: scripted, script: script.yaml}}
agents:
  assistant: {model: default, tools: [burst], default: true}
  broken: {model: default, class: "canary_tools:Broken"}
tools: {modules: [canary_tools]}
"""


async def test_no_canary_reaches_a_log_a_metric_or_a_response_that_it_is_not_for(tmp_path: Path) -> None:
    (tmp_path / "canary_tools.py").write_text(TOOLS)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "config.yaml").write_text(CONFIG)
    settings = {"LLM_PROVIDER": "", "PYTHONPATH": str(tmp_path), "AGENT_SERVICE_LOG_LEVEL": "DEBUG"}
    seen: list[str] = []
    async with (
        server_process(tmp_path, **settings) as server,
        AsyncClient(server.target, api_key=KEY) as client,
        AsyncClient(server.target, api_key=f"{CANARY}-key") as stranger,
    ):
        task = await client.run(f"burst {CANARY}-prompt", labels={"label": f"{CANARY}-label"})
        assert task.state == TASK_STATE_COMPLETED
        task = await client.run(f"{CANARY}-prompt", agent="broken")
        assert task.state == TASK_STATE_FAILED
        seen.append(task.failure.message)
        response = await client.invoke_tool("burst", {"secret": f"{CANARY}-argument"})
        seen.append(response.error.message)
        for call in (
            stranger.run(f"{CANARY}-prompt"),
            client.invoke_tool("burst", {"secret": {f"{CANARY}-key": f"{CANARY}-value"}}),
            client.invoke_tool("burst", f'{{"secret": "{CANARY}-broken-json'),
            client.run("x", labels={"k": f"{CANARY}-label" * 100}),
        ):
            with pytest.raises(CallError) as refused:
                await call
            seen.append(f"{refused.value} {refused.value.violations} {refused.value.metadata}")
        seen.append(await server.metrics())
    assert [text for text in seen if CANARY in text] == []
    log = [
        line for line in server.stderr if line.startswith("{")
    ]  # development shows authors of tools their exceptions
    assert [line for line in log if CANARY in line] == []
    assert [line for line in server.stderr if KEY in line or f"{CANARY}-prompt" in line] == []
    assert any("tool_raised" in line for line in server.stderr)
