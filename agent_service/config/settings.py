"""What the environment says, as one object: read, checked, and with every problem told at once.

The variables themselves stand in `variables/`. Knows nothing of the configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from agent_service.config.problems import Problem, in_words
from agent_service.config.sources.environment import PLACEHOLDERS, Environment
from agent_service.config.values import MEMORY, QUOTED, SQLITE, is_quoted
from agent_service.config.variables.admission import AdmissionVariables
from agent_service.config.variables.api import ApiVariables
from agent_service.config.variables.connections import ConnectionsVariables
from agent_service.config.variables.limits import LimitsVariables
from agent_service.config.variables.models import ModelsVariables
from agent_service.config.variables.observability import ObservabilityVariables
from agent_service.config.variables.process import ServiceVariables
from agent_service.config.variables.store import StoreVariables
from agent_service.config.variables.tls import TlsVariables
from agent_service.config.variables.tokens import TokensVariables
from agent_service.config.variables.traces import TracesVariables
from agent_service.text.suggestions import did_you_mean

API_KEY_LENGTH_MIN = 32  # in production

CLIENT_VARIABLES = frozenset(  # read by the commands that call a server, and by nothing else
    f"AGENT_SERVICE_{name}" for name in ("TARGET", "TLS", "CA_FILE", "CERT_FILE", "KEY_FILE", "SERVER_NAME")
)
_RENAMED = {
    "AGENT_SDK_ENV": "AGENT_SERVICE_ENV",
    "AGENT_SDK_LOG_LEVEL": "AGENT_SERVICE_LOG_LEVEL",
    "AGENT_SDK_CONFIG_PATH": "AGENT_SERVICE_CONFIG_PATH",
}


class Settings(
    # pydantic lists the fields of the last base first: from the last to the first, the order of `.env.example`.
    TracesVariables,
    ObservabilityVariables,
    StoreVariables,
    ConnectionsVariables,
    AdmissionVariables,
    LimitsVariables,
    ModelsVariables,
    TokensVariables,
    TlsVariables,
    ApiVariables,
    ServiceVariables,
):
    """The settings of one process. Durations are in seconds. Frozen; secrets show as stars."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def database_path(self) -> Path | None:
        """The SQLite file; None: in memory."""
        return None if self.database_url == MEMORY else Path(self.database_url.removeprefix(SQLITE))

    def is_set(self, field: str) -> bool:
        """Return whether the environment sets the field, be it to its default."""
        return field in self.model_fields_set


def variables() -> dict[str, str]:
    """The name of each variable, with the name of its field, in the order of their reference."""
    return {str(field.alias): name for name, field in Settings.model_fields.items()}


# What OpenTelemetry's standard, or the SDK of some language, takes where this service takes less.
_TRACES_ELSEWHERE = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": r"grpc|http/json",
    "OTEL_EXPORTER_OTLP_ENDPOINT": r"[A-Za-z0-9.-]+:\d+|unix:.*",
    "OTEL_EXPORTER_OTLP_HEADERS": r"[ -~]*",
    "OTEL_SERVICE_NAME": r"[\w .,:;/@()+-]*",
    "OTEL_TRACES_SAMPLER": r"(parentbased_)?jaeger_remote|xray",
    "OTEL_TRACES_SAMPLER_ARG": r"\w+=[!-~]*",
}


def ignored_traces(environment: Environment, settings: Settings) -> dict[str, str]:
    """Return what this service cannot take of OpenTelemetry's variables, by name, where that does no harm: nothing is
    traced, and other programs of the machine may take it.
    """
    if settings.otel_traces_exporter != "none" and settings.otel_traces_sampler != "always_off":
        return {}
    given = {name: value for name, value in environment.values.items() if _is_of_traces(name)}
    try:
        TracesVariables.model_validate(given)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        told = {str(one["loc"][0]): f"is ignored while nothing is traced: {in_words(one)}" for one in errors}
        elsewhere = _TRACES_ELSEWHERE.items()
        return {name: told[name] for name, form in elsewhere if name in told and re.fullmatch(form, given[name])}
    return {}


def _is_of_traces(name: str) -> bool:
    """Return whether it says how to trace, not whether."""
    return name.startswith("OTEL_") and name != "OTEL_TRACES_EXPORTER" and name in variables()


