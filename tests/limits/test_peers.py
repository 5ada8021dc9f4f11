"""Failures per peer: counted in a window, for a bounded number of peers."""

from __future__ import annotations

import tracemalloc

import pytest

from agent_service.limits import peers
from agent_service.limits.peers import PeerFailures


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_too_many_waits_until_the_oldest_leaves_the_window() -> None:
    clock = Clock()
    failures = PeerFailures("auth_failures", "failed authentications", 2, 60.0, clock)
    assert failures.count("a") is None
    clock.now = 10
    assert failures.count("a") is None
    clock.now = 20
    error = failures.count("a")
    assert error is not None
    assert (error.rule, error.limit, error.subject, error.retry_after_s) == ("auth_failures", 2, "peer:a", 40)
    assert failures.count("b") is None
    clock.now = 60
    assert failures.count("a") is None
    assert failures.count("a") is not None


def test_of_too_many_peers_those_are_forgotten_that_failed_least_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS_MAX", 3)
    failures = PeerFailures("r", "failures", 1, 60.0, Clock())
    for peer in ("a", "b", "c", "a", "d"):
        failures.count(peer)
    assert len(failures) == 3
    assert failures.count("a") is not None
    assert failures.count("b") is None


def test_a_flood_of_addresses_takes_a_bounded_amount_of_memory() -> None:
    failures = PeerFailures("r", "failures", 60, 60.0, Clock())
    tracemalloc.start()
    try:
        for number in range(30_000):
            failures.count(f"192.0.{number >> 8}.{number & 255}")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(failures) == peers.PEERS_MAX
    assert used < 10 * 2**20
