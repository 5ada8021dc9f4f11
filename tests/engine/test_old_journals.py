"""Journals that earlier versions wrote: they fold to the tasks that those versions showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from agent_service.agents.tool_agent import ToolAgent
from agent_service.engine.task.state import FoldedTask
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Task

JOURNALS = {
    f"{path.stem}: {name}": journal
    for path in sorted((Path(__file__).parent / "journals").glob("*.json"))
    for name, journal in orjson.loads(path.read_bytes()).items()
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_of_an_earlier_version_folds_to_its_task(name: str) -> None:
    journal: dict[str, Any] = JOURNALS[name]
    events = [ParseDict(event, TaskEvent()) for event in journal["events"]]

    folded = FoldedTask()
    for event in events:
        folded.apply(event)
        if folded.task.attempt and not folded.is_terminal:
            ToolAgent().step(folded.agent_state)  # what a process that takes the task over would ask first

    assert folded.task == ParseDict(journal["task"], Task())
