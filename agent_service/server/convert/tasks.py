"""Converts RunTask and ToolInvoke between messages and plain values. Also the helpers of the other converters."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import orjson
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from agent_service.errors import FieldViolation, ValidationError
from agent_service.schemas.flaws import BYTES_MAX as SCHEMA_BYTES_MAX
from agent_service.schemas.flaws import flaws as schema_flaws
from agent_service.schemas.keywords import Path, dotted
from agent_service.schemas.output_schema import OutputSchema
from agent_service.service.requests import INPUTS_JSON_BYTES_MAX, RunTaskInput, ToolInvokeInput
from agent_service.text.times import to_seconds
from agent_service.text.violations import in_words
from agent_service.v1.agent_service_pb2 import RunTaskRequest, ToolInvokeRequest

# Google's Python parser accepts 33 nested Structs; parsers in other languages accept fewer than it can build.
STRUCT_DEPTH_MAX = 32
SAFE_INTEGER_MAX = 2**53 - 1
VIOLATIONS_MAX = 32
# Fields that are messages, not maps: their inner fields are named with a dot.
MESSAGES = frozenset({"budget"})
BOUNDS = frozenset({"greater_than_equal", "less_than_equal"})
# A Struct is larger than its JSON text, at most by this factor, for the smallest values. Larger ones are not read.
SCHEMA_WIRE_BYTES_MAX = 8 * SCHEMA_BYTES_MAX
BRACKET = re.compile(r"[\[\]{}]")

M = TypeVar("M", bound=BaseModel)


def run_task_input(model: type[RunTaskInput], request: RunTaskRequest, *, prefix: str = "") -> RunTaskInput:
    """Return the validated values of a request; `prefix` is its path in the message that was sent.

    Raises:
        ValidationError: with every violation.
    """
    values: dict[str, Any] = {"task": request.task}
    if request.agent:
        values["agent"] = request.agent
    if request.labels:
        values["labels"] = dict(request.labels)
    if request.HasField("timeout"):
        values["timeout"] = to_seconds(request.timeout)
    if request.session_id:
        values["session_id"] = request.session_id
    if request.request_id:
        values["request_id"] = request.request_id
    if request.on_disconnect:
        values["on_disconnect"] = request.on_disconnect
    if request.HasField("budget"):
        values["budget"] = {"tokens": request.budget.tokens, "cost_nanos": request.budget.cost_nanos}
    violations: list[FieldViolation] = []
    if request.HasField("output_schema"):
        values["output_schema_json"] = _output_schema_json(request.output_schema, prefix, violations)
    try:
        valid = validated(model, values, prefix)
    except ValidationError as error:
        raise ValidationError([*error.violations, *violations]) from error
    if violations:
        raise ValidationError(violations)
    return valid


def _output_schema_json(struct: Struct, prefix: str, violations: list[FieldViolation]) -> str:
    """Return the canonical text of a valid schema; problems are added to `violations`."""
    root = f"{prefix}output_schema"
    if struct.ByteSize() > SCHEMA_WIRE_BYTES_MAX:
        violations.append(FieldViolation(root, f"must be at most {SCHEMA_BYTES_MAX // 1024} KiB as JSON text"))
        return ""
    found: list[FieldViolation] = []
    schema = struct_to_plain(struct, (root,), found)
    if not found:
        found = [FieldViolation(dotted((root, *flaw.path)), flaw.text) for flaw in schema_flaws(schema)]
    violations += found
    return "" if found else OutputSchema.of(schema).text


def tool_invoke_input(request: ToolInvokeRequest) -> ToolInvokeInput:
    """Return the validated values of a request, with the arguments as JSON text in either case.

    Raises:
        ValidationError: with every violation.
    """
    values: dict[str, Any] = {"tool_name": request.tool_name}
    violations: list[FieldViolation] = []
    match request.WhichOneof("arguments"):
        case "inputs" if request.inputs.ByteSize() > INPUTS_JSON_BYTES_MAX:
            violations.append(FieldViolation("inputs", f"must be at most {INPUTS_JSON_BYTES_MAX} bytes"))
        case "inputs":
            plain = struct_to_plain(request.inputs, ("inputs",), violations)
            if not violations:
                values["inputs_json"] = orjson.dumps(plain).decode()
        case "inputs_json":
            values["inputs_json"] = request.inputs_json
    if request.HasField("timeout"):
        values["timeout"] = to_seconds(request.timeout)
    if request.request_id:
        values["request_id"] = request.request_id
    try:
        valid = validated(ToolInvokeInput, values, "")
    except ValidationError as error:
        raise ValidationError([*error.violations, *violations]) from error
    if len(valid.inputs_json.encode()) > INPUTS_JSON_BYTES_MAX:
        violations.append(FieldViolation("inputs_json", f"must be at most {INPUTS_JSON_BYTES_MAX} bytes"))
    if violations:
        raise ValidationError(violations)
    return valid


def struct_to_plain(struct: Struct, path: Path, violations: list[FieldViolation], depth: int = 1) -> dict[str, Any]:
    """Return a Struct as plain Python. Values without an exact form are added to `violations`, up to VIOLATIONS_MAX."""
    if depth > STRUCT_DEPTH_MAX:
        _violate(violations, path, f"must be nested at most {STRUCT_DEPTH_MAX} levels deep")
        return {}
    return {key: _value_to_plain(value, (*path, key), violations, depth) for key, value in struct.fields.items()}


def _value_to_plain(value: Value, path: Path, violations: list[FieldViolation], depth: int) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            return _number(value.number_value, path, violations)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_to_plain(value.struct_value, path, violations, depth + 1)
        case "list_value":
            return _list_to_plain(value.list_value, path, violations, depth + 1)
        case _:
            return None


def _list_to_plain(values: ListValue, path: Path, violations: list[FieldViolation], depth: int) -> list[Any]:
    if depth > STRUCT_DEPTH_MAX:
        _violate(violations, path, f"must be nested at most {STRUCT_DEPTH_MAX} levels deep")
        return []
    return [_value_to_plain(item, (*path, index), violations, depth) for index, item in enumerate(values.values)]


def _number(number: float, path: Path, violations: list[FieldViolation]) -> int | float:
    if not math.isfinite(number):
        _violate(violations, path, "must be a finite number")
    elif number.is_integer():
        if abs(number) <= SAFE_INTEGER_MAX:
            return int(number)
        if path[0] == "inputs":  # large bounds in a schema may be inexact
            _violate(violations, path, "must be at most 2^53-1; send larger integers in inputs_json")
    return number


def _violate(violations: list[FieldViolation], path: Path, description: str) -> None:
    if len(violations) < VIOLATIONS_MAX:
        violations.append(FieldViolation(dotted(path), description))


def json_to_value(text: str) -> Value:
    """Return JSON text as a Value. JSON that a Value cannot hold exactly, or that other languages cannot parse, is
    returned as a string: large integers, numbers out of range, deep nesting.
    """
    if text.startswith('"'):
        return Value(string_value=orjson.loads(text))
    if _depth(text) > STRUCT_DEPTH_MAX:
        return Value(string_value=text)
    try:
        plain = orjson.loads(text)
    except orjson.JSONDecodeError:  # a number out of the range of doubles
        return Value(string_value=text)
    return ParseDict(plain, Value()) if _is_exact(plain) else Value(string_value=text)


def _is_exact(plain: Any) -> bool:
    if isinstance(plain, dict):
        return all(map(_is_exact, plain.values()))
    if isinstance(plain, list):
        return all(map(_is_exact, plain))
    return not isinstance(plain, int) or abs(plain) <= SAFE_INTEGER_MAX


def _depth(text: str) -> int:
    """Return an upper bound of the nesting depth of JSON text: brackets inside strings are counted too."""
    deepest = depth = 0
    for bracket in BRACKET.findall(text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def validated(model: type[M], values: dict[str, Any], prefix: str) -> M:
    """Return the values validated by the model; `prefix` is their path in the message that was sent.

    Raises:
        ValidationError: with every violation.
    """
    try:
        return model.model_validate(values)
    except PydanticError as error:
        raise ValidationError([_violation(each, prefix) for each in error.errors(include_url=False)]) from None


def _violation(error: Any, prefix: str) -> FieldViolation:
    """Return pydantic's error as a violation, `labels[env]: …`, in words that do not repeat the value."""
    field, *rest = (str(part)[:64] for part in error["loc"])
    inner = "".join(f".{part}" if field in MESSAGES else f"[{part}]" for part in rest if part != "[key]")
    unit = " s" if error["type"] in BOUNDS and error["loc"][-1] == "timeout" else ""
    return FieldViolation(f"{prefix}{field}{inner}", in_words(error) + unit)
