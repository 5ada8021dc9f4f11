"""The rule of admission by itself: no store, no loop. What stores make of it is their contract suite's."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent_service.journal.append import append_of
from agent_service.journal.append_rule import Admitted, Head, RequestTask, Session, admit
from agent_service.journal.refusals import (
    AppendRefusedError,
    RequestIdTakenError,
    SessionBusyError,
    SessionOfOtherAgentError,
    StaleAppendError,
)
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_SUBMITTED, TASK_STATE_WORKING
from tests.store.events import beginning, ending, event, started, submitted


@dataclass
class FixedView:
    """What a store would look up."""

    heads: dict[str, Head] = field(default_factory=dict)
    names: dict[tuple[str, str], RequestTask] = field(default_factory=dict)
    sessions: dict[tuple[str, str], Session] = field(default_factory=dict)
    calls: set[tuple[str, str]] = field(default_factory=set)

    def head(self, task_id: str) -> Head | None:
        return self.heads.get(task_id)

    def task_of_request(self, tenant: str, request_id: str) -> RequestTask | None:
        return self.names.get((tenant, request_id))

    def session(self, tenant: str, session_id: str) -> Session | None:
        return self.sessions.get((tenant, session_id))

    def has_started(self, task_id: str, call_id: str) -> bool:
        return (task_id, call_id) in self.calls


def head(state: int, *, attempt: int = 1, session: str = "") -> Head:
    return Head("acme", "assistant", session, state, attempt, 2, "me", 7, "smart")


WORKING = FixedView(heads={"t": head(TASK_STATE_WORKING)})


def outcome(view: FixedView, events: list[TaskEvent], attempt: int | None = None, after: int | None = None) -> object:
    admitted = admit(view, append_of(events, attempt=attempt, after=after))
    return admitted if isinstance(admitted, Admitted) else type(admitted)


def test_an_admitted_append_says_how_the_task_stands_after_it() -> None:
    admitted = outcome(WORKING, ending(), attempt=1)
    assert admitted == Admitted(Head("acme", "assistant", "", TASK_STATE_COMPLETED, 1, 4, "", 0, "smart"), [])


def test_a_new_task_begins_where_its_first_event_says() -> None:
    admitted = admit(FixedView(), append_of([submitted(deadline_s=60), started(worker="me")], attempt=0))
    assert isinstance(admitted, Admitted)
    assert (admitted.head.state, admitted.head.owner, admitted.head.last_sequence) == (TASK_STATE_WORKING, "me", 2)
    assert [(key.tenant, amounts.tasks) for key, amounts in admitted.used] == [("acme", 1)]


def test_an_append_leaves_its_events_as_they_were() -> None:
    events = [event("completed", attempt=1)]
    events[0].sequence = 77
    append = append_of(events, attempt=1)
    assert events[0].sequence == 77
    assert TaskEvent.FromString(append.payloads[0]).sequence == 0


def test_what_the_journal_does_not_allow_is_refused() -> None:
    over = FixedView(heads={"t": head(TASK_STATE_COMPLETED)})
    assert outcome(FixedView(), ending()) is AppendRefusedError
    assert outcome(WORKING, beginning()) is AppendRefusedError
    assert outcome(over, ending()) is AppendRefusedError
    assert outcome(WORKING, ending(), attempt=2) is AppendRefusedError
    assert outcome(WORKING, ending(), after=1) is StaleAppendError


def test_a_name_and_a_session_are_looked_up_for_a_new_task() -> None:
    named = FixedView(names={("acme", "r"): RequestTask("old", submitted().create_time.ToMicroseconds())})
    assert outcome(named, [submitted(request="r")], attempt=0) is RequestIdTakenError
    busy = FixedView(sessions={("acme", "s"): Session("assistant", ["old"])})
    assert outcome(busy, [submitted(session="s")], attempt=0) is SessionBusyError
    assert isinstance(outcome(busy, [submitted(session="s", waiting_max=1)], attempt=0), Admitted)
    other = FixedView(sessions={("acme", "s"): Session("another", [])})
    assert outcome(other, [submitted(session="s")], attempt=0) is SessionOfOtherAgentError


def test_a_first_attempt_waits_for_the_tasks_before_it_in_its_session() -> None:
    view = FixedView(heads={"t": head(TASK_STATE_SUBMITTED, attempt=0, session="s")})
    view.sessions["acme", "s"] = Session("assistant", ["old", "t"])
    assert outcome(view, [started()], attempt=0) is SessionBusyError
    view.sessions["acme", "s"] = Session("assistant", ["t", "younger"])
    assert isinstance(outcome(view, [started()], attempt=0), Admitted)


def test_a_call_that_is_run_again_after_a_crash_is_counted_once() -> None:
    again = event("tool_started", attempt=2)
    again.tool_started.tool_call_id = "c"
    view = FixedView(heads={"t": head(TASK_STATE_WORKING, attempt=2)}, calls={("t", "c")})
    assert outcome(view, [again], attempt=2) == Admitted(view.heads["t"]._replace(last_sequence=3), [])
