"""What the limiter in memory does beyond the contract: it forgets, and takes new rules while it works."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from agent_service.errors import AgentServiceError, RateLimitError, StateError
from agent_service.limits.base import Charge, Rule, Stage, Subject
from agent_service.limits.memory import Held, MemoryLimiter

ACME = Subject("acme", "assistant", "smart")
CALL = Charge(ACME, Stage.ALL, calls=1)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tokens(amount: int, subject: Subject = ACME) -> Charge:
    return Charge(subject, Stage.ALL, tokens=amount)


def admitted(limiter: MemoryLimiter, charge: Charge, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            limiter.reserve_now(charge)
        except AgentServiceError:
            continue
        count += 1
    return count


# ---- memory


def test_entries_that_left_the_window_are_dropped(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10**6, window_s=10)], clock)
    most = 0
    for _ in range(5000):
        limiter.reserve_now(CALL)
        clock.now += 0.125
        most = max(most, limiter.held().entries)
    assert most == 80


def test_a_refused_charge_leaves_nothing(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10)], clock)
    assert admitted(limiter, CALL, 1000) == 10
    assert limiter.held() == Held(windows=1, entries=10)


@pytest.mark.parametrize("live", [0, 1, 10])
def test_what_was_refunded_or_settled_to_nothing_is_not_kept(clock: Clock, live: int) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=100), Rule("hour", tokens_max=100, window_s=3600)], clock)
    for _ in range(live):
        limiter.reserve_now(tokens(1))
    for turn in range(1000):
        reservation = limiter.reserve_now(tokens(5))
        if turn % 2:
            limiter.refund_now(reservation)
        else:
            limiter.settle_now(reservation, tokens=0)
        assert limiter.held().entries <= 2 * (2 * live + 1)
    assert admitted(limiter, tokens(1), 1000) == 100 - live


def test_a_freed_charge_does_not_hold_up_the_reset(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=100)], clock)
    first = limiter.reserve_now(tokens(10))
    clock.now = 30
    status = limiter.reserve_now(tokens(10)).status
    assert status is not None
    assert status.reset_s == 30
    limiter.refund_now(first)
    status = limiter.reserve_now(tokens(10)).status
    assert status is not None
    assert status.reset_s == 60


def test_a_freed_charge_does_not_become_the_oldest(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=100)], clock)
    reservations = []
    for _ in range(4):
        reservations.append(limiter.reserve_now(tokens(10)))
        clock.now += 10
    limiter.refund_now(reservations[1])
    clock.now = 60  # the first leaves, the second was taken back, the third was charged at 20
    status = limiter.reserve_now(tokens(10)).status
    assert status is not None
    assert status.reset_s == 20


def test_nothing_is_kept_for_what_no_rule_bounds(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10)], clock)
    for _ in range(100):
        limiter.reserve_now(Charge(ACME, Stage.ALL, model_calls=1, tokens=1000))
    assert limiter.held().entries == 0


def test_idle_counters_go_as_others_are_served(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10, tokens_max=10)], clock)
    for number in range(1000):
        limiter.reserve_now(Charge(Subject(f"tenant-{number}"), Stage.ALL, calls=1))
    assert limiter.held().entries == 1000
    clock.now = 60
    for _ in range(1000 * 16):
        clock.now += 60
        limiter.reserve_now(CALL)
    assert limiter.held() == Held(windows=2, entries=1)


def test_a_flood_of_names_holds_no_more_than_a_window_of_them(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10, window_s=10)], clock)
    most = 0
    for number in range(20_000):
        limiter.reserve_now(Charge(Subject(f"peer-{number}"), Stage.REQUEST, calls=1))
        clock.now += 0.1
        most = max(most, limiter.held().windows) if number % 100 == 0 else most
    assert most <= 2 * 100 + 2


def test_a_shared_counter_outlives_the_subjects_that_filled_it(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("all", per=frozenset(), calls_max=2000)], clock)
    for number in range(2000):
        limiter.reserve_now(Charge(Subject(f"tenant-{number}"), Stage.ALL, calls=1))
    assert admitted(limiter, CALL, 1) == 0


def test_a_reservation_can_be_settled_after_its_counter_was_forgotten(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=10)], clock)
    old = limiter.reserve_now(tokens(10))
    for number in range(10):
        clock.now += 60
        limiter.reserve_now(tokens(1, Subject(f"tenant-{number}")))
    limiter.settle_now(old, tokens=10)
    assert admitted(limiter, tokens(1), 20) == 10


def test_a_charge_takes_about_a_hundred_bytes_whatever_its_weight(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10**9, tokens_max=10**12)], clock)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(10_000):
            clock.now += 0.001
            limiter.settle_now(limiter.reserve_now(tokens(50_000)), tokens=40_000)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / 10_000 < 150


# ---- new rules


def test_reconfigure_keeps_what_was_charged_under_the_same_name_and_window(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=5), Rule("gone", calls_max=5)], clock)
    assert admitted(limiter, CALL, 3) == 3
    limiter.reconfigure([Rule("default", calls_max=7), Rule("new", calls_max=6)])
    assert admitted(limiter, CALL, 10) == 4


def test_reconfigure_to_less_than_is_used_waits_until_enough_has_left(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=5)], clock)
    for _ in range(5):
        limiter.reserve_now(CALL)
        clock.now += 1
    limiter.reconfigure([Rule("default", calls_max=2)])
    with pytest.raises(RateLimitError) as caught:
        limiter.reserve_now(CALL)
    assert caught.value.retry_after_s == 58  # when the fourth of five leaves
    clock.now += 58
    assert admitted(limiter, CALL, 5) == 1


@pytest.mark.parametrize(
    "changed",
    [
        Rule("other", calls_max=5),
        Rule("default", calls_max=5, window_s=61),
        Rule("default", calls_max=5, per=frozenset({"agent"})),
    ],
    ids=["name", "window", "per"],
)
def test_another_name_window_or_per_starts_anew(clock: Clock, changed: Rule) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=5)], clock)
    same = Charge(Subject("same", "same"), Stage.ALL, calls=1)
    assert admitted(limiter, same, 5) == 5
    limiter.reconfigure([changed])
    assert admitted(limiter, same, 9) == 5


def test_a_counter_is_kept_until_its_subject_comes_again_even_at_another_stage(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=5)], clock)
    assert admitted(limiter, Charge(Subject("acme"), Stage.REQUEST, calls=1), 5) == 5
    limiter.reconfigure([Rule("default", agent="assistant", calls_max=5)])
    clock.now = 59
    limiter.reconfigure([Rule("default", agent="assistant", calls_max=6)])
    assert admitted(limiter, Charge(ACME, Stage.TASK, calls=1), 9) == 1


def test_what_was_kept_for_reconfigure_goes_after_the_window(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=5)], clock)
    for number in range(100):
        limiter.reserve_now(Charge(Subject(f"tenant-{number}"), Stage.ALL, calls=1))
    limiter.reconfigure([Rule("default", calls_max=5)])
    clock.now = 60
    limiter.reserve_now(CALL)
    assert limiter.held() == Held(windows=1, entries=1)


def test_a_reservation_from_before_reconfigure_is_settled_where_it_was_charged(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=100), Rule("gone", tokens_max=100)], clock)
    reservation = limiter.reserve_now(tokens(100))
    limiter.reconfigure([Rule("default", tokens_max=100), Rule("new", tokens_max=200)])
    limiter.settle_now(reservation, tokens=20)
    assert admitted(limiter, tokens(1), 200) == 80


@pytest.mark.parametrize(
    "wrong",
    [
        [Rule("a"), Rule("a")],
        [Rule("a", window_s=0)],
        [Rule("a", window_s=float("inf"))],
        [Rule("a", window_s=float("nan"))],
        [Rule("a", per=frozenset({"peer"}))],
    ],
    ids=["same name", "no window", "endless window", "not a number", "unknown per"],
)
def test_wrong_rules_are_refused_and_the_old_ones_stay(clock: Clock, wrong: list[Rule]) -> None:
    with pytest.raises(ValueError, match="rule"):
        MemoryLimiter(wrong)
    limiter = MemoryLimiter([Rule("default", calls_max=1)], clock)
    with pytest.raises(ValueError, match="rule"):
        limiter.reconfigure(wrong)
    assert admitted(limiter, CALL, 2) == 1


# ---- many


def test_a_window_keeps_a_bounded_number_of_entries_whatever_its_maximum(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=10**12, window_s=60)], clock)
    most = 0
    for _ in range(20_000):
        clock.now += 0.004
        limiter.settle_now(limiter.reserve_now(tokens(5)), tokens=4)
        most = max(most, limiter.held().entries)
    assert most <= 384


def test_the_wall_clock_may_be_set_without_anybody_noticing(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=2, window_s=3600)])
    assert admitted(limiter, CALL, 1) == 1
    for step_s in (-86_400.0, 86_400.0):
        real = time.time
        monkeypatch.setattr(time, "time", lambda real=real, step_s=step_s: real() + step_s)
        assert admitted(limiter, CALL, 5) == (1 if step_s < 0 else 0)
        with pytest.raises(RateLimitError) as caught:
            limiter.reserve_now(CALL)
        assert 3500 < (caught.value.retry_after_s or 0) <= 3600


def test_idle_tenants_are_gone_after_a_fraction_of_their_number_of_reservations(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10), Rule("hour", tokens_max=100, window_s=3600)], clock)
    for number in range(20_000):
        limiter.reserve_now(Charge(Subject(f"tenant-{number}"), Stage.ALL, calls=1, tokens=1))
    assert limiter.held().windows == 40_000
    clock.now += 3600
    for _ in range(10_000):
        clock.now += 60
        limiter.reserve_now(CALL)
    assert limiter.held().windows == 2


# ---- several processes, and what was before this one


def test_each_of_several_processes_admits_its_part_and_at_least_one(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10), Rule("closed", tenant="none", calls_max=0)], clock)
    assert admitted(limiter, CALL, 2) == 2
    limiter.share(3)
    assert admitted(limiter, CALL, 10) == 1  # 3 in all: what was charged stays charged
    limiter.share(100)
    assert admitted(limiter, CALL, 10) == 0
    assert admitted(limiter, Charge(Subject("acme2"), Stage.ALL, calls=1), 10) == 1
    assert admitted(limiter, Charge(Subject("none"), Stage.ALL, calls=1), 10) == 0
    limiter.share(1)
    assert admitted(limiter, CALL, 10) == 7


def test_what_fits_the_rule_and_not_this_process_part_of_it_is_lent_and_paid_back(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=100, tokens_max=10_000)], clock)
    limiter.share(4)
    lent = limiter.reserve_now(tokens(6000))
    assert lent.status is not None
    assert (lent.status.limit, lent.status.remaining) == (2500, 0)
    for amount in (1, 2500, 6000):
        with pytest.raises(RateLimitError) as caught:
            limiter.reserve_now(tokens(amount))
        assert caught.value.retry_after_s == 60 * 6000 / 2500
    with pytest.raises(StateError) as never:
        limiter.reserve_now(tokens(10_001))
    assert never.value.metadata["limit"] == "10000"
    clock.now += 60 * 6000 / 2500 - 1
    assert admitted(limiter, tokens(1), 1) == 0
    clock.now += 1
    assert admitted(limiter, tokens(2500), 2) == 1


def test_what_was_lent_and_not_used_need_not_be_paid_back(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=10_000)], clock)
    limiter.share(4)
    limiter.settle_now(limiter.reserve_now(tokens(6000)), tokens=400)
    assert admitted(limiter, tokens(2100), 2) == 1
    clock.now += 60
    limiter.refund_now(limiter.reserve_now(tokens(6000)))
    assert admitted(limiter, tokens(2500), 2) == 1


def test_nothing_is_lent_beside_what_is_charged_already(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=10_000)], clock)
    limiter.share(2)
    limiter.reserve_now(tokens(1))
    with pytest.raises(RateLimitError) as caught:
        limiter.reserve_now(tokens(6000))
    assert caught.value.retry_after_s == 60
    clock.now += 60
    assert admitted(limiter, tokens(6000), 1) == 1


@pytest.mark.parametrize("every_s", [1, 90])
def test_over_time_a_process_that_borrows_keeps_to_its_part(clock: Clock, every_s: int) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=10_000)], clock)
    limiter.share(10)
    used = 0
    for second in range(3600):
        clock.now = float(second)
        if second % every_s == 0:
            used += 5000 * admitted(limiter, tokens(5000), 1)
        for number in range(3):  # others, for whom idle counters are looked through
            limiter.reserve_now(tokens(1, Subject(f"tenant-{number}-{second}")))
        if second % 700 == 0:
            limiter.reconfigure([Rule("default", calls_max=second, tokens_max=10_000)])
    assert 50_000 <= used <= 3600 / 60 * 1000 + 5000


def test_new_rules_are_shared_as_the_old_ones_were(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", calls_max=10)], clock)
    limiter.share(2)
    limiter.reconfigure([Rule("default", calls_max=20)])
    assert admitted(limiter, CALL, 30) == 10


def test_what_is_recalled_counts_for_the_rest_of_its_window_whether_it_fits_or_not(clock: Clock) -> None:
    limiter = MemoryLimiter([Rule("default", tokens_max=10), Rule("hour", tokens_max=1000, window_s=3600)], clock)
    for age_s, amount in ((50.0, 30), (70.0, 900), (20.0, 5)):
        limiter.replay(tokens(amount), age_s)
    with pytest.raises(RateLimitError) as caught:
        limiter.reserve_now(tokens(6))
    assert (caught.value.rule, caught.value.retry_after_s) == ("default", 40)
    clock.now += 40
    assert admitted(limiter, tokens(5), 5) == 2
    assert admitted(limiter, tokens(1), 60) == 0
    clock.now += 60
    assert admitted(limiter, tokens(1), 60) == 10
