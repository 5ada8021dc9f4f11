"""The current time in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from agent_service.errors import ToolError
from agent_service.tools.decorator import tool

# Not strftime, whose names follow the server's locale.
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TimeZoneName = Annotated[str, Field(max_length=64, description="IANA name, such as Europe/Berlin or America/New_York.")]


@tool(side_effect="read_only")
def current_time(timezone: TimeZoneName = "UTC") -> dict[str, str]:
    """The current date and time in a time zone as ISO 8601 with its offset from UTC, and the day of the week."""
    return tell(datetime.now(UTC), timezone)


def tell(moment: datetime, timezone: str) -> dict[str, str]:
    """Return `{"time": "2026-03-01T13:00:00+01:00", "weekday": "Sunday", "timezone": "Europe/Berlin"}`.

    Raises:
        ToolError: there is no such time zone, or the machine has no time zone data.
    """
    local = moment.astimezone(_zone(timezone))
    return {"time": local.isoformat(timespec="seconds"), "weekday": WEEKDAYS[local.weekday()], "timezone": timezone}


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # works without time zone data
    zone = _load(name)
    if zone is not None:
        return zone
    if _load("Etc/UTC") is None:
        raise ToolError("the server has no time zone data (package tzdata): only UTC is available")
    raise ToolError("there is no such time zone: give an IANA name such as Europe/Berlin or America/New_York")


def _load(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # For unknown names, names that are paths, and names of folders ("Europe"), in this order.
        return None
