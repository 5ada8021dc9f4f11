"""The settings of the environment as one object: read, checked, with all problems reported at once.

The variables are defined in `variables/`. Independent of the configuration file.
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

CLIENT_VARIABLES = frozenset(  # read only by the commands that call a server
    f"AGENT_SERVICE_{name}" for name in ("TARGET", "TLS", "CA_FILE", "CERT_FILE", "KEY_FILE", "SERVER_NAME")
)
_RENAMED = {
    "AGENT_SDK_ENV": "AGENT_SERVICE_ENV",
    "AGENT_SDK_LOG_LEVEL": "AGENT_SERVICE_LOG_LEVEL",
    "AGENT_SDK_CONFIG_PATH": "AGENT_SERVICE_CONFIG_PATH",
}


class Settings(
    # pydantic lists the fields of the last base first. Read upwards, this is the order of `.env.example`.
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
    """The settings of one process. Durations are in seconds. Frozen; secrets are masked."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def database_path(self) -> Path | None:
        """Return the SQLite file; None: in memory."""
        return None if self.database_url == MEMORY else Path(self.database_url.removeprefix(SQLITE))

    def is_set(self, field: str) -> bool:
        """Return whether the environment sets the field, even to its default."""
        return field in self.model_fields_set


def variables() -> dict[str, str]:
    """Return the field's name of each variable, in the order of the reference."""
    return {str(field.alias): name for name, field in Settings.model_fields.items()}


# Values accepted by OpenTelemetry's standard or by an SDK of another language, but not by this service.
_TRACES_ELSEWHERE = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": r"grpc|http/json",
    "OTEL_EXPORTER_OTLP_ENDPOINT": r"[A-Za-z0-9.-]+:\d+|unix:.*",
    "OTEL_EXPORTER_OTLP_HEADERS": r"[ -~]*",
    "OTEL_SERVICE_NAME": r"[\w .,:;/@()+-]*",
    "OTEL_TRACES_SAMPLER": r"(parentbased_)?jaeger_remote|xray",
    "OTEL_TRACES_SAMPLER_ARG": r"\w+=[!-~]*",
}


def ignored_traces(environment: Environment, settings: Settings) -> dict[str, str]:
    """Return OpenTelemetry's variables with values that this service does not support, with a text, if nothing is
    traced. Then they do no harm, and other programs of the machine may use them.
    """
    if settings.otel_traces_exporter != "none" and settings.otel_traces_sampler != "always_off":
        return {}
    given = {name: value for name, value in environment.values.items() if _is_of_traces(name)}
    if not given:
        return {}
    try:
        TracesVariables.model_validate(given)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        texts = {str(error["loc"][0]): f"is ignored while nothing is traced: {in_words(error)}" for error in errors}
        elsewhere = _TRACES_ELSEWHERE.items()
        return {name: texts[name] for name, form in elsewhere if name in texts and re.fullmatch(form, given[name])}
    return {}


def _is_of_traces(name: str) -> bool:
    """Return whether the variable configures tracing, other than the exporter that enables it."""
    return name.startswith("OTEL_") and name != "OTEL_TRACES_EXPORTER" and name in variables()


def read_settings(environment: Environment) -> tuple[Settings, list[Problem]]:
    """Return the settings and their problems. Fields with a problem have their default, so that later checks can find
    further problems.
    """
    given = {name: environment.values[name] for name in variables() if name in environment.values}
    # A placeholder of an example counts as unset.
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
    """Report ports that equal another port of this process. A port with another problem is not reported twice."""
    ports = {
        "API_PORT": settings.api_port,
        "METRICS_PORT": settings.metrics_port if settings.metrics_enabled else 0,
        "HEALTH_PORT": settings.health_port or 0,
    }
    problems = []
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port and name not in wrong and taken.setdefault(port, name) != name:
            problems.append(environment.problem(name, f"must differ from {taken[port]}"))
    return problems


def _half_tls(environment: Environment) -> list[Problem]:
    """Report a certificate without its key, or a key without its certificate: the port would not be protected."""
    pair = ("TLS_CERT_FILE", "TLS_KEY_FILE")
    named = [name for name in (*pair, "TLS_CLIENT_CA_FILE") if name in environment.values]
    lacking = [name for name in pair if name not in named]
    return [environment.problem(lacking[0], f"must be set if {named[0]} is set")] if named and lacking else []


def _placeholders(environment: Environment, given: Mapping[str, str]) -> list[Problem]:
    return [
        environment.problem(name, f"'{value}' is a placeholder; production needs a real value")
        for name, value in given.items()
        if value in PLACEHOLDERS
    ]


def _keyless(environment: Environment, settings: Settings, known_wrong: set[str]) -> list[Problem]:
    """Report a missing or short API key in production. A key with another problem is not reported twice."""
    if settings.api_key is not None:
        if len(settings.api_key.get_secret_value()) >= API_KEY_LENGTH_MIN:
            return []
        return [environment.problem("API_KEY", f"production needs at least {API_KEY_LENGTH_MIN} characters")]
    if settings.api_keys_file is not None or settings.jwt_issuer is not None or "API_KEY" in known_wrong:
        return []
    text = f"production needs a key of at least {API_KEY_LENGTH_MIN} characters, or API_KEYS_FILE or JWT_ISSUER"
    return [environment.problem("API_KEY", text)]


def _tokens(environment: Environment, settings: Settings, wrong: set[str]) -> list[Problem]:
    """Report an incomplete configuration of tokens: a token for another service must not be accepted."""
    if settings.jwt_issuer is None:
        if "JWT_ISSUER" in wrong:
            return []
        given = settings.model_dump(by_alias=True, exclude_defaults=True)
        return [environment.problem(name, "has no effect without JWT_ISSUER") for name in given if name[:4] == "JWT_"]
    if not settings.jwt_audience and "JWT_AUDIENCE" not in wrong:
        return [environment.problem("JWT_AUDIENCE", "must be set if JWT_ISSUER is set")]
    return []


def _absent(environment: Environment) -> list[Problem]:
    """Report settings of features that this version lacks. Ignoring them would mislead the operator."""
    if "REDIS_URL" not in environment.values:
        return []
    return [environment.problem("REDIS_URL", "this version does not support Redis; limits are per process")]


def _unknown(environment: Environment) -> list[Problem]:
    known = variables()
    problems = []
    for name in sorted(environment.values.keys() - known.keys() - CLIENT_VARIABLES):
        if name in _RENAMED:
            problems.append(environment.problem(name, f"is named {_RENAMED[name]} here"))
        elif name.startswith(("AGENT_SERVICE_", "TLS_")) and not environment.is_kubernetes(name):
            text = "is not a variable of this service"
            # `AGENT_SERVICE_API_PORT` means API_PORT.
            bare = name.removeprefix("AGENT_SERVICE_")
            problems.append(environment.problem(name, text + (did_you_mean(bare, known) or did_you_mean(name, known))))
    return problems


def _hint(environment: Environment, name: str) -> str:
    if name.endswith("_PORT") and environment.is_kubernetes(name):
        return " (Kubernetes set this variable for a Service of that name: set enableServiceLinks: false)"
    return ""
