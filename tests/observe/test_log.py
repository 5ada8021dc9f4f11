"""The log: one line for one event, fields that machines read, and nothing that must not be there."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_service.config.loader import load_settings
from agent_service.observe.log import (
    LEVELS,
    RENDERERS,
    EventLog,
    LibraryHandler,
    capture_libraries,
    describe_exception,
    render_console,
    render_json,
    timestamp,
)

CANARY = "canary-7f3a9c"


class Lines:
    """A log, and what it wrote."""

    def __init__(self, level: str = "DEBUG", form: str = "json") -> None:
        self.raw: list[bytes] = []
        self.own_errors: list[BaseException] = []
        self.log = EventLog(level, RENDERERS[form], self.raw.append)

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    @property
    def last(self) -> dict[str, Any]:
        return self.parsed[-1]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def captured() -> Iterator[Lines]:
    """A log that standard logging is routed into, until the test ends."""
    lines, root = Lines(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        capture_libraries(lines.log, lines.own_errors.append)
        yield lines
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


def raised(error: Exception) -> Exception:
    """The error, with a way to where it was raised."""
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_line_is_one_json_object_with_its_time_level_and_event_first(lines: Lines) -> None:
    lines.log.info("task", task_id="t1", turns=2, duration_ms=1.5, agents=["a"])

    (raw,) = lines.raw
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    assert list(lines.last) == ["ts", "level", "event", "task_id", "turns", "duration_ms", "agents"]
    assert lines.last["level"] == "INFO"
    assert lines.last["event"] == "task"
    assert (lines.last["turns"], lines.last["duration_ms"], lines.last["agents"]) == (2, 1.5, ["a"])


@pytest.mark.parametrize(
    ("unix_s", "told"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_767_323_045.625, "2026-01-02T03:04:05.625Z"),
        (1_767_323_045.0, "2026-01-02T03:04:05.000Z"),
        (1_709_251_199.9375, "2024-02-29T23:59:59.937Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_milliseconds(unix_s: float, told: str) -> None:
    assert timestamp(unix_s) == told


def test_every_line_carries_the_time(lines: Lines) -> None:
    lines.log.info("started")
    assert len(lines.last["ts"]) == len("2026-01-02T03:04:05.678Z")
    assert lines.last["ts"].endswith("Z")


def test_fields_that_say_nothing_are_left_out_and_zero_is_kept(lines: Lines) -> None:
    lines.log.info("rpc", task_id="", tenant=None, duration_ms=0, ok=False, names=[])
    assert lines.last.keys() == {"ts", "level", "event", "duration_ms", "ok", "names"}


@pytest.mark.parametrize("level", list(LEVELS))
def test_what_is_less_severe_than_the_level_is_not_written(level: str) -> None:
    lines = Lines(level)
    for each in LEVELS:
        lines.log.write(each, "event", {})

    expected = [each for each in LEVELS if LEVELS[each] >= LEVELS[level]]
    assert [line["level"] for line in lines.parsed] == expected
    assert [each for each in LEVELS if lines.log.is_enabled(each)] == expected


def test_the_log_knows_every_level_and_form_that_the_settings_let_through() -> None:
    for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        assert load_settings({"AGENT_SERVICE_LOG_LEVEL": level}, dotenv_path=None).log_level in LEVELS
    for form in ("json", "console"):
        assert load_settings({"LOG_FORMAT": form}, dotenv_path=None).log_format in RENDERERS


def test_the_short_names_write_at_their_level(lines: Lines) -> None:
    for write in (lines.log.info, lines.log.warning, lines.log.error):
        write("event")
    assert [line["level"] for line in lines.parsed] == ["INFO", "WARNING", "ERROR"]


def test_an_exception_is_told_by_its_class_and_its_place_and_never_by_its_text(lines: Lines) -> None:
    error = raised(ValueError(CANARY))
    error.__cause__ = KeyError(CANARY)
    lines.log.error("fault", error, task_id="t1")

    assert CANARY.encode() not in lines.raw[0]
    assert (lines.last["error"], lines.last["cause"], lines.last["task_id"]) == ("ValueError", "KeyError", "t1")
    (place,) = lines.last["at"]
    assert place.startswith("test_log.py:")
    assert place.endswith(" raised")
    assert str(Path(__file__).parent) not in place


def test_a_long_way_to_where_an_exception_was_raised_is_told_by_its_end() -> None:
    def fall(depth: int) -> None:
        if depth == 0:
            raise ValueError
        fall(depth - 1)

    try:
        fall(50)
    except ValueError as error:
        described = describe_exception(error)
    assert len(described["at"]) == 8
    assert described["cause"] is None


def test_the_console_form_is_the_time_of_day_level_event_and_fields() -> None:
    line = {"ts": "2026-01-02T03:04:05.678Z", "level": "INFO", "event": "task", "task_id": "t1", "turns": 2}
    assert render_console(line) == b"03:04:05.678 INFO    task           task_id=t1 turns=2\n"


@pytest.mark.parametrize("form", list(RENDERERS))
@pytest.mark.parametrize(
    "value",
    ["two\nlines", "\x1b[31mred", "caf\udce9", 2**70, {1: 2}, object(), float("nan"), b"\xff", "Grüße"],
    ids=["newline", "escape", "no UTF-8", "large", "keys", "object", "nan", "bytes", "umlaut"],
)
def test_whatever_a_field_holds_is_one_line_of_utf_8_without_control_characters(form: str, value: object) -> None:
    lines = Lines(form=form)
    lines.log.info("event", field=value, after="still there")

    (raw,) = lines.raw
    text = raw.decode()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert "still there" in text
    if form == "json":
        assert lines.last["after"] == "still there"


def test_umlauts_stay_readable() -> None:
    line = {"ts": "2026-01-02T03:04:05.678Z", "level": "INFO", "event": "e", "name": "Grüße"}
    assert "Grüße" in render_console(line).decode()
    assert "Grüße" in render_json(line).decode()


def test_records_of_libraries_become_lines_of_the_same_form(captured: Lines) -> None:
    logging.getLogger("somebody.else").warning("slow: %d ms", 12)

    assert captured.last["event"] == "library"
    assert captured.last["level"] == "WARNING"
    assert (captured.last["logger"], captured.last["message"]) == ("somebody.else", "slow: 12 ms")


def test_records_of_our_own_are_events_of_their_own(captured: Lines) -> None:
    error = ValueError("the secret detail")
    logging.getLogger("agent_service.tools.runner").warning("tool_raised", extra={"tool": "look"}, exc_info=error)

    last = captured.last
    assert (last["event"], last["tool"], last["error"]) == ("tool_raised", "look", "ValueError")
    assert "message" not in last
    assert b"secret" not in b"".join(captured.raw)
    assert captured.own_errors == [error]


def test_libraries_are_heard_from_warnings_up(captured: Lines) -> None:
    logger = logging.getLogger("somebody.else")
    logger.debug("no")
    logger.info("no")
    logger.warning("yes")
    logger.error("yes")
    logger.critical("yes")

    assert [line["message"] for line in captured.parsed] == ["yes"] * 3
    assert [line["level"] for line in captured.parsed] == ["WARNING", "ERROR", "ERROR"]


def test_a_librarys_exception_is_told_without_its_text(captured: Lines) -> None:
    logging.getLogger("somebody.else").error("it broke", exc_info=raised(ValueError(CANARY)))

    assert (captured.last["error"], captured.last["message"]) == ("ValueError", "it broke")
    assert CANARY not in str(captured.parsed)


def test_what_a_library_adds_to_a_record_is_not_told_and_what_our_own_code_adds_is(captured: Lines) -> None:
    logging.getLogger("somebody.else").warning("sent", extra={"body": CANARY})
    logging.getLogger("agent_service.tools.runner").warning("tool_raised", extra={"tool": "echo", "task_id": "t1"})

    assert CANARY not in str(captured.parsed)
    assert (captured.last["event"], captured.last["tool"], captured.last["task_id"]) == ("tool_raised", "echo", "t1")
    assert captured.last.keys() == {"ts", "level", "event", "logger", "tool", "task_id"}


def test_a_record_whose_format_does_not_fit_is_told_as_it_stands(lines: Lines) -> None:
    record = logging.makeLogRecord({"name": "somebody.else", "msg": "%d calls", "args": ("many",), "levelno": 30})
    LibraryHandler(lines.log).handle(record)

    assert lines.last["message"] == "%d calls"


def test_python_warnings_are_log_lines_too(captured: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # pytest had put its own hook in the way
        warnings.warn("old way", DeprecationWarning, stacklevel=1)

    assert captured.last["logger"] == "py.warnings"
    assert "old way" in captured.last["message"]
