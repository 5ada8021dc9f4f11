"""What went wrong with a request to an OpenAI-compatible provider, in our terms: the one table.

Foreign exceptions are named here by library and class, so that this file imports neither `openai` (0.8 s) nor `httpx2`;
a test fails when either has a class that the table does not name. No message made here holds a provider's words: they
may echo a prompt or a key. What is told is the status, and codes that are short words of letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import mktime_tz, parsedate_tz
from types import MappingProxyType

from agent_service.llm.openai.call_pieces import BrokenReplyError
from agent_service.llm.openai.chat_reply import InBandError
from agent_service.v1.error_reason_pb2 import ErrorReason

RETRY_AFTER_S_MAX = 86_400.0

_UNAVAILABLE = ErrorReason.ERROR_REASON_LLM_UNAVAILABLE
_TIMEOUT = ErrorReason.ERROR_REASON_LLM_TIMEOUT
_RATE_LIMITED = ErrorReason.ERROR_REASON_LLM_RATE_LIMITED
_REJECTED = ErrorReason.ERROR_REASON_LLM_REJECTED
_AUTH = ErrorReason.ERROR_REASON_LLM_AUTH


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request that got no reply.

    `is_worked_on`: the provider may have worked on it, and charge for it. `retry_after_s`: what it asked us to wait.
    """

    reason: ErrorReason.ValueType
    words: str
    retryable: bool = False
    is_worked_on: bool = False
    retry_after_s: float | None = None


UNREACHABLE = Outcome(_UNAVAILABLE, "the model provider could not be reached", retryable=True)
CUT = Outcome(_UNAVAILABLE, "the connection to the model provider broke", retryable=True, is_worked_on=True)
TIMED_OUT = Outcome(_TIMEOUT, "the model provider did not answer in time", retryable=True, is_worked_on=True)
BROKEN = Outcome(_UNAVAILABLE, "the model provider's reply is broken", retryable=True, is_worked_on=True)
UNSENDABLE = Outcome(_UNAVAILABLE, "the request could not be sent to the model's base_url")
UNEXPECTED = Outcome(_UNAVAILABLE, "the openai client failed", is_worked_on=True)
REFUSED = Outcome(_UNAVAILABLE, "the model provider answered with an error")  # the status or its code says more

# By class; a class that is not here is what its nearest base is.
_NAMES: Mapping[Outcome, str] = MappingProxyType(
    {
        UNREACHABLE: """
            httpx2.ConnectError httpx2.ConnectTimeout httpx2.PoolTimeout httpx2.ProxyError""",
        CUT: """
            openai.APIConnectionError anyio.EndOfStream ssl.SSLError httpx2.HTTPError httpx2.RequestError
            httpx2.TransportError httpx2.NetworkError httpx2.ReadError httpx2.WriteError httpx2.CloseError
            httpx2.ProtocolError httpx2.RemoteProtocolError""",
        TIMED_OUT: """
            openai.APITimeoutError httpx2.TimeoutException httpx2.ReadTimeout httpx2.WriteTimeout""",
        BROKEN: """
            openai.APIResponseValidationError httpx2.DecodingError httpx2.SSEError""",
        UNSENDABLE: """
            httpx2.LocalProtocolError httpx2.UnsupportedProtocol httpx2.InvalidURL httpx2.TooManyRedirects
            httpx2.CookieConflict""",
        REFUSED: """
            openai.APIStatusError openai.BadRequestError openai.AuthenticationError openai.OAuthError
            openai.PermissionDeniedError openai.NotFoundError openai.ConflictError openai.UnprocessableEntityError
            openai.RateLimitError openai.InternalServerError""",
        # Of surfaces that the adapter does not use, or of using one wrongly.
        UNEXPECTED: """
            openai.OpenAIError openai.APIError openai.LengthFinishReasonError openai.ContentFilterFinishReasonError
            openai.InvalidWebhookSignatureError openai.WebSocketConnectionClosedError openai.WebSocketQueueFullError
            openai.SubjectTokenProviderError openai.StreamAlreadyConsumed openai.MissingStreamClassError
            openai._AmbiguousModuleClientUsageError httpx2.HTTPStatusError httpx2.StreamError httpx2.StreamConsumed
            httpx2.StreamClosed httpx2.ResponseNotRead httpx2.RequestNotRead""",
    }
)
OUTCOMES: Mapping[str, Outcome] = MappingProxyType(
    {name: outcome for outcome, names in _NAMES.items() for name in names.split()}
)

