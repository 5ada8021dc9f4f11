"""Paths, findings of pydantic and suggestions as text."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from agent_service.text.paths import dotted, quoted_if_odd
from agent_service.text.suggestions import did_you_mean, not_among
from agent_service.text.violations import in_words


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("agents", "a", "tools", 1), "agents.a.tools[1]"),
        ((2, "turns", 0), "[2].turns[0]"),
    ],
)
def test_a_path_is_dotted(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


def test_a_name_that_does_not_print_or_is_long_is_quoted_in_a_path() -> None:
    assert dotted(("a", "\n", "b" * 65), lambda name: f".{quoted_if_odd(name)}") == "a.'\\n'." + repr("b" * 64 + "…")


class Model(BaseModel):
    count: Annotated[int, Field(ge=1, le=60)] = 1
    share: Annotated[float, Field(gt=0.5)] = 1.0
    day: date = date.min
    names: Annotated[list[str], Field(min_length=1)] = ["a"]
    pair: Annotated[list[str], Field(min_length=2)] = ["a", "b"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 0}, "must be at least 1"),
        ({"count": 61.0}, "must be at most 60"),
        ({"count": "many"}, "must be a whole number"),
        ({"share": 0.5}, "must be more than 0.5"),
        ({"day": []}, "must be a valid date"),  # pydantic's words, in our grammar
        ({"names": "a"}, "must be a list"),
        ({"names": [1]}, "must be text"),
        ({"names": []}, "must not be empty"),
        ({"pair": ["a"]}, "must have at least 2 entries"),
    ],
)
def test_a_finding_is_the_end_of_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(values)
    (error,) = caught.value.errors()
    assert in_words(error) == words


def test_words_of_a_place_go_first() -> None:
    assert in_words({"type": "missing"}, {"missing": "is required"}) == "is required"
    assert in_words({"type": "new", "msg": "'secret' is wrong"}, otherwise="is not valid") == "is not valid"


def test_the_nearest_name_is_suggested_or_none() -> None:
    assert did_you_mean("API_PROT", ["API_PORT", "API_HOST"]) == "; did you mean API_PORT?"
    assert did_you_mean("calculater", ["calculator"], written=repr) == "; did you mean 'calculator'?"
    assert did_you_mean("x", ["API_PORT"]) == ""


def test_what_is_not_among_few_lists_them_all_and_of_many_the_nearest() -> None:
    assert not_among("fast", "model", ["smart", "local"]) == "'fast' is not a model; models: local, smart"
    assert not_among("a", "agent", []) == "'a' is not an agent; agents: none"
    many = [f"model-{index}" for index in range(30)] + ["fastest"]
    assert not_among("faster", "model", many) == "'faster' is not a model; models: fastest"
