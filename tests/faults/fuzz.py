"""Requests that are nearly right: bytes turned over, cut and doubled, and fields at the ends of what they can hold.

The same ones for the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from agent_service.server.handlers import DESCRIPTOR
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_WORKING, Approve, InputAnswer
from tests.faults.attacks.victim import CANARY

INTEGERS = (0, 1, -1, 200, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63))
NUMBERS = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, 2.0**60)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a",
        "assistant",
        "calculator",
        "*",
        "../../etc/passwd",
        "%s%n",
        "'; DROP TABLE tasks; --",
        "{result}",
    ),
    *(
        "{result}",
        "\u202e\u0000\ud7ff",
        "𝄞" * 300,
        "e\u0301" * 5000,
        "[" * 20_000,
        '{"a":' * 20_000,
        "1" * 10_000,
    ),
    *("9**9**9**9", "(" * 5000 + "1" + ")" * 5000, f"{CANARY}-prompt", "a" * 20_000),
)
VARINTS = (b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x00", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x08")
DEPTH_MAX = 4


def requests(seed: int, number: int, task_id: str) -> Iterator[tuple[str, bytes]]:
    """So many for each method: its name, and the bytes of a request."""
    chance = random.Random(seed)
    examples = _examples(task_id)
    for _ in range(number):
        for method in DESCRIPTOR.methods:
            request = GetMessageClass(method.input_type)()
            request.CopyFrom(chance.choice(examples[method.input_type.name]))
            if chance.random() < 0.7:
                for _ in range(chance.randrange(1, 4)):
                    _change_field(chance, request)
            data = request.SerializeToString()
            yield method.name, data if chance.random() < 0.5 else _mangled(chance, data)


def _examples(task_id: str) -> dict[str, list[Message]]:
    run = pb.RunTaskRequest(
        agent="assistant",
        task="What is 17.5% of 2340?",
        session_id="a-session",
        request_id="a-request",
        labels={"a": "b"},
        budget=pb.Budget(tokens=100_000),
    )
    run.timeout.FromSeconds(30)
    by_schema = pb.RunTaskRequest(task="hello")
    by_schema.output_schema.update(
        {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}}, "$defs": {"b": {}}}
    )
    invoke = pb.ToolInvokeRequest(tool_name="calculator", request_id="another-request")
    invoke.inputs.update({"expression": "2 + 3"})
    query = pb.ToolInvokeRequest(tool_name="json_query", inputs_json='{"document": "{}", "query": "a.b[0]"}')
    listed = pb.ListTasksRequest(
        page_size=10, agent="assistant", labels={"a": "b"}, states=[TASK_STATE_WORKING, TASK_STATE_COMPLETED]
    )
    listed.created_since.GetCurrentTime()
    usage = pb.GetUsageRequest(bucket=pb.USAGE_BUCKET_HOUR, group_by=[pb.USAGE_GROUP_AGENT])
    answer = InputAnswer(approve=Approve())
    return {
        "RunTaskRequest": [run, by_schema],
        "StreamTaskRequest": [pb.StreamTaskRequest(run=run), pb.StreamTaskRequest(run=by_schema)],
        "SubmitTaskRequest": [pb.SubmitTaskRequest(run=run), pb.SubmitTaskRequest(run=by_schema)],
        "WatchTaskRequest": [pb.WatchTaskRequest(task_id=task_id, after_sequence=1)],
        "GetTaskRequest": [pb.GetTaskRequest(task_id=task_id)],
        "ListTasksRequest": [listed],
        "CancelTaskRequest": [pb.CancelTaskRequest(task_id=task_id)],
        "ResumeTaskRequest": [pb.ResumeTaskRequest(task_id=task_id, input_id="i", answer=answer)],
        "DeleteTaskRequest": [pb.DeleteTaskRequest(task_id="nobody's")],
        "DeleteSessionRequest": [pb.DeleteSessionRequest(session_id="nobody's")],
        "ToolInvokeRequest": [invoke, query],
        "ListAgentsRequest": [pb.ListAgentsRequest()],
        "ListToolsRequest": [pb.ListToolsRequest()],
        "GetUsageRequest": [usage],
    }


def _change_field(chance: random.Random, request: Message, depth: int = 0) -> None:
    """Give one field, or one of a message within, another value."""
    fields: Any = request.DESCRIPTOR.fields
    if not fields:
        return
    field = chance.choice(fields)
    if field.message_type is None:
        value = _value(chance, field)
        if field.is_repeated:
            getattr(request, field.name).extend([value] * chance.choice((1, 3, 1000)))
        else:
            setattr(request, field.name, value)
    elif field.message_type.GetOptions().map_entry:
        _change_map(chance, getattr(request, field.name), field, depth)
    elif depth < DEPTH_MAX:
        inner = getattr(request, field.name).add() if field.is_repeated else getattr(request, field.name)
        inner.SetInParent()
        _change_field(chance, inner, depth + 1)


def _change_map(chance: random.Random, entries: Any, field: FieldDescriptor, depth: int) -> None:
    entry: Any = field.message_type
    key, value = (entry.fields_by_name[name] for name in ("key", "value"))
    for _ in range(chance.choice((1, 1, 2, 40))):
        name = f"{_value(chance, key)}{chance.randrange(100)}"
        if value.message_type is None:
            entries[name] = _value(chance, value)
        elif depth < DEPTH_MAX:
            _change_field(chance, entries[name], depth + 1)


def _value(chance: random.Random, field: FieldDescriptor) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = chance.choice(TEXTS)
            # Names of what is wrong are told back, values are not.
            is_name = field.name == "key" or field.name.endswith("_id")
            return "a name" if is_name and CANARY in text else text
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice(NUMBERS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_INT64:
            return chance.choice(INTEGERS)
        case _:
            return chance.choice([integer for integer in INTEGERS if -(2**31) <= integer < 2**31])


def _mangled(chance: random.Random, data: bytes) -> bytes:
    """The same with a few of its bytes otherwise."""
    mangled = bytearray(data or b"\0")
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(mangled) + 1)
        end = min(len(mangled), at + chance.randrange(1, 20))
        match chance.randrange(5):
            case 0 if at < len(mangled):
                mangled[at] ^= 1 << chance.randrange(8)
            case 1:
                del mangled[at:end]
            case 2:
                mangled[at:at] = mangled[at:end] * chance.choice((1, 2, 50))
            case 3:
                mangled[at:at] = chance.choice(VARINTS)
            case _:
                mangled[at:end] = chance.randbytes(end - at)
    return bytes(mangled)
