"""Maps errors of an OpenAI-compatible provider to our errors: the only such table.

Exceptions of libraries are named here by library and class, so that this file imports neither `openai` (0.8 s) nor
`httpx2`; a test fails when either has a class that the table does not name. No message made here has text of a
provider, which may echo a prompt or a key: only the status, and codes that are short words of letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import mktime_tz, parsedate_tz
from types import MappingProxyType
from typing import Any

from agent_service.llm.openai.body.events import BrokenReplyError, InBandError, NoAnswerError
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
    """The outcome of a request that got no reply.

    `is_worked_on`: the provider may have worked on it, and may charge for it. `retry_after_s`: the wait that it asked
    for. `parameter` is the parameter that it rejects, out of the names that the caller passed; `refuses_state`: it
    rejects the state of an earlier reply.
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
    "no HTTP client can be built: check the proxy (ALL_PROXY, HTTPS_PROXY) and certificate variables (SSL_CERT_FILE,"
    " SSL_CERT_DIR) of the environment"
)
UNEXPECTED = Outcome(_UNAVAILABLE, "the openai client failed", is_worked_on=True)
REFUSED = Outcome(_UNAVAILABLE, "the model provider answered with an error")  # refined by the status or its code


class ClientUnusableError(Exception):
    """The HTTP client cannot be built. The only argument is the name of the error's class."""


# By class; a class that is missing here has the outcome of its nearest base.
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
        # Of interfaces that the adapter does not use, or of wrong use.
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

# By status, with whether to retry; a status that is missing here counts as the first of its hundred.
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
        421: (_UNAVAILABLE, True),
        424: (_UNAVAILABLE, True),  # of gateways: the model behind them failed
        425: (_UNAVAILABLE, True),
        429: (_RATE_LIMITED, True),
        498: (_UNAVAILABLE, True),  # Groq's, for its capacity
        499: (_UNAVAILABLE, True),  # of proxies: they assume that we closed the connection
        500: (_UNAVAILABLE, True),
    }
)

# The fields in which providers name an error.
_CODES = ("code", "type", "status", "error_code", "error_type", "statusCode")

# Codes, types and status texts of errors, by the status that the error should have had. Such a word is more exact than
# the status that it came with: proxies answer 500 for every error of their upstream. Words are compared by their
# letters and digits, without "error" or "exception" at the end: rate_limit_error, RateLimitException. Numbers are those
# of GLM and, after `base_resp`, of MiniMax.
_MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        400: """
            invalid_request invalid_argument context_length_exceeded unsupported_value unsupported_parameter
            invalid_value unknown_parameter string_above_max_length invalid_prompt invalid_type invalid_parameter
            missing_required_parameter bad_request unprocessable_entity validation request_too_large
            content_filter content_policy_violation bio_policy misalignment_policy_violation data_inspection_failed
            sensitive content_blocked responsible_ai_policy_violation moderation_blocked invalid_encrypted_content
            1261 1301 base_resp_1026 base_resp_1027 base_resp_1039 base_resp_2013""",
        401: """
            authentication invalid_api_key api_key_invalid unauthenticated invalid_authentication unauthorized
            base_resp_1004 base_resp_2049""",
        402: """
            insufficient_quota billing_hard_limit_reached billing insufficient_balance insufficient_funds
            exceeded_current_quota credit_balance_too_low insufficient_credits allocation_quota
            payment_required arrearage account_deactivated spend_limit_exceeded quota_exhausted
            1113 1308 1309 1310 base_resp_1008 base_resp_2056""",
        403: "permission permission_denied access_denied",
        404: """
            model_not_found model_not_exist model_not_available model_deprecated deployment_not_found not_found""",
        408: "deadline_exceeded timeout request_timeout base_resp_1001",
        429: """
            rate_limit_exceeded rate_limit rate_limit_reached rate_limited too_many_requests
            resource_exhausted throttling engine_overloaded tokens_per_min requests
            1302 1303 1305 base_resp_1002""",
        500: "server internal api internal_server",
        503: "overloaded unavailable service_unavailable vector_store_timeout",
    }
)


def _letters(word: str) -> str:
    """Return the normalised form in which words are compared."""
    letters = _NOT_LETTERS.sub("", word.lower())
    return letters.removesuffix("exception").removesuffix("error") or letters


_NOT_LETTERS = re.compile("[^a-z0-9]")
_STATUS_OF: Mapping[str, int] = MappingProxyType(
    {_letters(word): status for status, words in _MEANINGS.items() for word in words.split()}
)
# An error of the model: it wrote a tool call that its server cannot parse. Another try may succeed.
_SLIPS = frozenset(
    map(_letters, ("tool_use_failed", "output_parse_failed", "json_validate_failed", "malformed_function_call"))
)
# Waiting does not help, independent of the status.
_NO_QUOTA = 402
# Words that are no more exact than the status beside them.
_VAGUE = frozenset({"internal", "api", "server", "internalserver", "requests"})
# The meanings of words that override a status for an error of the client.
_NOT_OF_THE_REQUEST = frozenset({401, 404, 408, 429, 503})

