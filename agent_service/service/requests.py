"""Requests of callers as plain values, with every bound of the contract, validated by pydantic."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, field_validator

from agent_service.text.ids import ID_OR_EMPTY_PATTERN, MODEL_OR_EMPTY_PATTERN
from agent_service.v1.task_pb2 import OnDisconnect, TaskState

TASK_LENGTH_MAX = 10_000
INPUTS_JSON_BYTES_MAX = 1024 * 1024
# Bounds of answers: the result of a call, and the reason why it must not run or has no result.
RESULT_BYTES_MAX = 256 * 1024
REASON_BYTES_MAX = 1000

OptionalId = Annotated[str, StringConstraints(pattern=ID_OR_EMPTY_PATTERN)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,63}$")]
LabelValue = Annotated[str, StringConstraints(max_length=256)]


class BudgetInput(BaseModel):
    """Bounds on what a task may use; 0 is no bound."""

    model_config = ConfigDict(frozen=True)

    tokens: Annotated[int, Field(ge=0)] = 0
    cost_nanos: Annotated[int, Field(ge=0)] = 0


class RunTaskInput(BaseModel):
    """A task to run. `task` comes out trimmed; `timeout` is in seconds; `output_schema_json` is a schema that was
    admitted, as canonical text.
    """

    model_config = ConfigDict(frozen=True)

    agent: OptionalId = ""
    session_id: OptionalId = ""
    request_id: OptionalId = ""
    on_disconnect: int = OnDisconnect.ON_DISCONNECT_UNSPECIFIED
    task: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TASK_LENGTH_MAX)]
    timeout: Annotated[float, Field(ge=1, le=3600)] | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    budget: BudgetInput = BudgetInput()
    output_schema_json: str = ""

    @field_validator("task")
    @classmethod
    def _visible(cls, value: str) -> str:
        return _visible(value)

    @field_validator("on_disconnect")
    @classmethod
    def _known(cls, value: int) -> int:
        if value not in OnDisconnect.values():
            raise ValueError("must be ON_DISCONNECT_CANCEL or ON_DISCONNECT_DETACH")
        return value

    @property
    def is_detached(self) -> bool:
        """True if the task outlives its callers."""
        return self.on_disconnect == OnDisconnect.ON_DISCONNECT_DETACH

    def digest(self) -> bytes:
        """Return the SHA-256 of the fields that a repetition must repeat: agent, task, session and labels, in this
        order, then the budget and the output schema, if they are set.
        """
        more: list[object] = []
        if self.budget != BudgetInput():
            more += [self.budget.tokens, self.budget.cost_nanos]
        if self.output_schema_json:
            more.append(self.output_schema_json)
        return _digest("run", self.agent, self.task, self.session_id, sorted(self.labels.items()), *more)


class ToolInvokeInput(BaseModel):
    """A tool call. `inputs_json` is the text of a JSON object; `timeout` is in seconds."""

    model_config = ConfigDict(frozen=True)

    tool_name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    inputs_json: Annotated[str, StringConstraints(max_length=INPUTS_JSON_BYTES_MAX)] = "{}"
    timeout: Annotated[float, Field(ge=0.001, le=3600)] | None = None
    request_id: OptionalId = ""

    def digest(self) -> bytes:
        """Return the SHA-256 of the fields that a repetition must repeat: the tool, and the arguments in any order. For
        text that is not JSON, which is refused later, the text itself is hashed.
        """
        try:
            arguments = json.loads(self.inputs_json)
        except (ValueError, RecursionError):
            arguments = self.inputs_json
        return _digest("tool", self.tool_name, arguments)


class ListTasksInput(BaseModel):
    """The filters of a list of tasks. Times are µs since 1970; `tenant` "" is the caller's own, `*` any."""

    model_config = ConfigDict(frozen=True)

    page_size: Annotated[int, Field(ge=0)] = 0
    page_token: Annotated[str, StringConstraints(max_length=256)] = ""
    agent: OptionalId = ""
    states: frozenset[int] = frozenset()
    session_id: OptionalId = ""
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    created_since: int | None = None
    created_before: int | None = None
    tenant: Annotated[str, StringConstraints(max_length=128)] = ""
    submitted_by: Annotated[str, StringConstraints(max_length=260)] = ""
    full: bool = False

    @field_validator("states")
    @classmethod
    def _known(cls, states: frozenset[int]) -> frozenset[int]:
        if not all(state in TaskState.values() and state for state in states):
            raise ValueError("must be states of a task")
        return states

    def digest(self) -> bytes:
        """Return the SHA-256 of the fields that all pages of one list share."""
        chosen = (self.agent, sorted(self.states), self.session_id, sorted(self.labels.items()))
        return _digest("list", *chosen, self.created_since, self.created_before, self.tenant, self.submitted_by)


class UsageInput(BaseModel):
    """The filters and groups of a usage query. Times are seconds since 1970, whole hours; `tenant` "" is the caller's
    own, `*` any; `bucket_hours` 0 is one bucket for the whole time.
    """

    model_config = ConfigDict(frozen=True)

    tenant: Annotated[str, StringConstraints(max_length=128)] = ""
    agent: OptionalId = ""
    model: Annotated[str, StringConstraints(pattern=MODEL_OR_EMPTY_PATTERN)] = ""
    start_time: int | None = None
    end_time: int | None = None
    bucket_hours: int = 0
    group_by: frozenset[str] = frozenset()


# Invisible characters that Python does not count as white space: Unicode's default ignorable characters, including
# reserved ones, and the blank Braille pattern. Controls and formats are recognised by their categories.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def _visible(text: str) -> str:
    """Return the text if it has a visible character: a request to a model with an empty text costs money in vain."""
    if "!" <= text[:1] <= "~":
        return text
    if all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") or _BLANK.match(char) for char in text):
        raise ValueError("must not be empty: it has no character that shows")
    return text


def _of_bytes(text: str, bytes_max: int) -> str:
    if len(text.encode()) > bytes_max:
        raise ValueError(f"must have at most {bytes_max} bytes")
    return text


class AnswerInput(BaseModel):
    """The texts of an answer to a pending input, with their bounds. The answer itself stays a message.

    Texts that become a failure's message are bounded in bytes, as that message is.
    """

    model_config = ConfigDict(frozen=True)

    comment: str = ""
    output_json: str = "null"
    error_message: Annotated[str, StringConstraints(min_length=1)] = "-"
    message: Annotated[str, StringConstraints(min_length=1, max_length=10_000)] = "-"

    @field_validator("message")
    @classmethod
    def _visible(cls, text: str) -> str:
        return _visible(text)

    @field_validator("comment", "error_message")
    @classmethod
    def _short(cls, text: str) -> str:
        return _of_bytes(text, REASON_BYTES_MAX)

    @field_validator("output_json")
    @classmethod
    def _json(cls, text: str) -> str:
        try:
            # The same strict parser as later readers: no NaN, no lone surrogate.
            orjson.loads(_of_bytes(text, RESULT_BYTES_MAX))
        except orjson.JSONDecodeError:
            raise ValueError("must be JSON") from None
        return text


def _digest(*content: object) -> bytes:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).digest()


def run_task_input(task_length_max: int) -> type[RunTaskInput]:
    """Return RunTaskInput with another bound for the task's length, in Unicode code points."""
    if task_length_max == TASK_LENGTH_MAX:
        return RunTaskInput
    bounded = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=task_length_max)]
    return create_model("RunTaskInput", __base__=RunTaskInput, task=(bounded, ...))
