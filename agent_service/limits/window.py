"""A sliding window: what was charged against one maximum in the last `span_s` seconds.

Knows neither rules nor locks: whoever holds a window guards it, and tells it the time, which never goes back. What is
done to several windows at once are functions here rather than methods: a call for each window would double their time.

A charge made at `t` counts in every window that covers `t` and leaves at `t + span_s`: at that instant it no longer
counts. Every place that asks computes that same sum, so that rounding cannot make two of them disagree.

Exact as long as a window holds at most ENTRIES_MAX charges. Above that all but the newest EXACT_MIN are merged by the
sixtieth of the window (a slot) in which they were made, and what is merged leaves as one, with the newest of it: up to
a sixtieth later than it would have, never earlier. So a window never admits more than it may, holds a bounded number of
entries whatever its maximum, and refuses for a sixtieth too long at most. Slots are those of the clock, so they hold
no more and no less however often there is something to merge.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

SLOTS = 60
ENTRIES_MAX = 384
EXACT_MIN = 128

_at = attrgetter("at")


@dataclass(slots=True)
class Entry:
    """An amount charged at a time. The windows of several rules may share one; 0 is one that was freed altogether."""

    at: float
    amount: int


class Window:
    """The entries of one counter, oldest first, and their running sum `used`, in calls or tokens.

    `entries` have an amount of 1 or more, save for freed ones, which are dropped before they outnumber the others.
    `leaves_at` is when the oldest leaves, never where there is none. What was charged until `merged_until`, that
    instant included, is in an entry of its slot, which no other window shares.

    `limit` is this process's share of `whole`, all of it where no other process has a share. An amount between the two
    is lent where nothing else is charged. Nothing more is admitted then for as long as the share takes to admit that
    amount, so that over time the share holds. `loan` is the entry of the last one.
    """

    __slots__ = (
        "__weakref__",
        "_freed",
        "entries",
        "leaves_at",
        "limit",
        "loan",
        "merged_until",
        "rule",
        "span_s",
        "subject",
        "unit",
        "used",
        "whole",
    )

    def __init__(self, *, rule: str, subject: str, unit: str, span_s: float) -> None:
        self.rule = rule
        self.subject = subject
        self.unit = unit
        self.limit = self.whole = 0
        self.loan: Entry | None = None
        self.span_s = span_s
        self.used = 0
        self.leaves_at = math.inf
        self.merged_until = -math.inf
        self.entries: list[Entry] = []
        self._freed = 0

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self.entries)

    def fits(self, amount: int, now: float) -> bool:
        """Whether `amount` more is within the limit; forgets what has left the window."""
        return fits((self,), amount, now)

    def forget(self, now: float) -> None:
        """Drop what has left the window."""
        entries, span_s, gone = self.entries, self.span_s, 0
        for entry in entries:
            if entry.amount:
                if entry.at + span_s > now:
                    break
                self.used -= entry.amount
            else:  # the oldest entry is never a freed one: `reset_s` and `leaves_at` rely on it
                self._freed -= 1
            gone += 1
        del entries[:gone]
        self._look_at_oldest()

    @property
    def paid_at(self) -> float:
        """When the last loan is paid back; what was lent and then not used need not be."""
        loan = self.loan
        if loan is None or loan.amount <= self.limit:
            return -math.inf
        return loan.at + self.span_s * loan.amount / self.limit

    def lends(self, amount: int, now: float) -> bool:
        """Whether `amount`, which is more than the limit, may be charged all the same."""
        return self.limit < amount <= self.whole and self.fits_at(amount, now) <= now

    def fits_at(self, amount: int, now: float) -> float:
        """The first instant from `now` on at which `amount` (at most the whole) fits, if nothing else is charged."""
        fits_at = max(now, self.paid_at)
        # What is lent takes an empty window.
        surplus = self.used if amount > self.limit else self.used + amount - self.limit
        if surplus <= 0:
            return fits_at
        for entry in self.entries:
            surplus -= entry.amount
            if surplus <= 0:
                return max(fits_at, entry.at + self.span_s)
        raise AssertionError("the sum is that of the entries, and the amount is within the limit")

    @property
    def oldest(self) -> Entry:
        """The entry that leaves next.

        Raises:
            IndexError: there is none.
        """
        return self.entries[0]

    def insert(self, entry: Entry) -> None:
        """Charge at a time in the past, which the window still covers."""
        entries, at = self.entries, entry.at
        self.used += entry.amount
        if at > self.merged_until:
            entries.insert(bisect_right(entries, at, key=_at), entry)
        else:
            self._insert_merged(at, entry.amount)
        self._look_at_oldest()
        if len(entries) > ENTRIES_MAX:
            self.merge()

    def freed(self) -> None:
        """An entry that still counts, and is not merged, has an amount of 0 now."""
        self._freed += 1
        if not self.entries[0].amount:
            self.forget(-math.inf)
        if self._freed * 2 > len(self.entries):
            self.entries = [kept for kept in self.entries if kept.amount]
            self._freed = 0

    def change_merged(self, at: float, by: int) -> None:
        """What was charged at `at`, still counts and is merged has become this much larger (or smaller, below 0)."""
        # Slots are in order and each has one entry, with the time of its newest charge: the first that is not earlier.
        merged = self.entries[bisect_left(self.entries, at, key=_at)]
        merged.amount += by
        if not merged.amount:
            self.freed()

    def merge(self) -> None:
        """Merge all but the newest EXACT_MIN entries by their slots."""
        entries = self.entries
        # Charges of one instant stay together, and later ones of the newest instant must not find it merged.
        end = bisect_left(entries, entries[-EXACT_MIN].at, key=_at)
        if not end:
            return
        self.merged_until = entries[end - 1].at
        merged: list[Entry] = []
        slot = math.nan
        for entry in entries[:end]:
            if not entry.amount:
                self._freed -= 1
            elif (its := self._slot(entry.at)) == slot:
                merged[-1].at = entry.at
                merged[-1].amount += entry.amount
            else:
                merged.append(Entry(entry.at, entry.amount))
                slot = its
        entries[:end] = merged
        self._look_at_oldest()

    def _insert_merged(self, at: float, amount: int) -> None:
        entries = self.entries
        index = bisect_left(entries, at, key=_at)
        for merged in entries[max(0, index - 1) : index + 1]:
            if merged.at <= self.merged_until and self._slot(merged.at) == self._slot(at):
                self._freed -= not merged.amount
                merged.at = max(merged.at, at)
                merged.amount += amount
                return
        entries.insert(index, Entry(at, amount))

    def _slot(self, at: float) -> float:
        return at // (self.span_s / SLOTS)

    def _look_at_oldest(self) -> None:
        self.leaves_at = self.entries[0].at + self.span_s if self.entries else math.inf


Windows: TypeAlias = tuple[Window, ...]


def fits(windows: Windows, amount: int, now: float) -> bool:
    """Whether `amount` more is within the limit of each; they forget what has left them."""
    for window in windows:
        if window.leaves_at <= now:
            window.forget(now)
        if window.used + amount > window.limit:
            return False
        if window.loan is not None:
            if window.paid_at > now:
                return False
            window.loan = None
    return True


def add(windows: Windows, entry: Entry) -> Window:
    """Charge all, without asking whether it fits; the one with the least left. No other entry's `at` is later."""
    tightest, least = windows[0], math.inf
    at, amount = entry.at, entry.amount
    for window in windows:
        entries = window.entries
        if not entries:
            window.leaves_at = at + window.span_s
        entries.append(entry)
        window.used = used = window.used + amount
        if len(entries) > ENTRIES_MAX:
            window.merge()
        left = window.limit - used
        if left < least:
            tightest, least = window, left
    return tightest


def add_late(windows: Windows, entry: Entry, now: float) -> None:
    """Charge, at a time in the past, those that still cover it."""
    for window in windows:
        if window.leaves_at <= now:
            window.forget(now)
        if entry.at + window.span_s > now:
            window.insert(entry)


def change(windows: Windows, entry: Entry, amount: int, now: float) -> None:
    """Make an entry of all of these this large, in those that still cover it."""
    at, by = entry.at, amount - entry.amount
    if not by:
        return
    # All of them before the amount changes: a window forgets what left it by the amount that it had.
    for window in windows:
        if window.leaves_at <= now:
            window.forget(now)
    entry.amount = amount
    for window in windows:
        if at + window.span_s > now:
            window.used += by
            if at <= window.merged_until:
                window.change_merged(at, by)
            elif not amount:
                window.freed()
