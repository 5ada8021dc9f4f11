"""What went wrong with a request to an OpenAI-compatible provider, in our terms: the one table.

Foreign exceptions are named here by library and class, so that this file imports neither `openai` (0.8 s) nor `httpx2`;
a test fails when either has a class that the table does not name. No message made here holds a provider's words: they
may echo a prompt or a key. What is told is the status, and codes that are short words of letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import mktime_tz, parsedate_tz
from types import MappingProxyType
from typing import Any

from agent_service.llm.openai.events import BrokenReplyError, InBandError, NoAnswerError
from agent_service.v1.error_reason_pb2 import ErrorReason

RETRY_AFTER_S_MAX = 86_400.0

_UNAVAILABLE = ErrorReason.ERROR_REASON_LLM_UNAVAILABLE
_TIMEOUT = ErrorReason.ERROR_REASON_LLM_TIMEOUT
_RATE_LIMITED = ErrorReason.ERROR_REASON_LLM_RATE_LIMITED
_REJECTED = ErrorReason.ERROR_REASON_LLM_REJECTED
_AUTH = ErrorReason.ERROR_REASON_LLM_AUTH
_NOT_FOUND = ErrorReason.ERROR_REASON_MODEL_NOT_FOUND
_NO_ANSWER = ErrorReason.ERROR_REASON_LLM_NO_ANSWER


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request that got no reply.

    `is_worked_on`: the provider may have worked on it, and charge for it. `retry_after_s`: what it asked us to wait.
    `parameter` is what it refuses of the request, by one of the names that were asked for; `refuses_state` says that it
    is what an earlier reply wanted back.
    """

    reason: ErrorReason.ValueType
    words: str
    retryable: bool = False
    is_worked_on: bool = False
    retry_after_s: float | None = None
    parameter: str = ""
    refuses_state: bool = False


UNREACHABLE = Outcome(_UNAVAILABLE, "the model provider could not be reached", retryable=True)
CUT = Outcome(_UNAVAILABLE, "the connection to the model provider broke", retryable=True, is_worked_on=True)
TIMED_OUT = Outcome(_TIMEOUT, "the model provider did not answer in time", retryable=True, is_worked_on=True)
NO_ANSWER = Outcome(_NO_ANSWER, "the model's reply is no answer", retryable=True, is_worked_on=True)
BROKEN = Outcome(_UNAVAILABLE, "the model provider's reply is broken", retryable=True, is_worked_on=True)
UNSENDABLE = Outcome(_UNAVAILABLE, "the request could not be sent to the model's base_url")
UNUSABLE_CLIENT = (
    "no HTTP client can be built: look at the proxy (ALL_PROXY, HTTPS_PROXY) and certificate variables (SSL_CERT_FILE,"
    " SSL_CERT_DIR) of the environment"
)
UNEXPECTED = Outcome(_UNAVAILABLE, "the openai client failed", is_worked_on=True)
REFUSED = Outcome(_UNAVAILABLE, "the model provider answered with an error")  # the status or its code says more


class ClientUnusableError(Exception):
    """The HTTP client cannot be built. The only argument is the name of the error's class."""


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
        404: (_NOT_FOUND, False),
        408: (_TIMEOUT, True),
        409: (_UNAVAILABLE, True),
        410: (_NOT_FOUND, False),
        425: (_UNAVAILABLE, True),
        429: (_RATE_LIMITED, True),
        500: (_UNAVAILABLE, True),
    }
)

