"""Reads usage for callers, as far as a key may see it, with a bound on the rows."""

from __future__ import annotations

from agent_service.errors import FieldViolation, ValidationError
from agent_service.journal.usage import HOUR_S
from agent_service.keys.base import Principal
from agent_service.service.reading import tenant_wanted
from agent_service.service.requests import UsageInput
from agent_service.store.base import UsageLedger
from agent_service.store.usage import UsageQuery, UsageRow

# With the longest names, less than the 4 MiB that clients in other languages receive.
ROWS_MAX = 5000


class UsageReader:
    """Queries the store's sums."""

    def __init__(self, ledger: UsageLedger) -> None:
        self._ledger = ledger

    async def usage(self, principal: Principal, wanted: UsageInput) -> list[UsageRow]:
        """Return the rows, sorted.

        Raises:
            PermissionDeniedError: SCOPE_MISSING, for another tenant. ValidationError: more than ROWS_MAX rows.
        """
        query = UsageQuery(
            tenant=tenant_wanted(principal, wanted.tenant),
            agent=wanted.agent,
            model=wanted.model,
            since_hour=None if wanted.start_time is None else wanted.start_time // HOUR_S,
            before_hour=None if wanted.end_time is None else wanted.end_time // HOUR_S,
            bucket_hours=wanted.bucket_hours,
            group_by=wanted.group_by,
            limit=ROWS_MAX + 1,
        )
        rows = await self._ledger.usage(query)
        if len(rows) > ROWS_MAX:
            problem = f"makes more than {ROWS_MAX:,} rows; ask for a shorter time, longer buckets or fewer groups"
            raise ValidationError([FieldViolation("bucket" if wanted.bucket_hours else "group_by", problem)])
        return rows
