"""The errors of charges that do not fit: the limit, and when the charge will fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agent_service.errors import RateLimitError, StateError
from agent_service.limits.window import Window
from agent_service.v1 import error_reason_pb2 as reasons


def refusal_of(full: Sequence[tuple[Window, int]], now: float) -> RateLimitError | StateError:
    """Return the error for windows without room: StateError if one can never admit the amount, else RateLimitError for
    the window that takes longest to make room.
    """
    for window, amount in full:
        if amount > window.whole:
            return _never(window, amount)
    instants = [window.fits_at(amount, now) for window, amount in full]
    latest = max(instants)
    window, _ = full[instants.index(latest)]
    reason = reasons.ERROR_REASON_RATE_LIMITED_TOKENS
    if window.unit == "calls":
        reason = reasons.ERROR_REASON_RATE_LIMITED_CALLS
    return RateLimitError(
        reason,
        f"at most {window.limit} {window.unit} in {window.span_s:g} s for {window.subject} (rule {window.rule})",
        rule=window.rule,
        limit=window.limit,
        subject=window.subject,
        retry_after_s=_wait(now, latest),
    )


def _never(window: Window, amount: int) -> StateError:
    limit = f"rate limit {window.rule} admits {window.whole} {window.unit} in {window.span_s:g} s for {window.subject}"
    setting = f"max_{window.unit.replace(' ', '_')}"
    message = f"{limit}: waiting does not help; raise {setting} of the rule"
    if window.unit == "tokens":
        message = (
            f"one request to the model reserves {amount} tokens, its input and the longest reply that it may write,"
            f" and {message}, or lower max_tokens of the model"
        )
    return StateError(
        reasons.ERROR_REASON_COST_ABOVE_LIMIT,
        message,
        metadata={"rule": window.rule, "limit": str(window.whole), "asked": str(amount)},
    )


def _wait(now: float, until: float) -> float:
    """Return the smallest wait with `now + wait >= until` in floating-point arithmetic, as the caller adds it."""
    wait = until - now
    while now + wait < until:
        wait = math.nextafter(wait, math.inf)
    return wait
