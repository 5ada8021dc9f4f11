"""Answers that must fit a schema: asked for, checked, asked for again, and what callers see of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from agent_service.agents.base import Action, AgentState, AskModel, Complete
from agent_service.client import CallError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.schemas.output_schema import OutputSchema
from agent_service.tools.decorator import tool
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskLimits
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED, Task
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, calls, says, started

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "number", "minimum": 0}, "items": {"type": "array", "items": {"type": "string"}}},
    "required": ["total"],
    "additionalProperties": False,
}
FITS = '{"total": 409.5, "items": ["a"]}'


async def run(model: FakeModel, schema: Mapping[str, Any] | None = SCHEMA, **parts: Any) -> Task:
    async with started(Parts(model=model, **parts)) as running:
        return await running.client.run("What is it?", output_schema=schema)


def said(request: ModelRequest) -> list[tuple[str, str]]:
    return [(message.role.value, message.text) for message in request.messages]


async def test_an_answer_that_fits_is_told_as_text_and_as_a_value() -> None:
    model = FakeModel(says(FITS))
    task = await run(model)
    assert (task.state, task.output) == (TASK_STATE_COMPLETED, FITS)
    assert MessageToDict(task.output_struct) == {"total": 409.5, "items": ["a"]}
    assert json.loads(model.requests[0].output_schema_json) == SCHEMA


async def test_a_task_without_a_schema_has_text_alone() -> None:
    model = FakeModel(says(FITS))
    task = await run(model, None)
    assert (task.output, task.HasField("output_struct")) == (FITS, False)
    assert model.requests[0].output_schema_json == ""


@pytest.mark.parametrize("text", [f"```json\n{FITS}\n```", f"```\n{FITS}\n```\n", f"  \n{FITS}\n"])
async def test_a_code_fence_around_the_answer_is_taken_off(text: str) -> None:
    model = FakeModel(says(text))
    assert (await run(model)).output == FITS
    assert len(model.requests) == 1


async def test_an_answer_that_breaks_the_schema_is_sent_back_with_what_is_wrong() -> None:
    broken = '{"total": "much", "items": ["a", 1], "note": "hm"}'
    model = FakeModel(says(broken), says("It is 409.5."), says(FITS))
    task = await run(model)
    assert (task.state, task.output, task.usage.model_calls) == (TASK_STATE_COMPLETED, FITS, 3)
    *_, answer, correction = said(model.requests[1])
    assert answer == ("assistant", broken)
    assert correction[0] == "user"
    assert correction[1].splitlines()[1:-1] == [
        "- note: is not in the schema",
        "- items[1]: must be of type string",
        "- total: must be of type number",
    ]
    assert said(model.requests[2])[:3] == said(model.requests[1])
    assert "- the answer: is not a complete JSON document" in said(model.requests[2])[-1][1]


async def test_the_third_answer_that_breaks_the_schema_fails_the_task_without_repeating_it() -> None:
    model = FakeModel(says('{"total": "CANARY"}'), says("CANARY"), says('{"total": -1, "items": ["CANARY"]}'))
    task = await run(model)
    assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_OUTPUT_INVALID)
    assert task.failure.message == "the answer breaks the output schema: total: must have minimum 0"
    assert (len(model.requests), task.usage.model_calls) == (3, 3)
    assert not task.HasField("output_struct")


async def test_asking_again_takes_turns_and_ends_at_their_limit() -> None:
    model = FakeModel(says("no"))
    task = await run(model, limits=TaskLimits(turns=2, tool_calls=1, parallel_tools=1))
    assert task.failure.reason == reasons.ERROR_REASON_BUDGET_EXHAUSTED
    assert len(model.requests) == 2


async def test_only_the_answer_is_bound_and_not_the_turns_that_call_tools() -> None:
    @tool()
    def look() -> str:
        """Looks."""
        return "409.5"

    model = FakeModel(calls(("look", {})), says("Hm."), calls(("look", {})), says(FITS))
    task = await run(model, tools=[look])
    assert (task.output, task.usage.tool_calls) == (FITS, 2)
    roles = [role for role, _ in said(model.requests[-1])]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool"]


async def test_a_restart_goes_on_with_the_same_words_to_the_model() -> None:
    reached = asyncio.Event()

    async def hang(_: ModelRequest, __: ModelObserver) -> ModelReply:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    before, after = FakeModel(says("no"), says("{}"), hang), FakeModel(says(FITS))
    store = FakeStore()
    async with started(Parts(model=before, store=store)) as running:
        task_id = (await running.client.submit("What is it?", output_schema=SCHEMA)).id
        async with asyncio.timeout(30):
            await reached.wait()
        left = store.after_a_crash()
    async with started(Parts(model=after, store=left)) as running:
        async with asyncio.timeout(30):
            await running.is_quiet()
        task = await running.client.get_task(task_id)
    assert (task.attempt, task.output) == (2, FITS)
    assert after.requests[0].messages == before.requests[2].messages


class Careless:
    """An agent of somebody's own: asks freely, and answers whatever the model says."""

    def step(self, state: AgentState) -> Action:
        if state.last_reply is None:
            return AskModel(state.messages)
        return Complete(state.last_reply.text)


