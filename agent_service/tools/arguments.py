"""The arguments of a function as a tool sees them: a JSON Schema out, JSON text in.

Knows pydantic and signatures; knows neither names, side effects nor how a tool is run.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import ErrorDetails, from_json

from agent_service.errors import ConfigError, FieldViolation, ToolError
from agent_service.text.paths import dotted
from agent_service.text.violations import in_words
from agent_service.tools.base import ToolArgumentsError, ToolContext

# Keeps parameters called `copy`, `schema` or `_x` out of the way of pydantic's own names; aliases hide it again.
PREFIX = "arg_"
KEY_CHARACTERS_MAX = 40

# A number that no double holds has a large exponent or very many digits; few texts have, and those are read twice.
_LARGE = re.compile(r"[eE]\+?\d{3}|\d{200}")

logger = logging.getLogger(__name__)

_CONFIG = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    alias_generator=lambda field: field.removeprefix(PREFIX),
    hide_input_in_errors=True,
)


class Arguments:
    """What a function takes by name.

    `schema_json` is canonical JSON text: sorted keys, no spaces. `context_names` are the parameters annotated
    `ToolContext`, which are given by the caller and are no part of the schema.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Read the signature.

        Raises:
            ConfigError: it cannot be told as a JSON Schema; one problem per parameter that is to blame.
        """
        fields, self.context_names = _read(function)
        try:
            self._model = create_model(
                "arguments", __config__=_CONFIG, __module__=getattr(function, "__module__", __name__), **fields
            )
            schema = self._model.model_json_schema(schema_generator=_Schema)
        except Exception as error:  # pydantic refuses types with many kinds of errors; all mean this
            raise ConfigError([f"a parameter's type is not usable: {_first_line(error)}"]) from error
        schema.pop("title", None)
        self.schema_json = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def parse(self, text: str) -> dict[str, Any]:
        """Keyword arguments from the text of a JSON object; text without anything in it is `{}`.

        Types are pydantic's in its lax mode: `"5"`, as models like to write, is the integer 5.

        Raises:
            ToolArgumentsError: the text is not JSON (NaN and infinities are not), or it breaks the schema.
            ToolError: a validator of the tool's author failed.
        """
        try:
            if "NaN" in text or "Infinity" in text:
                _refuse_non_finite(from_json, text, allow_inf_nan=False)
            arguments = self._model.model_validate_json(text if text and not text.isspace() else "{}")
            if _LARGE.search(text):
                _refuse_non_finite(json.loads, text, parse_float=_finite)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise ToolArgumentsError([self._violation(detail) for detail in details]) from None
        except ToolError:
            raise
        except Exception as error:
            logger.warning("tool_arguments_check_failed", exc_info=error)
            raise ToolError(f"the arguments could not be checked: {type(error).__name__}") from error
        return {field.removeprefix(PREFIX): value for field, value in arguments.__dict__.items()}

    def _violation(self, detail: ErrorDetails) -> FieldViolation:
        description = _description(detail)
        if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
            known = ", ".join(str(field.alias) for field in self._model.model_fields.values())
            description = f"is not an argument; arguments: {known or 'none'}"
        return FieldViolation(_path(detail["loc"]), description)


class _Schema(GenerateJsonSchema):
    """Leaves out titles, which repeat the name and cost tokens, and defaults that JSON cannot express."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """What a warning would say is what this class means to do."""


def _read(function: Callable[..., Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of the model, and the names of the parameters that take the context."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except Exception as error:  # evaluating annotations runs the author's code
        raise ConfigError([f"its annotations cannot be read: {_first_line(error)}"]) from error
    fields: dict[str, Any] = {}
    context_names: list[str] = []
    problems: list[str] = []
    for parameter in parameters:
        name, annotation = parameter.name, parameter.annotation
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            problems.append(f"parameter {name!r} is {parameter.kind.description}: a tool takes arguments by name alone")
        elif annotation is parameter.empty:
            problems.append(f"parameter {name!r} has no annotation")
        elif annotation is ToolContext or annotation == ToolContext | None:
            context_names.append(name)
        else:
            fields[PREFIX + name] = (
                annotation if parameter.default is parameter.empty else (annotation, parameter.default)
            )
    if problems:
        raise ConfigError(problems)
    return fields, tuple(context_names)


def _refuse_non_finite(read: Callable[..., Any], text: str, **how: Any) -> None:
    """Where it does not expect a number, pydantic reads the literals NaN and Infinity, which are not JSON, and takes
    numbers that no double holds for infinities.
    """
    try:
        read(text, **how)
    except ValueError as error:
        violation = FieldViolation("arguments", f"is not valid JSON, NaN and Infinity are not: {error}")
        raise ToolArgumentsError([violation]) from None


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _description(detail: ErrorDetails) -> str:
    """What is wrong, without the value that is, unless a validator of the tool's author tells it."""
    if detail["type"] in ("value_error", "assertion_error"):  # further lines are a library's
        return detail["msg"].partition(", ")[2].partition("\n")[0] or "is refused"
    return in_words(detail, _WORDS)


_WORDS = {
    "missing": "is required",
    "json_invalid": "is not valid JSON: {error}",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "union_tag_invalid": "its {discriminator} must be one of {expected_tags}",  # pydantic's message quotes the input
}


def _path(location: tuple[int | str, ...]) -> str:
    """`filters[0].city` for ("filters", 0, "city")."""
    return dotted(location, _step) or "arguments"


def _step(name: str) -> str:
    if name.isidentifier() and len(name) <= KEY_CHARACTERS_MAX:
        return f".{name}"
    return f"[{json.dumps(name[:KEY_CHARACTERS_MAX])}]"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