def read_settings(environment: Environment) -> tuple[Settings, list[Problem]]:
    """The settings, and all that is wrong with them. Fields with a problem have their default, so that whoever reads on
    can find the other problems.
    """
    given = {name: environment.values[name] for name in variables() if name in environment.values}
    # What an example says to replace is nothing that anybody set.
    chosen = {name: value for name, value in given.items() if value not in PLACEHOLDERS}
    problems: list[Problem] = []
    errors: dict[str, str] = {}
    try:
        settings = Settings.model_validate(chosen)
    except ValidationError as exc:
        errors = {str(error["loc"][0]): in_words(error) for error in exc.errors(include_url=False)}
        settings = Settings.model_validate({name: value for name, value in chosen.items() if name not in errors})
        ignored = ignored_traces(environment, settings) if "OTEL_TRACES_EXPORTER" not in errors else {}
        problems = [
            environment.problem(name, text + _hint(environment, name))
            for name, text in errors.items()
            if name not in ignored
        ]
    wrong = {problem.path for problem in problems}
    problems += [
        environment.problem(name, QUOTED)
        for name in given
        if is_quoted(given[name]) and name not in wrong | errors.keys()
    ]
    problems += _shared_ports(environment, settings, wrong) + _half_tls(environment)
    problems += _tokens(environment, settings, wrong)
    if settings.is_production:
        problems += _placeholders(environment, given)
        problems += _keyless(environment, settings, known_wrong=wrong | (given.keys() - chosen.keys()))
    return settings, problems + _absent(environment) + _unknown(environment)


def _shared_ports(environment: Environment, settings: Settings, wrong: set[str]) -> list[Problem]:
    """Ports that are taken by another of this process. One with a problem of its own is not told twice."""
    ports = {
        "API_PORT": settings.api_port,
        "METRICS_PORT": settings.metrics_port if settings.metrics_enabled else 0,
        "HEALTH_PORT": settings.health_port or 0,
    }
    problems = []
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port and name not in wrong and taken.setdefault(port, name) != name:
            problems.append(environment.problem(name, f"must not be that of {taken[port]}"))
    return problems


def _half_tls(environment: Environment) -> list[Problem]:
    """A certificate without its key, or the other way round: nobody may take the port for a protected one."""
    pair = ("TLS_CERT_FILE", "TLS_KEY_FILE")
    named = [name for name in (*pair, "TLS_CLIENT_CA_FILE") if name in environment.values]
    lacking = [name for name in pair if name not in named]
    return [environment.problem(lacking[0], f"is needed beside {named[0]}")] if named and lacking else []


def _placeholders(environment: Environment, given: Mapping[str, str]) -> list[Problem]:
    return [
        environment.problem(name, f"'{value}' is a placeholder; production needs a real value")
        for name, value in given.items()
        if value in PLACEHOLDERS
    ]


def _keyless(environment: Environment, settings: Settings, known_wrong: set[str]) -> list[Problem]:
    """Production needs a key that cannot be guessed. One with a problem of its own is not told twice."""
    if settings.api_key is not None:
        if len(settings.api_key.get_secret_value()) >= API_KEY_LENGTH_MIN:
            return []
        return [environment.problem("API_KEY", f"production needs at least {API_KEY_LENGTH_MIN} characters")]
    if settings.api_keys_file is not None or settings.jwt_issuer is not None or "API_KEY" in known_wrong:
        return []
    text = f"production needs a key of at least {API_KEY_LENGTH_MIN} characters, or API_KEYS_FILE or JWT_ISSUER"
    return [environment.problem("API_KEY", text)]


def _tokens(environment: Environment, settings: Settings, wrong: set[str]) -> list[Problem]:
    """Return what a token must say has to be said whole: one for another service must not pass here."""
    if settings.jwt_issuer is None:
        if "JWT_ISSUER" in wrong:
            return []
        told = settings.model_dump(by_alias=True, exclude_defaults=True)
        return [environment.problem(name, "means nothing without JWT_ISSUER") for name in told if name[:4] == "JWT_"]
    if not settings.jwt_audience and "JWT_AUDIENCE" not in wrong:
        return [environment.problem("JWT_AUDIENCE", "must be set beside JWT_ISSUER")]
    return []


def _absent(environment: Environment) -> list[Problem]:
    """Return what a later version may do must not be taken and ignored: somebody counts on it."""
    if "REDIS_URL" not in environment.values:
        return []
    return [environment.problem("REDIS_URL", "this version has no Redis; limits are per process")]


def _unknown(environment: Environment) -> list[Problem]:
    known = variables()
    problems = []
    for name in sorted(environment.values.keys() - known.keys() - CLIENT_VARIABLES):
        if name in _RENAMED:
            problems.append(environment.problem(name, f"is called {_RENAMED[name]} here"))
        elif name.startswith(("AGENT_SERVICE_", "TLS_")) and not environment.is_kubernetes(name):
            text = "is not a variable of this service"
            # `AGENT_SERVICE_API_PORT` means API_PORT.
            bare = name.removeprefix("AGENT_SERVICE_")
            problems.append(environment.problem(name, text + (did_you_mean(bare, known) or did_you_mean(name, known))))
    return problems


def _hint(environment: Environment, name: str) -> str:
    if name.endswith("_PORT") and environment.is_kubernetes(name):
        return " (Kubernetes set this one for a Service of that name: set enableServiceLinks: false)"
    return ""
