"""A server process before the strict provider, and a tool whose runs stand in a file that no store knows of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_service.client import AsyncClient
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.fakes.strict.model import RESPONSES
from tests.fakes.strict.server import MODELS, StrictProvider

TOOL = '''
"""A tool whose runs can be counted."""

import os

from agent_service.tools.decorator import tool


@tool(side_effect="side_effecting")
async def note(number: int) -> str:
    """Writes a number down."""
    handle = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, f"{number}\\n".encode())
    os.close(handle)
    return f"noted {number}"
'''
# What a file says beside its models. Each model has an agent of its name.
REST = """
tools:
  modules: [notes_tool]
"""
AGENT = "  {name}: {{model: {name}, tools: [note], timeout_s: 60, limits: {{turns: 12}}}}\n"
MODEL = "  {name}: {{provider: openai, model_id: {model_id}, api: {api}, base_url: BASE_URL{more}}}\n"
AMPLE = {"RATE_LIMIT_CALLS": "1000000", "RATE_LIMIT_TOKENS": "1000000000", "METRICS_ENABLED": "false"}


@dataclass
class Asked:
    """The provider, the server that asks it, and its client."""

    provider: StrictProvider
    server: ServerProcess
    client: AsyncClient
    directory: Path

    def take_notes(self) -> list[int]:
        """What the tool has written since the last time, run after run."""
        path = self.directory / "notes"
        if not path.exists():
            return []
        notes = [int(line) for line in path.read_text().split()]
        path.unlink()
        return notes

    async def run(self, agent: str, text: str, **options: Any) -> str:
        """The answer to a task; what went wrong, if something did."""
        self.provider.refusals.clear()
        task = await self.client.run(text, agent=agent, **options)
        refused = [f"{one.param}: {one}" for one in self.provider.refusals]
        return "; ".join(refused) or (task.output if task.state == TASK_STATE_COMPLETED else str(task.failure))


def the_environments(provider: StrictProvider, model: str, api: str) -> dict[str, str]:
    """The settings of somebody who has a key and no file."""
    return {
        "LLM_PROVIDER": "",
        "OPENAI_API_KEY": "sk-of-the-tests",
        "LLM_BASE_URL": provider.base_url,
        "LLM_MODEL": model,
        "LLM_API": api,
    }


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the file. One that has fallbacks is asked once before them."""

    name: str
    model_id: str
    api: str
    fallbacks: Sequence[str] = ()

    def __str__(self) -> str:
        more = f", fallbacks: [{', '.join(self.fallbacks)}], retry: {{attempts: 1}}" if self.fallbacks else ""
        return MODEL.format(name=self.name, model_id=self.model_id, api=self.api, more=more)


# Every model of the provider, over each API that it has.
ASKED = [
    Model(f"{name.replace('.', '-')}{api.replace('/', '-')}", name, "responses" if api == RESPONSES else "chat")
    for name, model in MODELS.items()
    for api in sorted(model.apis)
]


def carries(model: Model) -> bool:
    """Whether the model's server wants something back over this API."""
    known = MODELS[model.model_id]
    return known.reasons if model.api == "responses" else known.name in ("deepseek", "gemini", "openrouter")


@asynccontextmanager
async def asking(
    directory: Path, provider: StrictProvider, *models: Model, base_url: str = "", **settings: str
) -> AsyncIterator[Asked]:
    """A server with an agent for each of these models; without any, one agent for the environment's. `base_url` is that
    of a gateway before the provider.
    """
    file = directory / "config.yaml"
    if not file.exists():
        (directory / "notes_tool.py").write_text(TOOL)
        said = "".join(["models:\n", *map(str, models)]) if models else ""
        names = [model.name for model in models] or ["default"]
        agents = "".join(["agents:\n", *(AGENT.format(name=name) for name in names)])
        file.write_text(said.replace("BASE_URL", base_url or provider.base_url) + agents + REST)
    environment = {**AMPLE, "PYTHONPATH": str(directory), "LLM_PROVIDER": "", "OPENAI_API_KEY": "sk-of-the-tests"}
    async with (
        server_process(directory, **environment | settings) as server,
        AsyncClient(server.target, api_key=KEY, patience_s=60) as client,
    ):
        yield Asked(provider, server, client, directory)


def noted(turns: int, calls: int = 1) -> str:
    """The answer of a task that noted so many numbers."""
    return "fine: " + ", ".join(f"noted {number}" for number in range(1, turns * calls + 1))