@pytest.mark.parametrize(
    ("text", "state"), [(FITS, TASK_STATE_COMPLETED), ("It is 409.5.", TASK_STATE_FAILED), ("[]", TASK_STATE_FAILED)]
)
async def test_the_answer_of_every_agent_is_checked(text: str, state: int) -> None:
    model = FakeModel(says(text))
    task = await run(model, agent=Careless())
    assert task.state == state
    if state == TASK_STATE_FAILED:
        assert task.failure.reason == reasons.ERROR_REASON_OUTPUT_INVALID
    assert model.requests[0].output_schema_json == ""


async def test_the_agents_schema_holds_where_the_request_has_none() -> None:
    of_agent = OutputSchema.of({"type": "object", "required": ["agent"]}).text
    own = {"type": "object", "required": ["own"]}
    async with started(Parts(model=FakeModel(says('{"agent": 1}')), output_schema_json=of_agent)) as running:
        task = await running.client.run("hi")
        assert task.output_struct.fields["agent"].number_value == 1
        task = await running.client.run("hi", output_schema=own)
        assert "own: is missing" in task.failure.message


async def test_lists_hide_the_value_with_the_text() -> None:
    async with started(Parts(model=FakeModel(says(FITS)))) as running:
        await running.client.run("hi", output_schema=SCHEMA)
        (basic,) = (await running.client.list_tasks()).tasks
        (full,) = (await running.client.list_tasks(full=True)).tasks
    assert (basic.output, basic.HasField("output_struct")) == ("", False)
    assert (full.output, full.output_struct.fields["total"].number_value) == (FITS, 409.5)


async def test_a_session_shows_the_answer_and_not_those_that_were_sent_back() -> None:
    model = FakeModel(says("no"), says(FITS), says("hello"))
    async with started(Parts(model=model)) as running:
        await running.client.run("What is it?", session_id="s", output_schema=SCHEMA)
        await running.client.run("And now?", session_id="s")
    assert said(model.requests[-1]) == [("user", "What is it?"), ("assistant", FITS), ("user", "And now?")]


async def test_the_schema_is_part_of_what_a_request_id_names() -> None:
    turned = {key: SCHEMA[key] for key in reversed(list(SCHEMA))}
    async with started(Parts(model=FakeModel(says(FITS)))) as running:
        first = await running.client.run("hi", request_id="r", output_schema=SCHEMA)
        again = await running.client.run("hi", request_id="r", output_schema=turned)
        assert again.id == first.id
        for other in (None, {**SCHEMA, "title": "other"}):
            with pytest.raises(CallError) as refused:
                await running.client.run("hi", request_id="r", output_schema=other)
            assert refused.value.reason == "REQUEST_ID_REUSED"


def chain(length: int) -> dict[str, Any]:
    """Definitions of which each names the next one twice."""
    links = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(length)}
    return {"type": "object", "properties": {"x": {"$ref": "#/$defs/a0"}}, "$defs": {**links, f"a{length}": {}}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range((levels - 1) // 2):
        schema = {"properties": {"a": schema}}
    return {"type": "object", **schema}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "output_schema.type", "must be object at the root"),
    ({"type": "array"}, "output_schema.type", "must be object at the root"),
    ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, "output_schema.$schema", "2020-12"),
    (of(x={"type": "strng"}), "output_schema.properties.x.type", "array, boolean, integer"),
    (of(x={"type": ["string", "nul"]}), "output_schema.properties.x.type", "array, boolean, integer"),
    (of(x={"minimum": "low"}), "output_schema.properties.x.minimum", "must be of type"),
    (of(x={"anyOf": []}), "output_schema.properties.x.anyOf", "item"),
    (of(x={"anyOf": [{}, {"required": "a"}]}), "output_schema.properties.x.anyOf[1].required", "must be of type"),
    (of(x=3), "output_schema.properties.x", "must be a schema"),
    (of(x={"pattern": "("}), "output_schema.properties.x.pattern", "regular expression"),
    (of(x={"pattern": "^(?=a)"}), "output_schema.properties.x.pattern", "without look-around"),
    (of(x={"pattern": r"(a)\1"}), "output_schema.properties.x.pattern", "back-references"),
    (of(x={"pattern": "(a{999}){999}"}), "output_schema.properties.x.pattern", "moderate size"),
    ({"type": "object", "patternProperties": {"[": {}}}, "output_schema.patternProperties.[", "regular expression"),
    (of(x={"$ref": "http://127.0.0.1:9/x.json"}), "output_schema.properties.x.$ref", "nothing outside"),
    (of(x={"$ref": "file:///etc/passwd"}), "output_schema.properties.x.$ref", "nothing outside"),
    (of(x={"$ref": "#/$defs/none"}), "output_schema.properties.x.$ref", "refers to no subschema"),
    (of(x={"$ref": "#/properties"}), "output_schema.properties.x.$ref", "refers to no subschema"),
    (of(x={"$ref": "#/properties/%78"}), "output_schema.properties.x.$ref", "must be #"),
    (of(x={"$dynamicRef": "#x"}), "output_schema.properties.x.$dynamicRef", "is not supported"),
    (of(x={"$id": "http://a/b"}), "output_schema.properties.x.$id", "is not supported below the root"),
    (chain(40), "output_schema", "expanded"),
    (nested(33), "output_schema" + ".properties.a" * 16, "32 levels"),
    (of(x={"description": "x" * 70_000}), "output_schema", "64 KiB"),
    (of(**{f"p{index}": {"pattern": "a"} for index in range(300)}), "output_schema", "256 patterns"),
    (of(x={"maximum": float("inf")}), "output_schema.properties.x.maximum", "finite"),
]


