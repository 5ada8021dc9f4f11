"""A sliding window: what was charged against one maximum in the last `span_s` seconds.

It depends on neither rules nor locks: the owner of a window locks it and passes in the time, which never decreases.
Operations on several windows at once are functions rather than methods, because a call for each window would double
their time.

A charge made at `t` counts in every window that covers `t` and leaves at `t + span_s`: at that instant it no longer
counts. All code computes that same sum, so that rounding cannot make two places disagree.

Exact as long as a window holds at most ENTRIES_MAX charges. Above that, all but the newest EXACT_MIN are merged by the
sixtieth of the window (a slot) in which they were made, and a merged entry leaves with its newest charge: up to a
sixtieth of the window late, never early. So a window never exceeds its maximum, holds a bounded number of entries
independent of its maximum, and refuses for a sixtieth too long at most. Slots are aligned to the clock, so their
contents do not depend on how often entries are merged.
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
    """An amount charged at a time. Windows of several rules may share an entry; an amount of 0 was freed entirely."""

    at: float
    amount: int


class Window:
    """The entries of one counter, oldest first, and their running sum `used`, in calls or tokens.

    `entries` have an amount of 1 or more, except freed ones, which are dropped before they outnumber the others.
    `leaves_at` is the time at which the oldest entry leaves, infinity if there is none. Charges made until
    `merged_until`, inclusive, are in the entry of their slot, which no other window shares.

    `limit` is this process's share of `whole`, all of it where no other process has a share. An amount between the two
    is lent where nothing else is charged. Then nothing more is admitted for as long as the share takes to admit that
    amount, so that over time the share holds. `loan` is the entry of the last loan.
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
        """Return the number of entries."""
        return len(self.entries)

    def fits(self, amount: int, now: float) -> bool:
        """Return whether `amount` more is within the limit. Drops entries that have left the window."""
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
        """The time at which the last loan is paid back; the unused part of a loan need not be paid back."""
        loan = self.loan
        if loan is None or loan.amount <= self.limit:
            return -math.inf
        return loan.at + self.span_s * loan.amount / self.limit

    def lends(self, amount: int, now: float) -> bool:
        """Return whether `amount`, which exceeds the limit, may be charged as a loan."""
        return self.limit < amount <= self.whole and self.fits_at(amount, now) <= now

    def fits_at(self, amount: int, now: float) -> float:
        """Return the first instant from `now` on at which `amount` (at most `whole`) fits, if nothing
        else is charged.
        """
        fits_at = max(now, self.paid_at)
        # A loan needs an empty window.
        surplus = self.used if amount > self.limit else self.used + amount - self.limit
        if surplus <= 0:
            return fits_at
        for entry in self.entries:
            surplus -= entry.amount
            if surplus <= 0:
                return max(fits_at, entry.at + self.span_s)
        raise AssertionError("`used` is the sum of the entries, and the amount is within the limit")

    @property
    def oldest(self) -> Entry:
        """Return the entry that leaves next.

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
        """Record that an unmerged entry that still counts has an amount of 0 now."""
        self._freed += 1
        if not self.entries[0].amount:
            self.forget(-math.inf)
        if self._freed * 2 > len(self.entries):
            self.entries = [kept for kept in self.entries if kept.amount]
            self._freed = 0

    def change_merged(self, at: float, by: int) -> None:
        """Change a merged charge that was made at `at` and still counts by this amount, which may be negative."""
        # Slots are in order, and each has one entry with the time of its newest charge: take the first not earlier.
        merged = self.entries[bisect_left(self.entries, at, key=_at)]
        merged.amount += by
        if not merged.amount:
            self.freed()

    def merge(self) -> None:
        """Merge all but the newest EXACT_MIN entries by their slots."""
        entries = self.entries
        # Charges of one instant stay together; the newest instant stays unmerged, because more charges may join it.
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
    """Return whether `amount` more is within the limit of each. Drops entries that have left the windows."""
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
    """Charge all windows without a check; return the one with the least left. No other entry's `at` may be later."""
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
    """Charge the windows that still cover a time in the past."""
    for window in windows:
        if window.leaves_at <= now:
            window.forget(now)
        if entry.at + window.span_s > now:
            window.insert(entry)


def change(windows: Windows, entry: Entry, amount: int, now: float) -> None:
    """Set the amount of an entry that these windows share, in those that still cover it."""
    at, by = entry.at, amount - entry.amount
    if not by:
        return
    # All windows drop expired entries before the amount changes: each subtracts the amount that it added.
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
