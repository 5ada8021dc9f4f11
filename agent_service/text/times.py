"""Conversions between seconds and protobuf's times. Integer arithmetic, because they run for each event."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

NANOS_PER_SECOND = 1_000_000_000


def to_nanos(seconds: float) -> int:
    """Return seconds as whole nanoseconds, rounded down."""
    return int(seconds * 1e9)


def set_nanos(time: Timestamp | Duration, nanos: int) -> None:
    """Set a field of a message. Not for negative times. Cheaper than `FromNanoseconds`."""
    time.seconds = nanos // NANOS_PER_SECOND
    time.nanos = nanos % NANOS_PER_SECOND


def set_seconds(time: Timestamp | Duration, seconds: float) -> None:
    """Set a field of a message to seconds, rounded down to nanoseconds; not for negative ones."""
    nanos = int(seconds * 1e9)
    time.seconds = nanos // NANOS_PER_SECOND
    time.nanos = nanos % NANOS_PER_SECOND


def to_seconds(time: Timestamp | Duration) -> float:
    """Return a time in seconds; for a Timestamp, since 1970."""
    return time.seconds + time.nanos / 1e9


def duration(seconds: float) -> Duration:
    """Return seconds as a Duration, rounded to the nearest nanosecond."""
    # Rounded as a whole: 1.9999999999 is 2 s, not 1 s with an invalid number of nanoseconds.
    return duration_of_nanos(round(seconds * 1e9))


def duration_of_nanos(nanos: int) -> Duration:
    """Return nanoseconds as a Duration."""
    return Duration(seconds=nanos // NANOS_PER_SECOND, nanos=nanos % NANOS_PER_SECOND)
