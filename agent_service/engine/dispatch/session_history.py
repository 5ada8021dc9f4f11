"""The earlier messages of a session, as many as fit the model."""

from __future__ import annotations

from dataclasses import replace

from agent_service.engine.journal_reading import read_folded
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.context_window import Window
from agent_service.engine.task.state import FoldedTask
from agent_service.llm.base import Message, Role
from agent_service.store.base import Journal, TaskIndex, TaskQuery
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED

PAGE = 20


async def history_of(index: TaskIndex, journal: Journal, folded: FoldedTask, runtime: AgentRuntime) -> list[Message]:
    """Return the messages of the session's newest completed tasks that fit, oldest first.

    Each task is included whole or not at all, because providers refuse a tool call without its result. Room for the
    next reply, the tools and the task itself is subtracted first.
    """
    if runtime.model is None:
        return []
    window, submitted = Window(runtime.model), folded.submitted
    room = window.room(runtime.tools_tokens, submitted.output_schema_json) - window.tokens(folded.agent_state.messages)
    query = TaskQuery(
        tenant=submitted.tenant,
        session_id=submitted.session_id,
        states=frozenset({TASK_STATE_COMPLETED}),
        limit=PAGE,
    )
    turns: list[list[Message]] = []
    while True:
        page = await index.list_tasks(query)
        for row in page.rows:
            turn = _messages_of(await read_folded(journal, row.task_id))
            room -= window.tokens(turn)
            if room < 0:
                return _in_order(turns)
            turns.append(turn)
        if page.rest is None:
            return _in_order(turns)
        query = replace(query, before=page.rest)


def _messages_of(earlier: FoldedTask) -> list[Message]:
    """Return the messages that a task adds to its session: without instructions, and without answers that broke its
    schema.
    """
    said = [
        message._replace(pinned=False) if message.pinned else message
        for message in earlier.agent_state.messages
        if message.role is not Role.SYSTEM
    ]
    if not earlier.submitted.output_schema_json:
        return said
    answers = [index for index, message in enumerate(said) if message.role is Role.ASSISTANT and not message.tool_calls]
    sent_back = {index for index in answers[:-1] if said[index + 1].role is not Role.USER}
    return [message for index, message in enumerate(said) if index not in sent_back]


def _in_order(turns: list[list[Message]]) -> list[Message]:
    return [message for turn in reversed(turns) for message in turn]