_CODE = re.compile(r"[A-Za-z][A-Za-z_]{0,47}")
_UNITS = re.compile(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_TIME_OF_DAY_S = 1e9  # a wait of 30 years is a Unix time
# Headers that ask for a wait, with their units. LiteLLM passes on those of the provider with a prefix.
_WAITS = tuple(
    (prefix + name, unit_s)
    for prefix in ("", "llm_provider-")
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0))
)
# Gateways wrap the provider's error in one of theirs and omit its code.
_STATE_REFUSED = re.compile(
    r"invalid_encrypted_content|encrypted content .{0,200}could not be (?:verified|decrypted)"
    r"|(?:invalid|corrupted) .{0,20}(?:thought.?signature|signature.{0,20}thinking)"
)
# Some servers reject fields of a message that they sent themselves.
_FIELD_OF_MESSAGE = re.compile(
    r"messages\b.*?(?<!\w)(?:reasoning(?:_content|_details|_text|_opaque)?|thinking(?:_blocks)?|extra_content"
    r"|provider_specific_fields)(?!\w)",
    re.DOTALL,
)
_UNWANTED = re.compile("unsupported|not supported|not permitted|unknown|unexpected|forbidden")
_REFUSES = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|extra|invalid"
)
MESSAGE_LOOKED_AT = 2000


def outcome_of(exc: BaseException, now: float, parameters: Collection[str] = ()) -> Outcome | None:
    """Return the outcome for an exception; None if no provider caused it. `now` is Unix time in seconds, `parameters`
    are the names of the request's parameters that the provider may reject.
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
    """Return the outcome of an error that the provider reported in a status, in its reply, or in both."""
    error = _error_in(body)
    codes = [str(error[key]) for key in _CODES if error.get(key)]
    details = [each for each in _listed(error.get("details")) if isinstance(each, dict)]
    codes += [each["reason"] for each in details if isinstance(each.get("reason"), str)]
    words = (
        "the model provider reports an error in its reply"
        if status is None
        else f"the model provider answered {status}"
    )
    if shown := ", ".join(dict.fromkeys(code for code in codes if _CODE.fullmatch(code) and code != "error")):
        words += f" ({shown})"
    body_waits = [each["retryDelay"] for each in details if isinstance(each.get("retryDelay"), str)]  # Gemini's
    wait_s = retry_after_s(headers if not body_waits else {"retry-after": body_waits[0], **headers}, now)
    names = {_letters(code) for code in codes}
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
    """Return the error itself, without the objects that servers wrap it in."""
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return {}
    if isinstance(minimax := body.get("base_resp"), dict):
        return {"code": f"base_resp_{minimax.get('status_code')}"}
    inner = body.get("error") or next(iter(_listed(body.get("errors"))), None)
    if isinstance(inner, dict):
        return inner
    return {**body, "message": inner} if isinstance(inner, str) else body


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _refuses_state(error: Mapping[str, Any], names: Collection[str]) -> bool:
    if "invalidencryptedcontent" in names:
        return True
    words = str([error.get("message"), error.get("detail")])[:MESSAGE_LOOKED_AT].lower()
    return bool(_STATE_REFUSED.search(words) or (_FIELD_OF_MESSAGE.search(words) and _UNWANTED.search(words)))


def _status_meant(status: int | None, codes: list[str]) -> int:
    """Return the status that an error should have had, by its words and by the status that it came with."""
    words = [word for code in codes for word in (_letters(code), _letters(code.partition(".")[0]))]
    meant = [_STATUS_OF[word] for word in words if word in _STATUS_OF and word not in _VAGUE]
    if _NO_QUOTA in meant:
        return _NO_QUOTA
    if status is not None and status < 500:
        # The status is the provider's own: only words that are more exact count.
        more = [meaning for meaning in meant if meaning in _NOT_OF_THE_REQUEST] if status in (400, 403, 422) else []
        return more[0] if more else status
    if meant:
        return meant[0]
    number = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), None)  # OpenRouter's
    return number or status or 500


def _refused_parameter(error: Mapping[str, Any], parameters: Collection[str]) -> str:
    """Return the parameter that an error says is rejected; "" if it names none of them. Reads the provider's text, and
    returns one of our names.
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
    # Nearly every message has the word "model", independent of its cause.
    known = sorted((each for each in parameters if each != "model"), key=len, reverse=True)
    return next((each for each in known if re.search(rf"(?<![\w.]){re.escape(each)}(?![\w.])", message)), "")


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait that `retry-after-ms` or `retry-after` (seconds, a time with units, a Unix time or an HTTP date)
    asks for; None if neither does.
    """
    for name, unit_s in _WAITS:
        wait_s = _wait_in(headers.get(name, ""), unit_s, now)
        if wait_s is not None:
            return min(max(wait_s, 0.0), RETRY_AFTER_S_MAX)
    return None


def _wait_in(header: str, unit_s: float, now: float) -> float | None:
    try:
        if header and (parts := _UNITS.fullmatch(header.replace(" ", ""))):
            return sum(
                float(part or 0) * factor for part, factor in zip(parts.groups(), (3600, 60, 1, 0.001), strict=True)
            )
        wait_s = float(header) * unit_s
    except ValueError:
        date = parsedate_tz(header)
        try:
            return mktime_tz(date) - now if date is not None else None
        except (ValueError, OverflowError):
            return None
    if wait_s >= _TIME_OF_DAY_S and math.isfinite(wait_s):
        return wait_s - now
    return None if math.isnan(wait_s) else wait_s