# By status, with whether to try again; one that is not here is what the first of its hundred is.
_STATUSES: Mapping[int, tuple[ErrorReason.ValueType, bool]] = MappingProxyType(
    {
        300: (_UNAVAILABLE, False),  # redirects are not followed: they would take the prompt elsewhere
        400: (_REJECTED, False),
        401: (_AUTH, False),
        402: (_RATE_LIMITED, False),
        403: (_AUTH, False),
        404: (_AUTH, False),
        408: (_TIMEOUT, True),
        409: (_UNAVAILABLE, True),
        425: (_UNAVAILABLE, True),
        429: (_RATE_LIMITED, True),
        500: (_UNAVAILABLE, True),
    }
)

# By code or type, where an error stands in the reply itself and has no status.
_CODES: Mapping[str, int] = MappingProxyType(
    {
        "rate_limit_exceeded": 429,
        "rate_limit_error": 429,
        "invalid_request_error": 400,
        "context_length_exceeded": 400,
        "authentication_error": 401,
        "invalid_api_key": 401,
        "permission_error": 403,
        "model_not_found": 404,
    }
)
# No waiting helps, whatever the status.
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance"})

_CODE = re.compile(r"[A-Za-z][A-Za-z_]{0,47}")


def outcome_of(exc: BaseException, now: float) -> Outcome | None:
    """The outcome that an exception stands for; None if it is no provider's doing. `now` is Unix time in seconds."""
    if isinstance(exc, BrokenReplyError):
        return replace(BROKEN, words=f"{BROKEN.words}: {exc.words}", retryable=exc.retryable)
    if isinstance(exc, InBandError):
        return _refused(None, exc.body, {}, now)
    cause = exc.__cause__
    if cause is not None and _name(type(exc)) in ("openai.APIConnectionError", "openai.APITimeoutError"):
        return outcome_of(cause, now) or OUTCOMES[_name(type(exc))]  # httpx2's own is more exact
    for cls in type(exc).__mro__:
        outcome = OUTCOMES.get(_name(cls))
        if outcome is REFUSED:
            response = getattr(exc, "response", None)
            body = getattr(exc, "body", None)
            return _refused(getattr(response, "status_code", 500), body, getattr(response, "headers", {}), now)
        if outcome is not None:
            return outcome
    return None


def _name(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _refused(status: int | None, body: object, headers: Mapping[str, str], now: float) -> Outcome:
    """The outcome of an error that the provider told us, in a status, in its reply, or both."""
    error = body if isinstance(body, dict) else {}
    codes = [str(error[key]) for key in ("code", "type") if error.get(key)]
    if status is None:
        status = _status_meant(codes)
        words = "the model provider reports an error in its reply"
    else:
        words = f"the model provider answered {status}"
    if told := ", ".join(dict.fromkeys(code for code in codes if _CODE.fullmatch(code))):
        words += f" ({told})"
    if any(code in _QUOTA_CODES for code in codes):
        return Outcome(_RATE_LIMITED, words)
    reason, retryable = _STATUSES.get(status) or _STATUSES.get(status // 100 * 100) or _STATUSES[500]
    retryable = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), retryable)
    return Outcome(reason, words, retryable=retryable, retry_after_s=retry_after_s(headers, now))


def _status_meant(codes: list[str]) -> int:
    """The status that an error without one would have had."""
    for code in codes:
        if re.fullmatch("[45][0-9][0-9]", code):  # OpenRouter tells that of the provider behind it
            return int(code)
    return next((_CODES[code] for code in codes if code in _CODES), 500)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that `retry-after-ms` or `retry-after` (seconds, or an HTTP date) asks for; None if none does."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if not math.isnan(wait_s):
            return min(max(wait_s, 0.0), RETRY_AFTER_S_MAX)
    date = parsedate_tz(headers.get("retry-after", ""))
    if date is None:
        return None
    try:
        return min(max(mktime_tz(date) - now, 0.0), RETRY_AFTER_S_MAX)
    except (ValueError, OverflowError):
        return None
