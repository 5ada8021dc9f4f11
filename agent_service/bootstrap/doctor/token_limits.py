"""Limits on tokens that no request of a model can fit, because its longest reply alone exceeds them: for `doctor`,
`config check` and the log of the start.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent_service.config.loader import Config


def unreachable_limits(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each problem with its advice. A request reserves the maximum tokens of its reply."""
    reported = set()
    for agent, limit, tokens, setting in _limits(config):
        key = config.agents[agent].model
        most = config.models[key].max_tokens
        if most >= tokens and (limit, key) not in reported:
            reported.add((limit, key))
            text = f"{limit} admits {tokens} tokens, and one reply of model {key} may have {most}: no task fits"
            yield text, f"raise {setting}, or lower {config.place(key, 'max_tokens')}"


def _limits(config: Config) -> Iterator[tuple[str, str, int, str]]:
    """Yield each limit on tokens: an agent that it bounds, its name, the tokens, the setting."""
    for name, agent in config.agents.items():
        if agent.limits.tokens is not None:
            yield name, f"agent {name}", agent.limits.tokens, f"agents.{name}.limits.tokens"
        for rule in config.rate_limits:
            is_meant = rule.match.agent in ("*", name) and rule.match.model in ("*", agent.model)
            if rule.max_tokens is not None and is_meant:
                yield name, f"rate limit {rule.name}", rule.max_tokens, _rule_setting(config, rule.name)
        for budget in config.budgets:
            if budget.max_tokens is not None:
                yield name, f"budget {budget.name}", budget.max_tokens, f"max_tokens of budget {budget.name}"


def _rule_setting(config: Config, name: str) -> str:
    declared = config.document.tree.get("rate_limits") or ()
    is_declared = any(rule["name"] == name for rule in declared)
    return f"max_tokens of rate limit {name}" if is_declared else "RATE_LIMIT_TOKENS"
