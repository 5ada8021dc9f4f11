"""A sliding window: what was charged against one maximum in the last `span_s` seconds, exactly.

Knows neither rules nor locks: whoever holds a window guards it, and tells it the time, which never goes back.

A charge made at `t` counts in every window that covers `t` and leaves at `t + span_s`: at that instant it no longer
counts. Every place that asks computes that same sum, so that rounding cannot make two of them disagree.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """An amount charged at a time. The windows of several rules may share one; 0 is one that was freed altogether."""

    at: float
    amount: int


class Window:
    """The entries of one counter, oldest first, and their running sum `used`, in calls or tokens.

    Entries have an amount of 1 or more, save for freed ones, which are dropped before they outnumber the others: at
    most about `2 * limit` entries are kept, and no more than were charged in the last `span_s` seconds.
    """

    __slots__ = ("__weakref__", "_entries", "_freed", "limit", "rule", "span_s", "subject", "unit", "used")

    def __init__(self, *, rule: str, subject: str, unit: str, limit: int, span_s: float) -> None:
        self.rule = rule
        self.subject = subject
        self.unit = unit
        self.limit = limit
        self.span_s = span_s
        self.used = 0
        self._entries: deque[Entry] = deque()
        self._freed = 0

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._entries)

    def fits(self, amount: int, now: float) -> bool:
        """Whether `amount` more is within the limit; forgets what has left the window."""
        entries = self._entries
        if entries and entries[0].at + self.span_s <= now:
            self.forget(now)
        return self.used + amount <= self.limit

    def add(self, entry: Entry) -> int:
        """Charge, without asking whether it fits, and tell what remains. No other entry's `at` is later."""
        self._entries.append(entry)
        self.used = used = self.used + entry.amount
        return self.limit - used

    def insert(self, entry: Entry) -> None:
        """Charge at a time in the past; takes as long as there are later entries."""
        index = len(self._entries)
        while index and self._entries[index - 1].at > entry.at:
            index -= 1
        self._entries.insert(index, entry)
        self.used += entry.amount

    def covers(self, at: float, now: float) -> bool:
        """Whether what was charged at `at` still counts; forgets what does not."""
        entries = self._entries
        if entries and entries[0].at + self.span_s <= now:
            self.forget(now)
        return at + self.span_s > now

    def changed(self, entry: Entry, by: int) -> None:
        """An entry that still counts has become this much larger (or smaller, below 0)."""
        self.used += by
        if entry.amount:
            return
        self._freed += 1
        self._drop_oldest_freed()
        if self._freed * 2 > len(self._entries):
            self._entries = deque(kept for kept in self._entries if kept.amount)
            self._freed = 0

    def forget(self, now: float) -> None:
        """Drop what has left the window."""
        entries = self._entries
        while entries and entries[0].at + self.span_s <= now:
            self.used -= entries.popleft().amount
            self._drop_oldest_freed()

    def fits_at(self, amount: int, now: float) -> float:
        """The first instant from `now` on at which `amount` (at most the limit) fits, if nothing else is charged."""
        surplus = self.used + amount - self.limit
        if surplus <= 0:
            return now
        for entry in self._entries:
            surplus -= entry.amount
            if surplus <= 0:
                return entry.at + self.span_s
        raise AssertionError("the sum is that of the entries, and the amount is within the limit")

    @property
    def oldest(self) -> Entry:
        """The entry that leaves next.

        Raises:
            IndexError: there is none.
        """
        return self._entries[0]

    def _drop_oldest_freed(self) -> None:
        # The oldest entry is never a freed one: `oldest` and the short cut of `fits` rely on it.
        while self._entries and not self._entries[0].amount:
            self._entries.popleft()
            self._freed -= 1
