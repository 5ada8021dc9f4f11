"""Texts that show nothing."""

from __future__ import annotations

import pytest

from agent_service.client import CallError
from tests.harness import FakeModel, Parts, says, started

INVISIBLE = [
    "\ufeff",
    "\u200b\u200b",
    " \u200d\n\u2060\t",
    "\u00ad",
    "\u2800",
    "\u3164\u115f",
    "\u034f\ufe0f",
    "\u202e\u202c",
    "\0",
    "\U000e0020\U000e007f",
    "\u2061\u180e",
]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
async def test_a_task_of_which_nothing_shows_is_refused_as_empty(text: str) -> None:
    model = FakeModel()
    async with started(Parts(model=model)) as running:
        for call in (running.client.run, running.client.submit):
            with pytest.raises(CallError) as refused:
                await call(text)
            assert refused.value.reason == "FIELD_INVALID"
            ((field, description),) = refused.value.violations
            assert (field.rpartition(".")[2], "must not be empty" in description) == ("task", True)


@pytest.mark.parametrize("text", ["\u200b.\u200b", "👩\u200d👩", "\ufeffhi", "✈\ufe0f", "\U0001fae9"], ids=ascii)
async def test_a_task_with_something_to_see_between_them_is_run_as_it_is(text: str) -> None:
    async with started(Parts(model=FakeModel(says("seen")))) as running:
        task = await running.client.run(text)

    assert (task.output, task.task) == ("seen", text)
