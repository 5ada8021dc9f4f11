"""Whose turn it is, against a naive model that walks over everything."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_service.engine.dispatch.fair_queue import FairQueue, Priority, QueueFullError, Runnable


@dataclass
class Naive:
    """Lists, in the order of arrival; and whose turn it is between the tenants of each priority."""

    waiting: list[Runnable] = field(default_factory=list)
    busy: set[tuple[str, str]] = field(default_factory=set)
    # How often each other tenant was served since a tenant began to wait, of what is as urgent.
    served: dict[tuple[Priority, str], Counter[str]] = field(default_factory=dict)

    def claimable(self) -> list[Runnable]:
        """Of each session the first alone, a resumed one before the others, and none of a busy one."""
        first: dict[tuple[str, str], Runnable] = {}
        for one in sorted(self.waiting, key=lambda one: one.priority is not Priority.RESUMED):
            if one.session_id:
                first.setdefault((one.tenant, one.session_id), one)
        return [
            one
            for one in self.waiting
            if not one.session_id
            or ((one.tenant, one.session_id) not in self.busy and first[one.tenant, one.session_id] is one)
        ]

    def admissible(self) -> dict[str, list[Runnable]]:
        """By tenant, what of the most urgent priority could be begun."""
        ready = self.claimable()
        if not ready:
            return {}
        most_urgent = min(one.priority for one in ready)
        by_tenant: dict[str, list[Runnable]] = defaultdict(list)
        for one in ready:
            if one.priority is most_urgent:
                by_tenant[one.tenant].append(one)
        return by_tenant

    def serve(self, claimed: Runnable) -> None:
        """Nobody is served twice while another has something as urgent that could be begun."""
        wait = {(one.priority, one.tenant) for one in self.claimable()} - {(claimed.priority, claimed.tenant)}
        self.served = {who: self.served.get(who, Counter()) for who in wait}
        for (priority, _), others in self.served.items():
            if priority is claimed.priority:
                others[claimed.tenant] += 1
                assert others[claimed.tenant] == 1

    def settle(self) -> None:
        """Whoever has nothing to be begun does not wait."""
        could = {(one.priority, one.tenant) for one in self.claimable()}
        self.served = {who: others for who, others in self.served.items() if who in could}


@dataclass(frozen=True)
class Push:
    tenant: str
    session: str
    priority: Priority


@dataclass(frozen=True)
class Pop:
    """Claim, and let the claimed one's session stay busy for a while or not."""

    releases: bool


@dataclass(frozen=True)
class Remove:
    which: int


@dataclass(frozen=True)
class PutBack:
    """A claim that came to nothing: its session is busy elsewhere."""


steps = st.lists(
    st.one_of(
        st.builds(Push, st.sampled_from("abc"), st.sampled_from(["", "", "s", "t"]), st.sampled_from(list(Priority))),
        st.builds(Pop, st.booleans()),
        st.just(Pop(releases=True)),
        st.builds(Remove, st.integers(0, 5)),
        st.just(PutBack()),
    ),
    min_size=8,
    max_size=60,
)


@settings(max_examples=500)
@given(steps)
def test_every_claim_is_one_that_the_rules_allow_and_nothing_is_lost(script: list[object]) -> None:
    queue, naive = FairQueue(queued_max=1000), Naive()
    last: Runnable | None = None
    for number, step in enumerate(script):
        match step:
            case Push(tenant, session, priority):
                one = Runnable(f"t{number}", tenant, session, priority)
                assert queue.push(one)
                naive.waiting.append(one)
            case Remove(which) if naive.waiting:
                one = naive.waiting.pop(which % len(naive.waiting))
                assert queue.remove(one.task_id)
            case Pop(releases):
                allowed = naive.admissible()
                last = queue.pop()
                assert (last is None) == (not allowed)
                if last is None:
                    continue
                assert last in allowed[last.tenant]
                naive.serve(last)
                naive.waiting.remove(last)
                if last.session_id:
                    naive.busy.add((last.tenant, last.session_id))
                    if releases:
                        queue.release(last.tenant, last.session_id)
                        naive.busy.discard((last.tenant, last.session_id))
            case PutBack() if last is not None:
                queue.put_back(last)
                naive.waiting.insert(0, last)
                if last.session_id:
                    queue.release(last.tenant, last.session_id)
                    naive.busy.discard((last.tenant, last.session_id))
                last = None
        naive.settle()
        assert len(queue) == len(naive.waiting)
        behind = {one.task_id for one in naive.waiting} - {one.task_id for one in naive.claimable()}
        assert {one.task_id for one in naive.waiting if queue.is_behind_session(one.task_id)} == behind
        assert queue.behind_session == len(behind)
    for tenant, session in list(naive.busy):
        queue.release(tenant, session)
    left = set()
    while (rest := queue.pop()) is not None:
        left.add(rest.task_id)
        if rest.session_id:
            queue.release(rest.tenant, rest.session_id)
    assert left == {one.task_id for one in naive.waiting}


