"""Finds settings that are valid alone, but of which one makes another ineffective."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from agent_service.config.model_entry import Model
from agent_service.config.problems import Problem
from agent_service.config.schema import Agent, RateLimit
from agent_service.config.sources.document import Document


def contradictions(
    document: Document, models: Mapping[str, Model], agents: Mapping[str, Agent], rate_limits: Sequence[RateLimit]
) -> list[Problem]:
    """Return the contradictions, with their effects. `rate_limits` are the rules of the environment and of the file."""
    return [*_idle_tools(document, agents), *_small_windows(document, models), *_idle_maxima(document, rate_limits)]


def _idle_tools(document: Document, agents: Mapping[str, Agent]) -> Iterator[Problem]:
    for key, agent in agents.items():
        if not agent.tools:
            continue
        if agent.limits.tool_calls == 0:
            text = "is 0, so a task fails as soon as it calls one of the agent's tools"
            yield document.problem(("agents", key, "limits", "tool_calls"), text)
        elif agent.limits.turns == 1 and agent.class_path is None:
            text = "is 1, so a task that calls one of the agent's tools fails before the model reads the result"
            yield document.problem(("agents", key, "limits", "turns"), text)


def _small_windows(document: Document, models: Mapping[str, Model]) -> Iterator[Problem]:
    """Report fallbacks with smaller windows: a conversation is cut to fit a model and all its fallbacks."""
    for key, model in models.items():
        room = _room(model)
        for fallback in model.fallbacks:
            if (least := _room(models[fallback])) < room:
                text = (
                    f"{fallback} accepts {least} tokens of input, and {key} {room}: with this fallback every"
                    f" conversation of {key} is cut to {least}"
                )
                yield document.problem(("models", key, "fallbacks"), text)


def _room(model: Model) -> int:
    return model.context_tokens - model.max_tokens


def _idle_maxima(document: Document, rate_limits: Sequence[RateLimit]) -> Iterator[Problem]:
    """Report maxima of the file that are never reached, because another rule admits less of the same work."""
    declared = {rule["name"]: index for index, rule in enumerate(document.tree.get("rate_limits") or ())}
    for rule in rate_limits:
        if rule.name not in declared:
            continue
        for setting in ("max_calls", "max_model_calls", "max_tokens"):
            tighter = next((other for other in rate_limits if _is_tighter(other, rule, setting)), None)
            if tighter is not None:
                path = ("rate_limits", declared[rule.name], setting)
                yield document.problem(path, _idle(rule, tighter, setting))


def _is_tighter(other: RateLimit, rule: RateLimit, setting: str) -> bool:
    """Return whether `rule` never reaches a maximum, because `other` counts the same work and admits less."""
    most, bound = getattr(rule, setting), getattr(other, setting)
    if most is None or bound is None or other is rule or not _covers(other, rule):
        return False
    windows = math.ceil(rule.window_seconds / other.window_seconds)
    return bool(windows * bound < most)


def _idle(rule: RateLimit, other: RateLimit, setting: str) -> str:
    bound = f"{getattr(other, setting)} in {other.window_seconds:g} s"
    return (
        f"is never reached: rule {other.name} counts the same work and admits {bound}; raise that,"
        f" or give {rule.name} the same name and match"
    )


def _covers(other: RateLimit, rule: RateLimit) -> bool:
    """Return whether each counter of `rule` is a part of one of `other`'s counters."""
    kinds = ("tenant", "agent", "model")
    matches = all(getattr(other.match, kind) in ("*", getattr(rule.match, kind)) for kind in kinds)
    return matches and all(kind in rule.per or getattr(rule.match, kind) != "*" for kind in other.per)
