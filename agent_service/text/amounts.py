"""Money as decimal text."""

from __future__ import annotations

NANOS_PER_UNIT = 1_000_000_000


def money(nanos: int, *, decimals_min: int = 0) -> str:
    """Return billionths of the currency unit as an exact decimal: 1250000000 is 1.25."""
    whole, rest = divmod(nanos, NANOS_PER_UNIT)
    decimals = f"{rest:09d}".rstrip("0").ljust(decimals_min, "0")
    return f"{whole}.{decimals}" if decimals else str(whole)
