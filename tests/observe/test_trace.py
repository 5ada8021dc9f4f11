"""Trace contexts that come in, and which traces are recorded."""

from __future__ import annotations

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_service.observe.otel import OtelTracer
from agent_service.observe.trace import NO_SPAN, Sampling, current_span, parse
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from tests.harness import KEY, FakeModel, Parts, calls, says, started

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("sent", "understood"),
    [
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", f"00-{TRACE}-{SPAN}-01"),
    ],
)
def test_a_trace_context_is_understood(sent: str, understood: str) -> None:
    context = parse(sent)
    assert context is not None
    assert (context.traceparent, context.trace_id, context.span_id) == (understood, TRACE, SPAN)


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\n",
        "00-" + "a" * 100_000,
    ],
)
def test_what_is_no_trace_context_begins_a_new_trace(sent: str) -> None:
    assert parse(sent) is None


def test_of_the_traces_that_begin_here_a_share_is_recorded() -> None:
    taken = sum(Sampling(0.25).takes(None) for _ in range(10_000))
    assert 2000 < taken < 3000
    assert not any(Sampling(0.0).takes(None) for _ in range(1000))
    assert all(Sampling(1.0).takes(None) for _ in range(1000))


def test_a_trace_that_a_caller_began_is_recorded_if_the_caller_does() -> None:
    sampled, unsampled = parse(f"00-{TRACE}-{SPAN}-01"), parse(f"00-{TRACE}-{SPAN}-00")
    assert Sampling(0.0).takes(sampled)
    assert not Sampling(1.0).takes(unsampled)


def test_without_regard_to_the_caller_the_traces_id_decides_so_that_services_agree() -> None:
    low, high = parse(f"00-{'a' * 16}{'1' * 16}-{SPAN}-00"), parse(f"00-{'a' * 16}{'f' * 16}-{SPAN}-01")
    half = Sampling(0.5, follows_parent=False)
    assert half.takes(low)
    assert not half.takes(high)


seen: list[tuple[str, str]] = []


@tool(side_effect="read_only")
def note_in_a_thread(context: ToolContext) -> str:
    """Notes the trace that it runs in."""
    seen.append((context.traceparent, f"{otel.get_current_span().get_span_context().span_id:016x}"))
    return "noted"


@tool(side_effect="read_only")
async def note(context: ToolContext) -> str:
    """Notes the trace that it runs in."""
    seen.append((context.traceparent, f"{otel.get_current_span().get_span_context().span_id:016x}"))
    return "noted"


def tracer(exporter: InMemorySpanExporter, ratio: float = 1.0) -> OtelTracer:
    return OtelTracer(exporter, Sampling(ratio), service="test", version="1", shows_content=False)


async def test_tools_run_within_their_span_in_threads_too() -> None:
    seen.clear()
    exporter = InMemorySpanExporter()
    tracing = tracer(exporter)
    model = FakeModel(calls(("note", {}), ("note_in_a_thread", {})), says("done"))
    async with started(Parts(model=model, tools=[note, note_in_a_thread], tracer=tracing)) as running:
        await running.client.run("go")
        assert otel.get_current_span().get_span_context().span_id == 0
    tracing.close()
    of_tools = {
        f"{span.context.span_id:016x}" for span in exporter.get_finished_spans() if span.name.startswith("execute_tool")
    }
    assert {span_id for _, span_id in seen} == of_tools
    assert {context.split("-")[2] for context, _ in seen} == of_tools
    assert len(of_tools) == 2


async def test_a_tool_that_is_invoked_alone_is_within_the_call() -> None:
    exporter = InMemorySpanExporter()
    tracing = tracer(exporter)
    async with started(Parts(tools=[note], tracer=tracing)) as running:
        await running.client.invoke_tool("note", {})
    tracing.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call, attempt = spans["agent_service.v1.AgentService/ToolInvoke"], spans["invoke_tool note"]
    assert attempt.parent is not None
    assert attempt.parent.span_id == call.context.span_id
    assert spans["execute_tool note"].parent is not None


async def test_a_task_that_waits_for_its_turn_does_not_run_in_the_span_of_whoever_made_room() -> None:
    exporter = InMemorySpanExporter()
    tracing = tracer(exporter)
    async with started(Parts(running_max=1, tracer=tracing)) as running:
        submitted = [await running.client.submit(f"task {number}") for number in range(3)]
        for task in submitted:
            async for _ in running.client.watch(task.id):
                """To its end."""
        lines = {line["task_id"]: line for line in running.log if line["event"] == "task"}
    tracing.close()
    submits, attempts = (by_task(exporter, name) for name in ("SubmitTask", "invoke_agent assistant"))
    assert len(submits) == len(attempts) == 3
    for task_id, call in submits.items():
        parent = attempts[task_id].parent
        assert parent is not None
        assert (parent.trace_id, parent.span_id) == (call.context.trace_id, call.context.span_id)
        assert lines[task_id]["trace_id"] == f"{call.context.trace_id:032x}"


def by_task(exporter: InMemorySpanExporter, name: str) -> dict[str, ReadableSpan]:
    """The spans whose name ends so, by the task that they are about."""
    return {
        str((span.attributes or {})["agent_service.task.id"]): span
        for span in exporter.get_finished_spans()
        if span.name.endswith(name)
    }


async def test_a_task_that_is_not_sampled_has_no_span_and_no_trace_in_its_journal() -> None:
    exporter = InMemorySpanExporter()
    tracing = tracer(exporter, ratio=0.0)
    async with started(Parts(tracer=tracing)) as running:
        task = await running.client.run("hi")
        (first, *_) = await running.store.read(task.id)
        assert first.submitted.traceparent == ""
    tracing.close()
    assert exporter.get_finished_spans() == ()


async def test_without_tracing_everything_runs_in_the_span_that_is_none() -> None:
    spans = []

    @tool(side_effect="read_only")
    async def look() -> str:
        """Look."""
        spans.append(current_span())
        return "looked"

    model = FakeModel(calls(("look", {})), says("done"))
    async with started(Parts(model=model, tools=[look])) as running, running.channel() as channel:
        run = channel.unary_unary("/agent_service.v1.AgentService/RunTask")
        await run(
            pb.RunTaskRequest(task="hi").SerializeToString(),
            metadata=(("x-api-key", KEY), ("traceparent", f"00-{TRACE}-{SPAN}-01")),
        )
    assert spans == [NO_SPAN]
    assert not [line for line in running.log if "trace_id" in line]
