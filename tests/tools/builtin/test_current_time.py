import zoneinfo
from datetime import UTC, datetime

import pytest

from agent_service.errors import ToolError
from agent_service.tools.builtin.current_time import current_time, tell

# In winter in Berlin, an hour before midnight in UTC.
MOMENT = datetime(2026, 2, 28, 23, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def no_time_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> zoneinfo.ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr("agent_service.tools.builtin.current_time.ZoneInfo", load)


def test_the_time_is_told_with_offset_and_weekday() -> None:
    assert tell(MOMENT, "UTC") == {"time": "2026-02-28T23:00:00+00:00", "weekday": "Saturday", "timezone": "UTC"}


def test_a_time_zone_moves_the_clock_and_the_weekday() -> None:
    local = tell(MOMENT, "Europe/Berlin")
    assert (local["time"], local["weekday"]) == ("2026-03-01T00:00:00+01:00", "Sunday")


def test_it_is_now_unless_the_tool_lies() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= datetime.fromisoformat(current_time()["time"]) <= datetime.now(UTC)


@pytest.mark.parametrize("name", ["Berlin", "Europe", "", "../../etc/passwd", "/etc/passwd", "x" * 300, "a\0b"])
def test_a_name_of_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ToolError, match="there is no such time zone"):
        tell(MOMENT, name)


@pytest.mark.usefixtures("no_time_zone_data")
def test_without_time_zone_data_utc_is_known_and_the_rest_is_refused_saying_why() -> None:
    assert tell(MOMENT, "UTC")["timezone"] == "UTC"
    with pytest.raises(ToolError, match="the server has no time zone data"):
        tell(MOMENT, "Europe/Berlin")
