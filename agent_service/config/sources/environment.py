"""The process's environment, overriding a `.env` file, as text values with their places.

Independent of the settings, which are in `config.settings`.
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

# Values copied from examples.
PLACEHOLDERS = frozenset({"sk-...", "your-secret-key-here"})

SECRET_LENGTH_MAX = 4096  # one header; clients and proxies reject 8 KiB of headers

# Kubernetes gives each container variables for every Service of its namespace: for one called `agent-service`,
# AGENT_SERVICE_SERVICE_HOST, AGENT_SERVICE_PORT=tcp://…, AGENT_SERVICE_PORT_9000_TCP_ADDR and more.
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://[^/]+:\d+")
_KUBERNETES_REST = re.compile(r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


@dataclass(frozen=True, slots=True)
class Environment:
    """`values` has the variables that are not empty, without surrounding white space; `dotenv_lines` the lines of
    values that come from `.env`.
    """

    values: Mapping[str, str] = field(repr=False)
    dotenv: str = ".env"
    dotenv_lines: Mapping[str, int] = field(default_factory=dict)

    def problem(self, name: str, text: str) -> Problem:
        if name in self.dotenv_lines:
            return Problem(self.dotenv, self.dotenv_lines[name], dotted((name,)), text)
        return Problem(ENVIRONMENT, 0, dotted((name,)), text)

    def secret(self, name: str) -> SecretStr | None:
        """Return the secret in a variable; None if it is unset or a placeholder."""
        value = self.values.get(name)
        return SecretStr(value) if value is not None and value not in PLACEHOLDERS else None

    def is_kubernetes(self, name: str) -> bool:
        """Return whether Kubernetes set the variable, not an operator: then it also set other variables for the same
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
    """Return the environment with the additions of `.env`, and the problems of that file, which may be missing."""
    given: Mapping[str, str] = {}
    lines: Mapping[str, int] = {}
    problems: list[Problem] = []
    if dotenv_path is not None:
        given, lines, problems = read_dotenv(dotenv_path)
    # An empty value counts as unset: `docker compose` passes on unset variables as empty.
    real = {name: value.strip() for name, value in environ.items() if value.strip()}
    lines = {name: line for name, line in lines.items() if name not in real}
    return Environment({**given, **real}, str(dotenv_path), lines), problems


def secret_flaw(value: str) -> str | None:
    """Return the reason why a text cannot be a key, as one clause; None if it can."""
    if len(value) > SECRET_LENGTH_MAX:
        return f"must have at most {SECRET_LENGTH_MAX} characters"
    if is_quoted(value):
        return QUOTED
    if not all("!" <= character <= "~" for character in value):
        return "must consist of visible ASCII characters, because it is sent in a header"
    return None
