"""Times, enums, amounts and ids between their forms."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from agent_service.text.amounts import money
from agent_service.text.enum_names import short_name, short_names, value_of
from agent_service.text.ids import is_id
from agent_service.text.tables import table_lines
from agent_service.text.times import duration, set_nanos, to_nanos, to_seconds
from agent_service.v1 import agent_service_pb2, error_reason_pb2, task_event_pb2, task_pb2, tool_pb2
from agent_service.v1.task_pb2 import TaskState


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.9999999999, 86_400.0, 2_592_000.0])
def test_seconds_become_a_duration_that_is_one(seconds: float) -> None:
    made = duration(seconds)
    assert made.ToJsonString()  # raises for more nanoseconds than a second has
    assert made.ToNanoseconds() == round(seconds * 1e9)


@given(st.integers(min_value=0, max_value=253_402_300_799 * 10**9))
def test_nanoseconds_are_those_of_protobuf(nanos: int) -> None:
    for made in (Timestamp(), Duration()):
        set_nanos(made, nanos)
        assert made.ToNanoseconds() == nanos
        assert to_seconds(made) == pytest.approx(nanos / 1e9, abs=1e-6)


def test_seconds_are_cut_to_nanoseconds() -> None:
    assert to_nanos(1.5) == 1_500_000_000


def test_every_value_of_every_enum_has_a_name_without_its_prefix() -> None:
    modules = (agent_service_pb2, error_reason_pb2, task_event_pb2, task_pb2, tool_pb2)
    enums = [getattr(module, name) for module in modules for name in module.DESCRIPTOR.enum_types_by_name]
    assert len(enums) > 8
    for enum in enums:
        first, *others = enum.values()
        assert (first, short_name(enum, first)) == (0, "UNSPECIFIED")
        assert [value_of(enum, name) for name in short_names(enum)] == others
        assert not any(name.startswith(short_name(enum, 0)) or "__" in name for name in short_names(enum))


def test_a_value_of_a_newer_version_stays_a_number() -> None:
    assert short_name(TaskState, 9999) == "9999"


def test_a_value_is_found_as_people_write_it() -> None:
    assert value_of(TaskState, "input-required") == TaskState.TASK_STATE_INPUT_REQUIRED
    with pytest.raises(ValueError, match="RESTING"):
        value_of(TaskState, "resting")


@pytest.mark.parametrize(
    ("nanos", "plain", "padded"),
    [
        (0, "0", "0.00"),
        (1, "0.000000001", "0.000000001"),
        (1_500_000_000, "1.5", "1.50"),
        (1_250_000_000, "1.25", "1.25"),
        (12 * 10**9, "12", "12.00"),
        (10**12, "1000", "1000.00"),
    ],
)
def test_money_is_exact(nanos: int, plain: str, padded: str) -> None:
    assert (money(nanos), money(nanos, decimals_min=2)) == (plain, padded)


@pytest.mark.parametrize("text", ["", "a b", "a\n", "a" * 129, "a/b", "ä"])
def test_what_is_no_id(text: str) -> None:
    assert is_id("a.b_c:d-1" * 14)
    assert not is_id(text)


def test_columns_of_a_table_stand_below_one_another() -> None:
    rows = [("NAME", "N"), ("a", "10"), ("longer", "")]
    assert list(table_lines(rows)) == ["NAME    N", "a       10", "longer"]
    assert list(table_lines(rows, right=1)) == ["NAME     N", "a       10", "longer"]
