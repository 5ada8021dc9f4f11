"""Every error that the service raises on purpose.

Errors have a reason from the contract and data, not only text. They are independent of gRPC: `server/status.py` is the
only table from errors to status codes.

    AgentServiceError
    ├── AuthenticationError      the caller is not authenticated
    ├── PermissionDeniedError    the caller lacks a permission
    ├── ValidationError          the request breaks the contract
    ├── NotFoundError            the object does not exist, or the caller may not see it
    ├── ConflictError            the name is in use for something else
    ├── StateError               the object's state does not allow it
    ├── RateLimitError           a limit of the caller is reached
    ├── OverloadedError          the service cannot accept it now
    ├── DeadlineError            the caller's time has passed
    ├── CanceledError            the caller disconnected or canceled
    ├── UnimplementedError       the method does not exist
    ├── InternalError            a bug of the service
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
    """The base class.

    `message` is for people and may reach the caller: it never contains a secret, a prompt or the text of a foreign
    exception. `metadata` is for programs and is sent in `google.rpc.ErrorInfo`.
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
        """The name of the reason as clients see it: without the enum's prefix."""
        return reason_name(self.reason)

    def as_failure(self) -> Failure:
        """Return the error as a value, for tasks and tool calls."""
        return Failure(reason=self.reason, message=self.bounded_message, retryable=self.retryable)

    @property
    def bounded_message(self) -> str:
        """The message in a form that can be sent: valid text of at most MESSAGE_BYTES_MAX bytes of UTF-8.

        Tools may raise with any value: numbers, or file names that are not valid text.
        """
        encoded = str(self.message).encode(errors="replace")
        return encoded[:MESSAGE_BYTES_MAX].decode(errors="ignore")


class AuthenticationError(AgentServiceError):
    """The caller is not authenticated."""


class PermissionDeniedError(AgentServiceError):
    """The caller is authenticated, and lacks a permission."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken bound: the field's path in the request (`run.labels[env]`), and the problem."""

    field: str
    description: str


class ValidationError(AgentServiceError):
    """The request breaks the contract. Has all violations."""

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
    """The object does not exist, or belongs to another tenant."""


class ConflictError(AgentServiceError):
    """The name was used before for something else."""


class StateError(AgentServiceError):
    """The object exists, and its state does not allow this."""


class RateLimitError(AgentServiceError):
    """A limit is used up: `limit` of the rule named `rule`. `retry_after_s` is exactly when the request fits."""

    def __init__(
        self, reason: ErrorReason.ValueType, message: str, *, rule: str, limit: int, subject: str, retry_after_s: float
    ) -> None:
        super().__init__(reason, message, metadata={"rule": rule}, retry_after_s=retry_after_s, retryable=True)
        self.rule = rule
        self.limit = limit
        self.subject = subject


class OverloadedError(AgentServiceError):
    """The service cannot accept this now; another replica can, or this one a little later."""

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
    """The caller's time passed before the work was done."""


class CanceledError(AgentServiceError):
    """The caller disconnected or canceled before its call ended."""

    def __init__(self) -> None:
        super().__init__(reasons.ERROR_REASON_CALL_CANCELED, "the call was canceled")


class UnimplementedError(AgentServiceError):
    """The method does not exist."""


class InternalError(AgentServiceError):
    """A bug of the service. Its text goes to the log; the caller gets "internal error" and the request id."""

    def __init__(self) -> None:
        super().__init__(reasons.ERROR_REASON_INTERNAL, "internal error")


class TaskLimitError(AgentServiceError):
    """A limit of the task was reached: its deadline, its turns, its tool calls."""


class LLMError(AgentServiceError):
    """A model gave no reply.

    `retryable`: the same request may succeed later. `retry_after_s`: the wait that the provider requested, if any.
    `usage`: the known or estimated usage of the request, if it was sent.
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
    """The answer breaks the task's output schema. `violations` describes how, without values of the answer."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        text = "; ".join(f"{violation.field or 'it'}: {violation.description}" for violation in violations)
        super().__init__(reasons.ERROR_REASON_OUTPUT_INVALID, f"the answer breaks the output schema: {text}")
        self.violations = tuple(violations)


class ToolError(AgentServiceError):
    """A tool gave no result. Tools raise it with a message that the model can act on."""

    def __init__(
        self,
        message: str,
        *,
        reason: ErrorReason.ValueType = reasons.ERROR_REASON_TOOL_FAILED,
        retryable: bool = False,
    ) -> None:
        super().__init__(reason, message, retryable=retryable)


class ConfigError(Exception):
    """The configuration is not valid. `problems` has all problems, such as `config.yaml:7 agents.a.model: 'x' is …`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def reason_name(reason: ErrorReason.ValueType) -> str:
    """Return `API_KEY_MISSING` for `ERROR_REASON_API_KEY_MISSING`; the number if this version does not know it."""
    return short_name(ErrorReason, reason)
