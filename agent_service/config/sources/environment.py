"""The process's environment over a `.env` file, as text, and where each value came from.

Knows no setting: which names there are, and what they mean, is `config.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from agent_service.config.problems import ENVIRONMENT, Problem, dotted
from agent_service.config.sources.dotenv import read_dotenv
from agent_service.config.values import QUOTED, is_quoted

# What people copy out of examples.
PLACEHOLDERS = frozenset({"sk-...", "your-secret-key-here"})

SECRET_LENGTH_MAX = 4096  # one header; clients and proxies refuse 8 KiB of them

# Kubernetes gives each container variables for every Service of its namespace: for one called `agent-service`,
# AGENT_SERVICE_SERVICE_HOST, AGENT_SERVICE_PORT=tcp://…, AGENT_SERVICE_PORT_9000_TCP_ADDR and more.
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://[^/]+:\d+")
_KUBERNETES_REST = re.compile(r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


@dataclass(frozen=True, slots=True)
class Environment:
    """`values` has what is set to something, without surrounding white space; `dotenv_lines` the lines of those values
    that `.env` gave.
    """

    values: Mapping[str, str] = field(repr=False)
    dotenv: str = ".env"
    dotenv_lines: Mapping[str, int] = field(default_factory=dict)

    def problem(self, name: str, text: str) -> Problem:
        if name in self.dotenv_lines:
            return Problem(self.dotenv, self.dotenv_lines[name], dotted((name,)), text)
        return Problem(ENVIRONMENT, 0, dotted((name,)), text)

    def secret(self, name: str) -> SecretStr | None:
        """The secret in a variable; None where it is unset or a placeholder."""
        value = self.values.get(name)
        return SecretStr(value) if value is not None and value not in PLACEHOLDERS else None

    def is_kubernetes(self, name: str) -> bool:
        """Return whether Kubernetes set the variable, and not an operator: then it set others too, for the same
        Service.
        """
        services = (host.removesuffix("_SERVICE_HOST") for host in self.values if host.endswith("_SERVICE_HOST"))
        return any(
            name.startswith(f"{service}_")
            and _KUBERNETES_REST.fullmatch(name, len(service) + 1)
            and _KUBERNETES_URL.fullmatch(self.values.get(f"{service}_PORT", ""))
            for service in services
        )


def read_environment(environ: Mapping[str, str], dotenv_path: Path | None) -> tuple[Environment, list[Problem]]:
    """The environment, with what `.env` adds to it, and what is wrong with that file. A missing file adds nothing."""
    given: Mapping[str, str] = {}
    lines: Mapping[str, int] = {}
    problems: list[Problem] = []
    if dotenv_path is not None:
        given, lines, problems = read_dotenv(dotenv_path)
    # An empty value is none, also here: `docker compose` passes on what it does not have as empty.
    real = {name: value.strip() for name, value in environ.items() if value.strip()}
    lines = {name: line for name, line in lines.items() if name not in real}
    return Environment({**given, **real}, str(dotenv_path), lines), problems


def secret_flaw(value: str) -> str | None:
    """Why a text can never serve as a key, as one clause; None where it can."""
    if len(value) > SECRET_LENGTH_MAX:
        return f"must have at most {SECRET_LENGTH_MAX} characters"
    if is_quoted(value):
        return QUOTED
    if not all("!" <= character <= "~" for character in value):
        return "must be of visible ASCII characters: it travels in a header"
    return None
