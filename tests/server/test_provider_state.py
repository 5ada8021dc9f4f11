"""What a provider wants back is in the journal and goes to the model; nothing else outside ever has it."""

from __future__ import annotations

import asyncio
import base64
from contextlib import aclosing
from dataclasses import replace

import orjson
from google.protobuf.message import Message
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.observe.otel import OtelTracer
from agent_service.observe.trace import Sampling
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from tests.harness import FakeModel, Parts, Running, Step, calls, reply, started
from tests.service.worlds import request, stub

CANARY = b"canary-4711-of-the-provider"
# Any part of it that JSON would show in another form.
FORMS = [CANARY.decode(), base64.b64encode(CANARY).decode(), CANARY.hex()]


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


def carrying(step: Step) -> Step:
    """The step with provider state in its reply."""

    async def carries(asked: ModelRequest, observer: ModelObserver) -> ModelReply:
        made: ModelReply = await step(asked, observer)
        return replace(made, provider_state=CANARY)

    return carries


async def answers(_: ModelRequest, __: ModelObserver) -> ModelReply:
    return reply("done")


def parts() -> Parts:
    return Parts(model=FakeModel(carrying(calls(("look", {}))), carrying(answers)), tools=[look])


async def everything_told(running: Running) -> list[Message]:
    """The responses of every method that shows a task or its events, of one that runs and of one that has ended."""
    told: list[Message] = []
    async with asyncio.timeout(20), stub(running) as (methods, metadata):
        run = request(session_id="s")
        stream = methods.StreamTask(pb.StreamTaskRequest(run=run), metadata=metadata)
        told += [response async for response in stream]
        task_id = told[0].event.task_id  # type: ignore[attr-defined]  # a StreamTaskResponse
        watch = methods.WatchTask(pb.WatchTaskRequest(task_id=task_id), metadata=metadata)
        told += [response async for response in watch]
        told += [
            await methods.RunTask(run, metadata=metadata),
            await methods.GetTask(pb.GetTaskRequest(task_id=task_id), metadata=metadata),
            await methods.ListTasks(pb.ListTasksRequest(view=pb.TASK_VIEW_FULL), metadata=metadata),
            await methods.CancelTask(pb.CancelTaskRequest(task_id=task_id), metadata=metadata),
        ]
    return told


async def test_provider_state_is_in_the_journal_and_goes_back_to_the_model() -> None:
    made = parts()
    async with started(made) as running:
        task = await running.client.run("go")
        journal = await running.store.read(task.id)
    replies = [event.model_replied for event in journal if event.HasField("model_replied")]
    assert [one.provider_state for one in replies] == [CANARY, CANARY]
    assert isinstance(made.model, FakeModel)
    assert [message.provider_state for message in made.model.requests[1].messages] == [b"", CANARY, b""]


async def test_provider_state_is_in_no_response() -> None:
    async with started(parts()) as running:
        told = await everything_told(running)
    assert len(told) > 15
    assert sum("model_replied" in str(one) for one in told) == 4
    assert [one for one in told if CANARY in one.SerializeToString()] == []


async def test_a_watcher_who_sees_the_event_live_leaves_it_whole_for_the_journal() -> None:
    async with started(parts()) as running:
        async with asyncio.timeout(20), aclosing(running.client.stream("go")) as events:
            seen = [event async for event in events]
        assert not any(event.model_replied.provider_state for event in seen)
        journal = await running.store.read(seen[0].task_id)
    assert sum(CANARY in event.SerializeToString() for event in journal) == 2


async def test_provider_state_is_in_no_log_line_and_no_span_even_where_content_is_shown() -> None:
    exporter = InMemorySpanExporter()
    tracing = OtelTracer(exporter, Sampling(1.0), service="test", version="1", shows_content=True)
    async with started(replace(parts(), tracer=tracing)) as running:
        await everything_told(running)
        log = orjson.dumps(running.log).decode()
    tracing.close()
    spans = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "look" in spans
    assert "model_request" in log
    assert [form for form in FORMS if form in spans or form in log] == []
