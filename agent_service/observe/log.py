"""The log: events with fields, one line each, to stderr.

Never keys, prompts or arguments. Of an exception it has the class and the place where it was raised, not the text,
which may contain any of those.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson

from agent_service.observe.trace import current_span

LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "DEBUG": logging.DEBUG,
        "INFO": logging.INFO,
        "WARNING": logging.WARNING,
        "ERROR": logging.ERROR,
        "CRITICAL": logging.CRITICAL,
    }
)

Render = Callable[[Mapping[str, Any]], bytes]


class EventLog:
    """Writes events at or above a level, with their trace. `sink` is called with one whole
    line of bytes.
    """

    def __init__(self, level: str, render: Render, sink: Callable[[bytes], object]) -> None:
        self._level = LEVELS[level]
        self._render = render
        self._sink = sink

    def info(self, event: str, **fields: Any) -> None:
        self.write("INFO", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.write("WARNING", event, fields)

    def error(self, event: str, error: BaseException | None = None, **fields: Any) -> None:
        self.write("ERROR", event, {**fields, **(describe_exception(error) if error else {})})

    def is_enabled(self, level: str) -> bool:
        return LEVELS[level] >= self._level

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Write one event. Fields that are None or empty are omitted."""
        if LEVELS[level] < self._level:
            return
        line = {"ts": timestamp(time.time()), "level": level, "event": event}
        for name, value in fields.items():
            if value is not None and value != "":
                line[name] = value  # noqa: PERF403 - a comprehension, and merging it, costs half as much again
        if ids := current_span().ids:
            line = {**line, **{name: value for name, value in ids.items() if name not in line}}
        self._sink(self._render(line))


def render_json(line: Mapping[str, Any]) -> bytes:
    """Render the line as one JSON object."""
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Text that is not UTF-8 (a file's name), or an integer of more than 64 bits: slower, but never fails.
        return json.dumps(line, default=str).encode() + b"\n"


def render_console(line: Mapping[str, Any]) -> bytes:
    """Render the line for people: time of day, level, event, fields; unprintable characters are escaped."""
    fields = " ".join(f"{name}={_shown(value)}" for name, value in line.items() if name not in ("ts", "level", "event"))
    return f"{line['ts'][11:23]} {line['level']:<7} {line['event']:<14} {fields}\n".encode()


RENDERERS: Mapping[str, Render] = MappingProxyType({"json": render_json, "console": render_console})


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else ascii(text)


def timestamp(unix_s: float) -> str:
    """Return the time in RFC 3339, in UTC with milliseconds: `2026-01-02T03:04:05.678Z`."""
    seconds = int(unix_s)
    return f"{_to_the_second(seconds)}.{int((unix_s - seconds) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().removesuffix("+00:00")


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Return the class and the stack of an exception, innermost frame last, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {
        "error": type(error).__name__,
        "cause": type(error.__cause__).__name__ if error.__cause__ else None,
        "at": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }


# Libraries repeat text from callers, such as the name of a method.
MESSAGE_LENGTH_MAX = 1000

# The attributes of every record; the others come from its `extra`.
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LibraryHandler(logging.Handler):
    """Writes records of standard logging as log lines. Records of libraries become the event `library`, without their
    `extra`, which may have any content. Records of our own modules become separate events, named by their message;
    `on_own_error` is called with the exceptions of these.
    """

    def __init__(self, log: EventLog, on_own_error: Callable[[BaseException], object] = lambda _: None) -> None:
        super().__init__()
        self._log = log
        self._on_own_error = on_own_error

    def emit(self, record: logging.LogRecord) -> None:
        event = "library"
        fields: dict[str, Any] = {"logger": record.name, "message": _message_of(record)}
        is_own = record.name.startswith("agent_service.")
        if is_own:
            event = fields.pop("message")
            fields |= {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        if record.exc_info and record.exc_info[1]:
            fields |= describe_exception(record.exc_info[1])
            if is_own:
                self._on_own_error(record.exc_info[1])
        level = (
            "ERROR" if record.levelno >= logging.ERROR else "WARNING" if record.levelno >= logging.WARNING else "INFO"
        )
        self._log.write(level, event, fields)


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()[:MESSAGE_LENGTH_MAX]
    except Exception:  # noqa: BLE001 - a format error of a library must not raise in its caller
        return str(record.msg)[:MESSAGE_LENGTH_MAX]


def print_traceback(error: BaseException) -> None:
    """Print an exception with its text to stderr: for the development of tools, never in production."""
    traceback.print_exception(error, file=sys.stderr)


def capture_libraries(log: EventLog, on_own_error: Callable[[BaseException], object] = lambda _: None) -> None:
    """Route standard logging, warnings and above, into `log`. Once per process, before anything else logs."""
    logging.basicConfig(handlers=[LibraryHandler(log, on_own_error)], level=logging.WARNING, force=True)
    logging.captureWarnings(True)


def log_loop_fault(log: EventLog) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return an exception handler for event loops. asyncio's own handler would log the exception's text."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # Not `context["message"]`: it may have the repr of a task, and so its exception's text.
        log.error("loop_fault", context.get("exception"))

    return handle
