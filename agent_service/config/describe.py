"""Output for people and editors: the effective configuration, the variables, and the file's JSON Schema."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import yaml

from agent_service.config.loader import Config
from agent_service.config.schema import File
from agent_service.config.settings import Settings

# Lines of `.env.example` that show no default. Secrets are commented out: a copy of the file must work unchanged.
_EXAMPLES = {
    "AGENT_SERVICE_ENV": "AGENT_SERVICE_ENV=development",
    "API_KEY": "#API_KEY=your-secret-key-here",
    "OPENAI_API_KEY": "#OPENAI_API_KEY=sk-...",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. `default` is written as in the environment; empty: unset."""

    name: str
    default: str
    description: str
    section: str
    is_secret: bool


def show(config: Config) -> str:
    """Return the effective configuration as YAML: the environment by variable, with masked secrets, then the file's
    sections with all defaults.
    """
    settings = config.settings.model_dump(by_alias=True, mode="json")  # this mode masks secrets
    effective = {
        "environment": settings,
        "source": config.document.source,
        "models": {key: model.model_dump(mode="json") for key, model in config.models.items()},
        "stand_ins": sorted(config.stand_ins),
        "agents": {
            key: agent.model_dump(by_alias=True, mode="json") | {"default": key == config.default_agent}
            for key, agent in config.agents.items()
        },
        "rate_limits": [rule.model_dump(mode="json") for rule in config.rate_limits],
        "budgets": [budget.model_dump(mode="json") for budget in config.budgets],
        "tools": {"modules": list(config.tool_modules)},
    }
    return yaml.safe_dump(effective, sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the configuration file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **File.model_json_schema(by_alias=True),
        "title": "agent-service configuration",
    }


def env_reference() -> list[Variable]:
    """Return all variables, by section."""
    return [
        Variable(
            name=str(field.alias),
            default=_as_text(field.default),
            description=field.description or "",
            section=field.title or "",
            is_secret="SecretStr" in str(field.annotation),
        )
        for field in Settings.model_fields.values()
    ]


def env_example() -> str:
    """Return the text of `.env.example`: each variable with its description and default, nearly all commented out."""
    lines = [
        "# Copy to .env. Variables of the process override this file; an empty value counts as unset.",
        "# Values are literal: ${…} is not expanded. Durations are in seconds.",
    ]
    section = ""
    for variable in env_reference():
        if variable.section != section:
            section = variable.section
            lines += ["", f"# --- {section} ---"]
        lines += ["", *(f"# {line}" for line in textwrap.wrap(variable.description, 110))]
        lines.append(_EXAMPLES.get(variable.name, f"#{variable.name}={variable.default}"))
    return "\n".join(lines) + "\n"


def _as_text(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
