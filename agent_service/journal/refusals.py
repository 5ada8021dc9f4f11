"""The reasons for refused appends."""

from __future__ import annotations


class AppendRefusedError(Exception):
    """The append is refused: another attempt owns the task, or it has ended, is unknown, or exists already."""


class StaleAppendError(AppendRefusedError):
    """The journal has grown since the caller read it. Read the rest and decide again."""


class RequestIdTakenError(AppendRefusedError):
    """The tenant's `request_id` names another task, which is younger than `append_rule.REQUEST_ID_S`."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the request_id names task {task_id}")
        self.task_id = task_id


class SessionBusyError(AppendRefusedError):
    """More unfinished tasks of the session precede this one than it may wait for, or start beside."""

    def __init__(self, unfinished: int) -> None:
        super().__init__(f"{unfinished} unfinished tasks of the session stand before it")
        self.unfinished = unfinished


class SessionOfOtherAgentError(AppendRefusedError):
    """The session was begun with another agent."""

    def __init__(self, agent: str) -> None:
        super().__init__(f"the session belongs to agent {agent}")
        self.agent = agent