@pytest.mark.parametrize(("schema", "place", "told"), REFUSED, ids=[f"{place} {told}" for _, place, told in REFUSED])
async def test_a_schema_that_cannot_be_used_is_refused_with_its_place(
    schema: dict[str, Any], place: str, told: str
) -> None:
    model = FakeModel(says(FITS))
    async with started(Parts(model=model)) as running:
        with pytest.raises(CallError) as refused:
            await running.client.run("hi", output_schema=schema)
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        assert any(field == place[:128] and told in text for field, text in refused.value.violations), refused.value
        with pytest.raises(CallError) as refused:
            await running.client.submit("hi", output_schema=schema)
        assert f"run.{place}"[:128] in {field for field, _ in refused.value.violations}
        assert all(field.startswith("run.output_schema") for field, _ in refused.value.violations)
    assert model.requests == []


async def test_all_that_is_wrong_is_told_at_once() -> None:
    async with started() as running:
        with pytest.raises(CallError) as refused:
            await running.client.run(" ", output_schema=of(x={"type": "x"}, y={"minItems": -1}))
    assert {field for field, _ in refused.value.violations} == {
        "task",
        "output_schema.properties.x.type",
        "output_schema.properties.y.minItems",
    }


TAKEN = [
    {"type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://a.b/c.json"},
    of(x={"$ref": "#"}, y={"maximum": 2**63 - 1}, z={"format": "made-up"}),
    {"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}},
    nested(31),
    chain(10),
]


@pytest.mark.parametrize("schema", TAKEN)
async def test_a_schema_within_the_bounds_is_taken(schema: dict[str, Any]) -> None:
    task = await run(FakeModel(says('{"y": 1}')), schema)
    assert task.state == TASK_STATE_COMPLETED


async def test_alternatives_inside_alternatives_are_judged_in_no_time() -> None:
    variants = [of(x={"$ref": "#/$defs/n"}, op={"const": op}) | {"required": ["op"]} for op in "abc"]
    schema = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"oneOf": variants}}}
    answer: dict[str, Any] = {"op": "CANARY"}
    for _ in range(28):
        answer = {"op": "c", "x": answer}
    async with asyncio.timeout(20):
        task = await run(FakeModel(says(json.dumps({"n": answer}))), schema)
    assert task.failure.message.endswith("x: fits none of the 3 alternatives of oneOf")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("[" * 900 + "]" * 900, "must be nested at most 32 levels deep"),
        ('{"a": [' + "1," * 20_000 + "1]}", "must have at most 20000 values"),
        ('{"a": NaN}', "is not a complete JSON document"),
        ("[1]", "must be of type object"),
    ],
)
async def test_an_answer_beyond_what_can_be_told_breaks_every_schema(answer: str, told: str) -> None:
    task = await run(FakeModel(says(answer)), {"type": "object"})
    assert told in task.failure.message


async def test_a_task_keeps_the_schema_that_it_was_accepted_with() -> None:
    """Also where the agent's has changed since."""
    parts = Parts(model=FakeModel(says('{"old": 1}')), output_schema_json=OutputSchema.of({"type": "object"}).text)
    store = FakeStore()
    async with started(replace(parts, store=store, running_max=0)) as running:
        task_id = (await running.client.submit("hi")).id
    changed = OutputSchema.of({"type": "object", "required": ["new"]}).text
    async with started(replace(parts, store=store.after_a_crash(), output_schema_json=changed)) as running:
        async with asyncio.timeout(30):
            await running.is_quiet()
        assert (await running.client.get_task(task_id)).output == '{"old": 1}'
