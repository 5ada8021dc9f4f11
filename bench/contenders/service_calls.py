"""The calls to the service that are measured, with what their answers must have."""

from __future__ import annotations

from functools import partial

import grpc
from google.protobuf.message import Message

from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskCompleted
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, Task, Usage
from bench.contenders.base import Case, Contender, Running
from bench.contenders.service import ANSWER, DELTA, HEADERS
from bench.load.generator import Call

# Three events before the reply, one piece of it at least, and two events behind it: a busy server merges many pieces.
EVENTS_MIN = 6
SERVICE = "/agent_service.v1.AgentService/"


def call(method: str, request: Message, *expect: bytes, messages_min: int = 1, stamped: bool = False) -> Call:
    """A call with the key of the benchmark."""
    body = request.SerializeToString()
    return Call(SERVICE + method, body, expect, HEADERS, messages_min=messages_min, stamped=stamped)


def completed(output: str, tool_calls: int = 0) -> tuple[bytes, ...]:
    """The parts of a task that has ended well, with this output, after so many tool calls."""
    usage = Usage(model_calls=tool_calls + 1, tool_calls=tool_calls)
    parts = Task(state=TASK_STATE_COMPLETED), Task(output=output), usage
    return tuple(part.SerializeToString() for part in parts)


def run_task(task: str, *, tool_calls: int = 0) -> Call:
    """RunTask, which waits for the end."""
    return call("RunTask", pb.RunTaskRequest(task=task), *completed(ANSWER, tool_calls))


def stream_task(deltas: int) -> Call:
    """StreamTask of a reply in deltas 10 ms apart; those within 15 ms of the last are merged into one message."""
    request = pb.StreamTaskRequest(run=pb.RunTaskRequest(task=f"deltas {deltas}"))
    output = TaskCompleted(output=(DELTA * deltas).strip()).SerializeToString()
    return call("StreamTask", request, output, messages_min=EVENTS_MIN)


def hold() -> Call:
    """StreamTask of a reply that never ends; the messages up to its first word."""
    request = pb.StreamTaskRequest(run=pb.RunTaskRequest(task="hold"))
    return call("StreamTask", request, messages_min=4)


def model_stream(deltas: int, pause_us: int, *, stamped: bool = False) -> Call:
    """StreamTask where the model of `with_model` replies with so many deltas, so far apart."""
    request = pb.StreamTaskRequest(run=pb.RunTaskRequest(task=f"{deltas} {pause_us}"))
    ended = Usage(input_tokens=9, output_tokens=deltas, model_calls=1).SerializeToString()
    return call("StreamTask", request, ended, messages_min=EVENTS_MIN, stamped=stamped)


def tool_invoke() -> Call:
    """ToolInvoke of the calculator."""
    request = pb.ToolInvokeRequest(tool_name="calculator", inputs_json='{"expression": "17.5 * 2340 / 100"}')
    return call("ToolInvoke", request, b"409.5")


def submit_task() -> Call:
    """SubmitTask, which returns once the task is accepted; the task runs behind it."""
    request = pb.SubmitTaskRequest(run=pb.RunTaskRequest(task="hello"))
    return call("SubmitTask", request, Task(task="hello").SerializeToString())


def watch_task(running: Running) -> Call:
    """WatchTask of a task that has ended, from its first event."""
    with grpc.insecure_channel(running.targets[0], options=(("grpc.enable_http_proxy", 0),)) as channel:
        request = pb.RunTaskRequest(task="tools 1")
        task = AgentServiceStub(channel).RunTask(request, metadata=tuple(HEADERS.items()), timeout=30).task
    return call(
        "WatchTask",
        pb.WatchTaskRequest(task_id=task.id),
        TaskCompleted(output=ANSWER).SerializeToString(),
        messages_min=task.last_sequence,
    )


def unary_cases(contender: Contender) -> list[Case]:
    """Every call that is answered with one message or replays what is stored."""
    return [
        Case("RunTask", contender, lambda _: run_task("hello")),
        Case("RunTask, model 1 ms", contender, lambda _: run_task("pause")),
        Case("RunTask, 1 tool call", contender, lambda _: run_task("tools 1", tool_calls=1)),
        Case("RunTask, 5 tool calls", contender, lambda _: run_task("tools 5", tool_calls=5)),
        Case("ToolInvoke", contender, lambda _: tool_invoke()),
        Case("SubmitTask", contender, lambda _: submit_task()),
        Case("WatchTask, replay", contender, watch_task),
    ]


def stream_cases(contender: Contender) -> list[Case]:
    """Live streams of a reply in deltas 10 ms apart."""
    return [Case(f"StreamTask, {deltas} deltas", contender, partial(_stream_task, deltas)) for deltas in (20, 200)]


def _stream_task(deltas: int, _: Running) -> Call:
    return stream_task(deltas)
