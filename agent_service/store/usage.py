"""Sums of usage, as stores keep them: updated in the commits of the events themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

from agent_service.journal.usage import Amounts, UsageKey


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """The filters and groups of a query. Hours count from 1970; `group_by` has names of `UsageKey`'s fields.

    `bucket_hours` is the length of a bucket, which begins at a multiple of it; 0 is one bucket for the whole time.
    """

    tenant: str | None = None
    agent: str = ""
    model: str = ""
    since_hour: int | None = None
    before_hour: int | None = None
    bucket_hours: int = 0
    group_by: frozenset[str] = frozenset()
    limit: int = 5000


class UsageRow(NamedTuple):
    """The sum over one bucket and group. `hour` is the bucket's first hour, 0 for the whole time; fields that are not
    grouped by are "".
    """

    hour: int
    tenant: str
    agent: str
    model: str
    amounts: Amounts


class Tally:
    """Sums of usage by key."""

    def __init__(self) -> None:
        self._sums: dict[UsageKey, Amounts | list[int]] = {}

    def add(self, key: UsageKey, amounts: Amounts) -> None:
        """Add to one sum."""
        sums = self._sums.get(key)
        self._sums[key] = amounts if sums is None else list(map(add, sums, amounts))

    def rows(self) -> list[tuple[UsageKey, Amounts]]:
        """Return the sums, ordered by tenant, hour, agent and model."""
        return [(key, Amounts(*self._sums[key])) for key in sorted(self._sums)]


def summed(sums: Iterable[tuple[UsageKey, Amounts]], query: UsageQuery) -> list[UsageRow]:
    """Return the rows of a query from all sums: for adapters without a query language."""
    found = Tally()
    for key, amounts in sums:
        if _fits(key, query):
            found.add(_group(key, query), amounts)
    rows = [UsageRow(key.hour, key.tenant, key.agent, key.model, amounts) for key, amounts in found.rows()]
    return sorted(rows)[: query.limit]


def _fits(key: UsageKey, query: UsageQuery) -> bool:
    return (
        query.tenant in (None, key.tenant)
        and query.agent in ("", key.agent)
        and query.model in ("", key.model)
        and (query.since_hour is None or key.hour >= query.since_hour)
        and (query.before_hour is None or key.hour < query.before_hour)
    )


def _group(key: UsageKey, query: UsageQuery) -> UsageKey:
    by = query.group_by
    return UsageKey(
        key.tenant if "tenant" in by else "",
        key.hour - key.hour % query.bucket_hours if query.bucket_hours else 0,
        key.agent if "agent" in by else "",
        key.model if "model" in by else "",
    )
