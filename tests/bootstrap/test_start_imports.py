"""What a start without a provider imports and builds: each of these is a part of the time until the first answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_process import server_environment

START = """
import asyncio, json, os, sys
from agent_service.bootstrap import process
from agent_service.config.loader import load
from agent_service.config.variables.field_types import Variables

async def start():
    async with process.running(load(os.environ), lambda: None):
        built = [each.__name__ for each in Variables.__subclasses__() if each.__pydantic_complete__]
        print(json.dumps({"modules": list(sys.modules), "built": built}))

asyncio.run(start())
"""
NOT_NEEDED = {
    "anyio",
    "cryptography",
    "grpc_channelz",
    "grpc_reflection.v1alpha",
    "httpx2",
    "jwt",
    "openai",
    "opentelemetry",
    "agent_service.client",
    "agent_service.keys.file",
    "agent_service.llm.openai",
    "agent_service.server.reflection_servicer",
    "agent_service.server.transport.grpc_aio",
    "agent_service.store.memory",
    "agent_service.tls.certificate_files",
}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("start")
    environ = server_environment(folder, API_TRANSPORT="loop")
    command = [sys.executable, "-c", START]
    run = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_a_start_imports_nothing_that_its_configuration_does_not_need(started: dict[str, Any]) -> None:
    assert NOT_NEEDED & set(started["modules"]) == set()


def test_a_start_builds_validators_of_all_settings_and_not_of_each_heading(started: dict[str, Any]) -> None:
    assert started["built"] == []