@given(st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 8), min_size=1), st.randoms())
def test_with_k_tenants_each_gets_one_of_any_k_consecutive_claims(counts: dict[str, int], random: Random) -> None:
    queue = FairQueue(queued_max=1000)
    line = [tenant for tenant, count in counts.items() for _ in range(count)]
    random.shuffle(line)
    for number, tenant in enumerate(line):
        queue.push(Runnable(f"{tenant}{number:03}", tenant))
    left, claimed = dict(counts), list[str]()
    while (one := queue.pop()) is not None:
        runnable = {tenant for tenant, count in left.items() if count}
        window = claimed[-(len(runnable) - 1) :] if len(runnable) > 1 else []
        # Since everybody's tasks were there from the start, no tenant comes twice before each other has come once.
        assert one.tenant not in window
        claimed.append(one.tenant)
        left[one.tenant] -= 1
    assert sorted(claimed) == sorted(line)


def claimed(queue: FairQueue) -> list[str]:
    found = []
    while (one := queue.pop()) is not None:
        found.append(one.task_id)
    return found


def test_within_a_tenant_it_is_first_in_first_out() -> None:
    queue = FairQueue(queued_max=10)
    for name in ("t1", "t2", "t3"):
        queue.push(Runnable(name, "a"))
    assert claimed(queue) == ["t1", "t2", "t3"]


def test_resumed_come_before_interactive_and_those_before_queued_whoever_they_are_of() -> None:
    queue = FairQueue(queued_max=10)
    queue.push(Runnable("queued", "a", priority=Priority.QUEUED))
    queue.push(Runnable("interactive", "b", priority=Priority.INTERACTIVE))
    queue.push(Runnable("resumed", "c", priority=Priority.RESUMED))
    assert claimed(queue) == ["resumed", "interactive", "queued"]


def test_tasks_of_a_busy_session_are_skipped_until_it_is_released() -> None:
    queue = FairQueue(queued_max=10)
    queue.push(Runnable("s1", "a", "s"))
    queue.push(Runnable("s2", "a", "s"))
    queue.push(Runnable("free", "a"))
    assert claimed(queue) == ["s1", "free"]
    queue.release("a", "s")
    assert claimed(queue) == ["s2"]


def test_of_two_tenants_a_session_of_one_name_is_two_sessions() -> None:
    queue = FairQueue(queued_max=10)
    queue.push(Runnable("a1", "a", "s"))
    queue.push(Runnable("b1", "b", "s"))
    assert claimed(queue) == ["a1", "b1"]


def test_the_bound_counts_queued_tasks_of_a_tenant_alone() -> None:
    queue = FairQueue(queued_max=2)
    for name in ("t1", "t2"):
        queue.push(Runnable(name, "a"))
    with pytest.raises(QueueFullError):
        queue.push(Runnable("t3", "a"))
    queue.push(Runnable("other", "b"))
    queue.push(Runnable("begun before", "a", priority=Priority.RESUMED))
    queue.remove("t1")
    queue.push(Runnable("t3", "a"))
    assert (queue.waiting("a"), queue.waiting("b")) == (2, 1)


def test_a_task_that_was_begun_elsewhere_meanwhile_stands_where_such_tasks_do() -> None:
    queue = FairQueue(queued_max=2)
    queue.push(Runnable("first", "a"))
    queue.push(Runnable("begun", "a", "s"))
    queue.push(Runnable("behind", "a", "s", Priority.INTERACTIVE))
    assert queue.push(Runnable("begun", "a", "s", Priority.RESUMED, attempt=1))
    assert not queue.push(Runnable("begun", "a", "s"))
    assert queue.waiting("a") == 1
    assert claimed(queue) == ["begun", "first"]


def test_a_task_is_in_line_once() -> None:
    queue = FairQueue(queued_max=2)
    assert queue.push(Runnable("t1", "a"))
    assert not queue.push(Runnable("t1", "a"))
    assert "t1" in queue
    assert claimed(queue) == ["t1"]
    assert not queue.remove("t1")


@pytest.mark.parametrize("session_id", ["", "s"])
def test_what_leaves_a_line_that_nobody_serves_leaves_nothing_behind(session_id: str) -> None:
    queue = FairQueue(queued_max=10)
    queue.push(Runnable("first", "acme", session_id))
    for number in range(2000):
        queue.push(Runnable(f"t{number}", "acme", session_id))
        assert queue.remove(f"t{number}")
        queue.release("acme", session_id)
    assert queue.kept <= 100
    assert claimed(queue) == ["first"]


def test_hints_are_dropped_without_changing_whose_turn_it_is() -> None:
    queue = FairQueue(queued_max=1000)
    for number in range(300):
        for tenant in ("acme", "globex"):
            queue.push(Runnable(f"{tenant}{number}", tenant, session_id=f"s{number % 7}"))
    for number in range(2, 300):
        queue.remove(f"acme{number}")
        queue.remove(f"globex{number}")
    assert queue.kept < 100
    assert claimed(queue) == ["acme0", "globex0", "acme1", "globex1"]