# What an error is by its code, type or status text, as the status that it should have had. Such a word says more than
# the status that it came with: proxies answer 500 for all that is not theirs.
_MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        400: """
            invalid_request_error invalid_argument context_length_exceeded unsupported_value unsupported_parameter
            invalid_value unknown_parameter string_above_max_length invalid_prompt invalid_type
            missing_required_parameter
            badrequesterror bad_request_error bad_request unprocessable_entity validation_error request_too_large
            content_filter content_policy_violation bio_policy misalignment_policy_violation data_inspection_failed
            sensitive content_blocked responsibleaipolicyviolation moderation_blocked invalid_encrypted_content""",
        401: "authentication_error invalid_api_key unauthenticated invalid_authentication_error unauthorized",
        402: """
            insufficient_quota billing_hard_limit_reached billing_error insufficient_balance insufficient_funds
            exceeded_current_quota exceeded_current_quota_error credit_balance_too_low insufficient_credits
            payment_required arrearage account_deactivated spend_limit_exceeded quota_exhausted""",
        403: "permission_error permission_denied permissiondenied access_denied",
        404: """
            model_not_found model_not_exist model_not_available model_deprecated deploymentnotfound not_found
            not_found_error notfounderror""",
        408: "deadline_exceeded timeout request_timeout timeout_error",
        429: """
            rate_limit_exceeded rate_limit_error rate_limit_reached rate_limited rate_limit too_many_requests
            resource_exhausted throttling throttlingexception engine_overloaded_error tokens_per_min requests""",
        500: "server_error internal_error internal api_error internal_server_error",
        503: "overloaded_error overloaded unavailable service_unavailable vector_store_timeout",
    }
)
_STATUS_OF: Mapping[str, int] = MappingProxyType(
    {word: status for status, words in _MEANINGS.items() for word in words.split()}
)
# The model's own slip: it wrote a tool call that its server cannot read. Another try may do better.
_SLIPS = frozenset({"tool_use_failed", "output_parse_failed", "json_validate_failed", "malformed_function_call"})
# No waiting helps, whatever the status; and words that are no more exact than the status beside them.
_NO_QUOTA = 402
_VAGUE = frozenset({"internal", "api_error", "server_error", "internal_error", "internal_server_error", "requests"})

_CODE = re.compile(r"[A-Za-z][A-Za-z_]{0,47}")
_TIME_OF_DAY_S = 1e9  # a wait of 30 years is a Unix time
# Headers that ask for a wait, with their units. LiteLLM hands those of the provider on under a prefix.
_WAITS = tuple(
    (prefix + name, unit_s)
    for prefix in ("", "llm_provider-")
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0))
)
# Gateways wrap the provider's error in one of theirs, and leave its code out.
_STATE_REFUSED = re.compile(r"invalid_encrypted_content|encrypted content .{0,200}could not be (?:verified|decrypted)")
_REFUSES = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|extra|invalid"
)
MESSAGE_LOOKED_AT = 2000


def outcome_of(exc: BaseException, now: float, parameters: Collection[str] = ()) -> Outcome | None:
    """The outcome that an exception stands for; None if it is no provider's doing. `now` is Unix time in seconds,
    `parameters` are names of a request's parameters that the provider may say it refuses.
    """
    if isinstance(exc, NoAnswerError):
        return replace(NO_ANSWER, words=f"{NO_ANSWER.words}: {exc.words}", retryable=exc.retryable)
    if isinstance(exc, BrokenReplyError):
        return replace(BROKEN, words=f"{BROKEN.words}: {exc.words}", retryable=exc.retryable)
    if isinstance(exc, ClientUnusableError):
        return replace(UNSENDABLE, words=f"{UNUSABLE_CLIENT} ({exc})")
    if isinstance(exc, InBandError):
        return _refused(None, exc.body, {}, now, parameters)
    cause = exc.__cause__
    if cause is not None and _name(type(exc)) in ("openai.APIConnectionError", "openai.APITimeoutError"):
        return outcome_of(cause, now) or OUTCOMES[_name(type(exc))]  # httpx2's own is more exact
    for cls in type(exc).__mro__:
        outcome = OUTCOMES.get(_name(cls))
        if outcome is REFUSED:
            response = getattr(exc, "response", None)
            status, headers = getattr(response, "status_code", 500), getattr(response, "headers", {})
            return _refused(status, getattr(exc, "body", None), headers, now, parameters)
        if outcome is not None:
            return outcome
    return None


