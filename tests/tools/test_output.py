import json
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agent_service.errors import ToolError
from agent_service.tools.base import OUTPUT_BYTES_MAX
from agent_service.tools.output import encode
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_FAILED

Pair = namedtuple("Pair", "left right")


class Unit(Enum):
    METER = "m"


class Price(BaseModel):
    amount: Decimal
    at: Path | None = None


@dataclass(frozen=True, slots=True)
class Weather:
    celsius: float | None
    units: list[Unit] = field(default_factory=list)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n", '"a\\n"'),
        (None, "null"),
        (True, "true"),
        ({"b": [1, 2.5, None], 3: "x"}, '{"b":[1,2.5,null],"3":"x"}'),
        (Decimal("1.50"), "1.50"),
        ([Decimal("-1E+30"), None], "[-1E+30,null]"),
        (10**40, str(10**40)),
        ({"n": [-(10**40), 2**64 - 1]}, f'{{"n":[-{10**40},{2**64 - 1}]}}'),
        (Price(amount=Decimal("0.10")), '{"amount":0.10,"at":null}'),
        ([Price(amount=Decimal(1), at=Path("/x"))], '[{"amount":1,"at":"/x"}]'),
        (Weather(None, [Unit.METER]), '{"celsius":null,"units":["m"]}'),
        (Pair(1, 10**30), f"[1,{10**30}]"),
        (Pair(1, 2), "[1,2]"),
        (frozenset({7}), "[7]"),
        (datetime(2026, 3, 1, tzinfo=UTC), '"2026-03-01T00:00:00+00:00"'),
        (b"bytes", '"bytes"'),
        ("null", '"null"'),
    ],
)
def test_results_are_written_as_json(value: Any, text: str) -> None:
    output = encode(value)
    assert output.output_json == text
    assert not output.truncated


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        {"deep": [1, {"x": float("-inf")}]},
        Decimal("NaN"),
        Weather(float("inf")),
        {"n": [10**40, float("nan")]},
        [10**40, Decimal("Infinity")],
        Price.model_construct(amount=float("nan")),
        [Unit.METER, (float("nan"),)],
    ],
)
def test_numbers_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(ToolError, match="holds NaN or an infinity") as caught:
        encode(value)
    assert caught.value.reason == ERROR_REASON_TOOL_FAILED


class Opaque:
    def __repr__(self) -> str:
        raise AssertionError("its text is told to nobody")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Opaque(), "not JSON serializable: Opaque"),
        ([None, 10**40, Opaque()], "not JSON serializable: Opaque"),
        ((number for number in [1]), "not JSON serializable: generator"),
        (b"\xff", "not JSON serializable: bytes"),
        ("\ud800", "surrogates not allowed"),
        ({(1, 2): 3}, "Dict key"),
        ({10**40: 3}, "Dict integer key"),
        pytest.param(10**5000, "too many digits", id="huge"),
    ],
)
def test_what_json_cannot_express_is_refused_by_its_type(value: Any, told: str) -> None:
    with pytest.raises(ToolError, match=r"^the tool's result ") as caught:
        encode(value)
    assert told in caught.value.message


def test_a_result_that_holds_itself_is_refused() -> None:
    endless: list[Any] = [10**40]
    endless.append(endless)
    with pytest.raises(ToolError, match="cannot be written as JSON"):
        encode(endless)


def test_a_result_at_the_cap_is_whole() -> None:
    output = encode("x" * (OUTPUT_BYTES_MAX - 2))
    assert (len(output.output_json), output.truncated) == (OUTPUT_BYTES_MAX, False)


def test_a_result_above_the_cap_is_the_beginning_of_its_text_and_says_so() -> None:
    output = encode(["é" * 200_000, 1])
    assert output.truncated
    assert OUTPUT_BYTES_MAX - 100 < len(output.output_json.encode()) <= OUTPUT_BYTES_MAX
    told = json.loads(output.output_json)
    assert told.startswith('["éééé')
    assert told.endswith("é\n[cut here: this was the beginning of 400006 bytes]")


def test_a_long_string_is_cut_as_the_string_that_it_is() -> None:
    text = '"quoted" line\n' * 30_000
    told = json.loads(encode(text).output_json)
    beginning = told.rpartition("\n[cut here")[0]
    assert text.startswith(beginning)
    assert len(beginning) > OUTPUT_BYTES_MAX // 2


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet='"\\\x00é😀a', min_size=1, max_size=9), st.integers(0, 7))
def test_no_text_whatever_its_escapes_gets_above_the_cap(unit: str, offset: int) -> None:
    text = "x" * offset + unit * (OUTPUT_BYTES_MAX // len(unit) + 1)
    output = encode(text)
    assert output.truncated
    assert OUTPUT_BYTES_MAX // 2 < len(output.output_json.encode()) <= OUTPUT_BYTES_MAX
    assert text.startswith(json.loads(output.output_json).rpartition("\n[cut here")[0])
