"""Why an append is refused."""

from __future__ import annotations


class AppendRefusedError(Exception):
    """The journal moved on without us: another attempt owns the task, it is terminal, unknown, or exists already."""


class StaleAppendError(AppendRefusedError):
    """The journal has grown since the caller read it: read the rest and judge again."""


class RequestIdTakenError(AppendRefusedError):
    """The tenant's `request_id` names another task, and has for less than `admission.REQUEST_ID_S`."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the request_id names task {task_id}")
        self.task_id = task_id


class SessionBusyError(AppendRefusedError):
    """So many unfinished tasks of the session stand before this one: more than it may wait for, or begin beside."""

    def __init__(self, unfinished: int) -> None:
        super().__init__(f"{unfinished} unfinished tasks of the session stand before it")
        self.unfinished = unfinished


class SessionOfOtherAgentError(AppendRefusedError):
    """The session was begun with another agent."""

    def __init__(self, agent: str) -> None:
        super().__init__(f"the session belongs to agent {agent}")
        self.agent = agent
