"""The arguments of a tool's function: derives a JSON Schema, and parses JSON text.

Depends on pydantic and signatures, not on the names, side effects and execution of tools.
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

# Prevents conflicts of parameters such as `copy`, `schema` or `_x` with pydantic's names; aliases remove the prefix.
PREFIX = "arg_"
KEY_CHARACTERS_MAX = 40

# A number beyond the range of a double has a large exponent or very many digits. Few texts match; they are read twice.
_LARGE = re.compile(r"[eE]\+?\d{3}|\d{200}")

logger = logging.getLogger(__name__)

_CONFIG = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    alias_generator=lambda field: field.removeprefix(PREFIX),
    hide_input_in_errors=True,
)


class Arguments:
    """The arguments that a function takes by name.

    `schema_json` is canonical JSON text: sorted keys, no spaces. `context_names` are the parameters annotated
    `ToolContext`, which the caller supplies and which are not in the schema.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Read the signature.

        Raises:
            ConfigError: it cannot be expressed as a JSON Schema; one problem per faulty parameter.
        """
        fields, self.context_names = _read(function)
        try:
            self._model = create_model(
                "arguments", __config__=_CONFIG, __module__=getattr(function, "__module__", __name__), **fields
            )
            schema = self._model.model_json_schema(schema_generator=_Schema)
        except Exception as error:  # pydantic rejects types with many kinds of errors
            raise ConfigError([f"a parameter's type is not usable: {_first_line(error)}"]) from error
        schema.pop("title", None)
        self.schema_json = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def parse(self, text: str) -> dict[str, Any]:
        """Parse the text of a JSON object into keyword arguments; blank text counts as `{}`.

        Types are pydantic's in its lax mode: `"5"`, which models often write, is the integer 5.

        Raises:
            ToolArgumentsError: the text is not JSON (NaN and infinities are not), or violates the schema.
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
    """Omits titles, which repeat the name and cost tokens, and defaults that JSON cannot express."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Ignore the warning: it reports what this class does on purpose."""


def _read(function: Callable[..., Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of the model, and the names of the parameters that take the context."""
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
    """Reject NaN, Infinity and numbers beyond the range of a double.

    Where pydantic does not expect a number, it accepts the literals NaN and Infinity, which are not JSON, and reads
    such numbers as infinities.
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
    """Describe the error without the value, unless a validator of the tool's author includes it."""
    if detail["type"] in ("value_error", "assertion_error"):  # further lines come from a library
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
    """Return `filters[0].city` for ("filters", 0, "city")."""
    return dotted(location, _step) or "arguments"


def _step(name: str) -> str:
    if name.isidentifier() and len(name) <= KEY_CHARACTERS_MAX:
        return f".{name}"
    return f"[{json.dumps(name[:KEY_CHARACTERS_MAX])}]"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
