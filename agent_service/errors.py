"""Every error that the service raises on purpose.

Errors carry a reason out of the contract and data, not only text. They know nothing of gRPC: `server/status.py` is the
one table from here to status codes.

    AgentServiceError
    ├── AuthenticationError      who are you
    ├── PermissionDeniedError    you may not
    ├── ValidationError          your request breaks the contract
    ├── NotFoundError            there is no such thing (for you)
    ├── ConflictError            you said something else before
    ├── StateError               not in the state that things are in
    ├── RateLimitError           you had your share for now
    ├── OverloadedError          we cannot take it now
    ├── DeadlineError            the time was over
    ├── CanceledError            the caller went away
    ├── UnimplementedError       we have no such method
    ├── InternalError            a fault of ours
    ├── TaskLimitError           (a task's failure) a limit of the task was reached
    ├── LLMError                 (a task's failure) a model gave no reply
    ├── OutputError              (a task's failure) the answer breaks its schema
    ├── ToolError                (a value for the model) a tool gave no result
    └── ConfigError              (start refused) the configuration is not valid
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent_service.text.enum_names import short_name
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.error_reason_pb2 import ErrorReason
from agent_service.v1.task_pb2 import Failure, Usage

MESSAGE_BYTES_MAX = 1024


class AgentServiceError(Exception):
    """The base of all of them.

    `message` is for people and may reach the caller: it never holds a secret, a prompt or foreign exception text.
    `metadata` is for programs and goes into `google.rpc.ErrorInfo`.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.retryable = retryable

    @property
    def reason_name(self) -> str:
        """The reason as clients see it: without the enum's prefix."""
        return reason_name(self.reason)

    def as_failure(self) -> Failure:
        """The same as a value, as tasks and tool calls carry it."""
        return Failure(reason=self.reason, message=self.bounded_message, retryable=self.retryable)

    @property
    def bounded_message(self) -> str:
        """The message as it may be sent: valid text of at most MESSAGE_BYTES_MAX bytes of UTF-8.

        Tools raise with whatever they have: numbers, file names that are no text.
        """
        encoded = str(self.message).encode(errors="replace")
        return encoded[:MESSAGE_BYTES_MAX].decode(errors="ignore")


class AuthenticationError(AgentServiceError):
    """The caller did not prove who it is."""


class PermissionDeniedError(AgentServiceError):
    """The caller is known, and may not do this."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken bound: the field's path in the request (`run.labels[env]`), and what is wrong with it."""

    field: str
    description: str


class ValidationError(AgentServiceError):
    """The request breaks the contract; all violations at once."""

    def __init__(
        self,
        violations: Sequence[FieldViolation],
        *,
        reason: ErrorReason.ValueType = reasons.ERROR_REASON_FIELD_INVALID,
        message: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(reason, message or text, metadata=metadata)
        self.violations = tuple(violations)


class NotFoundError(AgentServiceError):
    """There is no such thing, or it is another tenant's."""


class ConflictError(AgentServiceError):
    """The same name was used before for something else."""


class StateError(AgentServiceError):
    """The thing exists and is not in a state that allows this."""


class RateLimitError(AgentServiceError):
    """A limit is used up for now: `limit` of the rule named `rule`. `retry_after_s` is exactly when the same fits."""

    def __init__(
        self, reason: ErrorReason.ValueType, message: str, *, rule: str, limit: int, subject: str, retry_after_s: float
    ) -> None:
        super().__init__(reason, message, metadata={"rule": rule}, retry_after_s=retry_after_s, retryable=True)
        self.rule = rule
        self.limit = limit
        self.subject = subject


class OverloadedError(AgentServiceError):
    """The service cannot take this now; another replica, or this one a little later, can."""

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float = 1.0,
    ) -> None:
        super().__init__(reason, message, metadata=metadata, retry_after_s=retry_after_s, retryable=True)


class DeadlineError(AgentServiceError):
    """The time that the caller gave was over before the work was done."""


class CanceledError(AgentServiceError):
    """The caller went away before its call had ended."""

    def __init__(self) -> None:
        super().__init__(reasons.ERROR_REASON_CALL_CANCELED, "the call was canceled")


class UnimplementedError(AgentServiceError):
    """The service has no such method."""


class InternalError(AgentServiceError):
    """A fault of the service. Its text goes to the log; the caller reads "internal error" and the request id."""

    def __init__(self) -> None:
        super().__init__(reasons.ERROR_REASON_INTERNAL, "internal error")


class TaskLimitError(AgentServiceError):
    """A limit of the task was reached: its deadline, its turns, its tool calls."""


class LLMError(AgentServiceError):
    """A model gave no reply.

    `retryable`: the same request may succeed later. `retry_after_s`: what the provider asked us to wait, if it did.
    `usage`: what the request is known or taken to have used, if it was sent at all.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(reason, message, retry_after_s=retry_after_s, retryable=retryable)
        self.usage = usage


class OutputError(AgentServiceError):
    """The answer breaks the task's output schema; `violations` says how, without a value of the answer."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        text = "; ".join(f"{violation.field or 'it'}: {violation.description}" for violation in violations)
        super().__init__(reasons.ERROR_REASON_OUTPUT_INVALID, f"the answer breaks the output schema: {text}")
        self.violations = tuple(violations)


class ToolError(AgentServiceError):
    """A tool gave no result. Raised by tools themselves to tell the model what went wrong, in words it can act on."""

    def __init__(
        self,
        message: str,
        *,
        reason: ErrorReason.ValueType = reasons.ERROR_REASON_TOOL_FAILED,
        retryable: bool = False,
    ) -> None:
        super().__init__(reason, message, retryable=retryable)


class ConfigError(Exception):
    """The configuration is not valid. `problems` has every one of them: `config.yaml:7 agents.a.model: 'x' is …`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def reason_name(reason: ErrorReason.ValueType) -> str:
    """`API_KEY_MISSING` for `ERROR_REASON_API_KEY_MISSING`; a number that this version does not know stays one."""
    return short_name(ErrorReason, reason)