def _name(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _refused(
    status: int | None, body: object, headers: Mapping[str, str], now: float, parameters: Collection[str]
) -> Outcome:
    """The outcome of an error that the provider told us, in a status, in its reply, or both."""
    error = _error_in(body)
    codes = [str(error[key]) for key in ("code", "type", "status") if error.get(key)]
    words = (
        "the model provider reports an error in its reply"
        if status is None
        else f"the model provider answered {status}"
    )
    if told := ", ".join(dict.fromkeys(code for code in codes if _CODE.fullmatch(code) and code != "error")):
        words += f" ({told})"
    wait_s = retry_after_s(headers, now)
    names = {code.lower() for code in codes}
    if names & _SLIPS:
        return Outcome(
            _NO_ANSWER, f"{words}: the model wrote a call that cannot be read", retryable=True, retry_after_s=wait_s
        )
    status = _status_meant(status, codes)
    reason, retryable = _STATUSES.get(status) or _STATUSES.get(status // 100 * 100) or _STATUSES[500]
    if status != _NO_QUOTA:
        retryable = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), retryable)
    return Outcome(
        reason,
        words,
        retryable=retryable,
        retry_after_s=wait_s,
        parameter=_refused_parameter(error, parameters) if reason == _REJECTED else "",
        refuses_state=_refuses_state(error, names),
    )


def _error_in(body: object) -> dict[str, Any]:
    """The error itself, out of what servers put around it."""
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    if isinstance(inner, dict):
        return inner
    return {**body, "message": inner} if isinstance(inner, str) else body


def _refuses_state(error: Mapping[str, Any], names: Collection[str]) -> bool:
    message = error.get("message")
    in_words = isinstance(message, str) and _STATE_REFUSED.search(message[:MESSAGE_LOOKED_AT].lower())
    return "invalid_encrypted_content" in names or bool(in_words)


def _status_meant(status: int | None, codes: list[str]) -> int:
    """The status that an error should have had, out of its words and of the one it came with."""
    meant = [_STATUS_OF[code.lower()] for code in codes if code.lower() in _STATUS_OF and code.lower() not in _VAGUE]
    if _NO_QUOTA in meant:
        return _NO_QUOTA
    if status is not None and status < 500:
        # A status of the provider's own: only words that say more count.
        return 404 if status == 400 and 404 in meant else status
    if meant:
        return meant[0]
    number = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), None)  # OpenRouter's
    return number or status or 500


def _refused_parameter(error: Mapping[str, Any], parameters: Collection[str]) -> str:
    """The parameter that an error says is refused; "" where it names none of them. Looks at the provider's words, and
    gives back ours.
    """
    named = error.get("param")
    if isinstance(named, str) and named in parameters:
        return named
    details = error.get("detail")
    for detail in details if isinstance(details, list) else ():
        path = detail.get("loc") if isinstance(detail, dict) else None
        if isinstance(path, list) and path and path[-1] in parameters:
            return str(path[-1])
    message = error.get("message") or details
    if not isinstance(message, str) or not _REFUSES.search(message := message[:MESSAGE_LOOKED_AT].lower()):
        return ""
    # Nearly every message says "model", whatever it is about.
    known = sorted((each for each in parameters if each != "model"), key=len, reverse=True)
    return next((each for each in known if re.search(rf"(?<![\w.]){re.escape(each)}(?![\w.])", message)), "")


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that `retry-after-ms` or `retry-after` (seconds, a Unix time or an HTTP date) asks for; None if none
    does.
    """
    for name, unit_s in _WAITS:
        wait_s = _wait_in(headers.get(name, ""), unit_s, now)
        if wait_s is not None:
            return min(max(wait_s, 0.0), RETRY_AFTER_S_MAX)
    return None


def _wait_in(told: str, unit_s: float, now: float) -> float | None:
    try:
        wait_s = float(told) * unit_s
    except ValueError:
        date = parsedate_tz(told)
        try:
            return mktime_tz(date) - now if date is not None else None
        except (ValueError, OverflowError):
            return None
    if wait_s >= _TIME_OF_DAY_S and math.isfinite(wait_s):
        return wait_s - now
    return None if math.isnan(wait_s) else wait_s
