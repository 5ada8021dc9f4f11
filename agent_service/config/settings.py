"""What the environment says: one field per variable, its type, bounds, default and meaning.

A field's alias is the variable's name, its title the heading under which `.env.example` lists it, its description the
sentence that stands there. Knows nothing of the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from agent_service.config.environment import PLACEHOLDERS, Environment, read_environment, secret_flaw
from agent_service.config.problems import Problem, config_error, in_words, near_miss
from agent_service.config.values import MEMORY, SQLITE, valid_database_url, valid_host, valid_http_url

API_KEY_LENGTH_MIN = 32  # in production

_FOREIGN = frozenset({"AGENT_SERVICE_TARGET"})  # the client CLI's
_RENAMED = {
    "AGENT_SDK_ENV": "AGENT_SERVICE_ENV",
    "AGENT_SDK_LOG_LEVEL": "AGENT_SERVICE_LOG_LEVEL",
    "AGENT_SDK_CONFIG_PATH": "AGENT_SERVICE_CONFIG_PATH",
}


def _secret(value: SecretStr) -> SecretStr:
    if flaw := secret_flaw(value.get_secret_value()):
        raise ValueError(flaw)
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """The settings of one process. Durations are in seconds. Frozen; secrets show as stars."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    environment: Literal["development", "production"] = Field(
        default="development",
        alias="AGENT_SERVICE_ENV",
        title="Service",
        description="Development makes what is missing (a key, a scripted model); production refuses to start instead.",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(lambda text: str(text).upper())
    ] = Field(
        default="INFO",
        alias="AGENT_SERVICE_LOG_LEVEL",
        title="Service",
        description="The least severe level that is logged: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
    )
    config_path: Path | None = Field(
        default=None,
        alias="AGENT_SERVICE_CONFIG_PATH",
        title="Service",
        description="The YAML file with models and agents; unset, ./config.yaml, and where there is none, one agent.",
    )
    tasks_running_max: int = Field(
        default=1000,
        alias="TASKS_RUNNING_MAX",
        title="Service",
        description="How many tasks this process works on at once; more of them wait or are refused.",
        ge=1,
        le=100_000,
    )
    task_length_max: int = Field(
        default=10_000,
        alias="TASK_LENGTH_MAX",
        title="Service",
        description="The longest text of a task, in Unicode code points.",
        ge=1,
        le=500_000,  # 2 MB of UTF-8 at worst: it must fit a request, and every answer that repeats it
    )
    drain_delay_s: float = Field(
        default=0.0,
        alias="DRAIN_DELAY",
        title="Service",
        description="Seconds from SIGTERM until new work is refused: the time that load balancers need to notice.",
        ge=0,
        le=600,
        allow_inf_nan=False,
    )
    drain_grace_s: float = Field(
        default=20.0,
        alias="DRAIN_GRACE",
        title="Service",
        description="Seconds that running tasks then have to finish before they are let go, to be resumed later.",
        ge=0,
        le=3600,
        allow_inf_nan=False,
    )
    tasks_queued_max: int = Field(
        default=1000,
        alias="TASKS_QUEUED_MAX",
        title="Service",
        description="Submitted tasks of one tenant that may wait for their turn; more are refused.",
        ge=1,  # a task of a session takes its place in line even where it can run at once
        le=1_000_000,
    )
    reattach_grace_s: float = Field(
        default=10.0,
        alias="REATTACH_GRACE",
        title="Service",
        description="Seconds that a task with a request_id runs on after its last caller went away, because the"
        " repetition of the call may be on its way.",
        ge=0,
        le=300,
        allow_inf_nan=False,
    )
    api_key: Secret | None = Field(
        default=None,
        alias="API_KEY",
        title="API",
        description="The key that callers send; production needs 32 characters or more (or API_KEYS_FILE), development"
        " makes one when it is unset.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        alias="API_KEYS_FILE",
        title="API",
        description="A YAML file of hashed keys, each with its tenant and scopes; read again when it changes.",
    )
    api_host: Annotated[str, AfterValidator(valid_host)] = Field(
        default="0.0.0.0",  # noqa: S104 - the service is made to be reached; every call needs a key
        alias="API_HOST",
        title="API",
        description="The address to listen on.",
    )
    api_port: Port = Field(
        default=9000, alias="API_PORT", title="API", description="The gRPC port; 0 takes any free one."
    )
    reflection_enabled: bool = Field(
        default=True,
        alias="REFLECTION_ENABLED",
        title="API",
        description="Whether tools such as grpcurl can ask for the contract, without a key.",
    )
    openai_api_key: Secret | None = Field(
        default=None,
        alias="OPENAI_API_KEY",
        title="Models",
        description="The provider's key; without one, development answers with a scripted model.",
    )
    llm_provider: Literal["openai", "scripted"] = Field(
        default="openai",
        alias="LLM_PROVIDER",
        title="Models",
        description="The provider of the model `default`, where the configuration file declares no models: openai (and"
        " whatever speaks its API) or scripted.",
    )
    llm_model: Annotated[str, Field(max_length=200)] = Field(
        default="gpt-4",
        alias="LLM_MODEL",
        title="Models",
        description="What the provider calls the model `default`.",
    )
    llm_base_url: Annotated[str, AfterValidator(valid_http_url)] | None = Field(
        default=None,
        alias="LLM_BASE_URL",
        title="Models",
        description="Where the provider of the model `default` listens, such as http://localhost:11434/v1 for Ollama;"
        " unset, OpenAI.",
    )
    readiness_provider: bool = Field(
        default=False,
        alias="READINESS_PROVIDER",
        title="Models",
        description="Whether the service is unready while its model provider cannot be reached.",
    )
    rate_limit_calls: int = Field(
        default=100,
        alias="RATE_LIMIT_CALLS",
        title="Rate limits",
        description="Calls that each tenant may make in a window: the rule `default`, which the configuration file may"
        " replace.",
        ge=1,
        le=1_000_000_000,
    )
    rate_limit_tokens: int = Field(
        default=10_000,
        alias="RATE_LIMIT_TOKENS",
        title="Rate limits",
        description="Model tokens that each tenant may use in a window.",
        ge=1,
        le=1_000_000_000_000,
    )
    rate_limit_window_s: float = Field(
        default=60.0,
        alias="RATE_LIMIT_WINDOW",
        title="Rate limits",
        description="The length of that window in seconds.",
        ge=1,
        le=86_400,
        allow_inf_nan=False,
    )
    auth_failures_max: int = Field(
        default=60,
        alias="AUTH_FAILURES_MAX",
        title="Rate limits",
        description="Failed authentications of one address in such a window that are answered as such; more are told to"
        " wait, while valid keys from there always pass. 0 for no limit.",
        ge=0,
        le=1_000_000,
    )
    database_url: Annotated[str, AfterValidator(valid_database_url)] = Field(
        default="sqlite:///agent_service.db",
        alias="DATABASE_URL",
        title="Store",
        description="Where tasks are kept: sqlite:///<path> (four slashes for an absolute one), or memory: to keep"
        " nothing.",
    )
    task_retention_days: float = Field(
        default=30.0,
        alias="TASK_RETENTION_DAYS",
        title="Store",
        description="Days that finished tasks are kept, with all that they did; 0 keeps them for ever. Below 1, their"
        " request_ids are forgotten before their 24 hours are over.",
        ge=0,
        le=36_500,
        allow_inf_nan=False,
    )
    log_format: Literal["json", "console"] = Field(
        default="json",
        alias="LOG_FORMAT",
        title="Observability",
        description="How a line of the log is written: json for machines, console for people.",
    )
    metrics_enabled: bool = Field(
        default=True,
        alias="METRICS_ENABLED",
        title="Observability",
        description="Whether Prometheus metrics are served.",
    )
    metrics_port: Port = Field(
        default=9464,
        alias="METRICS_PORT",
        title="Observability",
        description="The HTTP port of the metrics; 0 takes any free one.",
    )

    @staticmethod
    def load(environ: Mapping[str, str], dotenv_path: Path | None = None) -> Settings:
        """The settings alone, without the configuration file. `environ` wins over the file at `dotenv_path`.

        Raises:
            ConfigError: every problem of the environment and of that file.
        """
        environment, problems = read_environment(environ, dotenv_path)
        settings, more = read_settings(environment)
        if problems or more:
            raise config_error([*problems, *more])
        return settings

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def database_path(self) -> Path | None:
        """The SQLite file; None: in memory."""
        return None if self.database_url == MEMORY else Path(self.database_url.removeprefix(SQLITE))

    def is_set(self, field: str) -> bool:
        """Whether the environment sets the field, be it to its default."""
        return field in self.model_fields_set


def variables() -> dict[str, str]:
    """The name of each variable, with the name of its field, in the order of their reference."""
    return {str(field.alias): name for name, field in Settings.model_fields.items()}


def read_settings(environment: Environment) -> tuple[Settings, list[Problem]]:
    """The settings, and all that is wrong with them. Fields with a problem have their default, so that whoever reads on
    can find the other problems.
    """
    given = {name: environment.values[name] for name in variables() if name in environment.values}
    # What an example says to replace is nothing that anybody set.
    chosen = {name: value for name, value in given.items() if value not in PLACEHOLDERS}
    problems: list[Problem] = []
    try:
        settings = Settings.model_validate(chosen)
    except ValidationError as exc:
        errors = {str(error["loc"][0]): in_words(error) for error in exc.errors(include_url=False)}
        problems = [environment.problem(name, text + _hint(environment, name)) for name, text in errors.items()]
        settings = Settings.model_validate({name: value for name, value in chosen.items() if name not in errors})
    wrong = {problem.path for problem in problems}
    if (
        settings.metrics_enabled
        and settings.metrics_port == settings.api_port != 0
        and not wrong & {"API_PORT", "METRICS_PORT"}
    ):
        problems.append(environment.problem("METRICS_PORT", "must not be that of API_PORT"))
    if settings.is_production:
        problems += _placeholders(environment, given)
        problems += _keyless(environment, settings, known_wrong=wrong | (given.keys() - chosen.keys()))
    return settings, problems + _absent(environment) + _unknown(environment)


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
    if settings.api_keys_file is not None or "API_KEY" in known_wrong:
        return []
    text = f"production needs a key of at least {API_KEY_LENGTH_MIN} characters, or API_KEYS_FILE"
    return [environment.problem("API_KEY", text)]


def _absent(environment: Environment) -> list[Problem]:
    """What a later version may do must not be taken and ignored: somebody counts on it."""
    problems = []
    for name in environment.values:
        if name == "REDIS_URL":
            problems.append(environment.problem(name, "this version has no Redis; limits are per process"))
        elif name.startswith("TLS_") and not environment.is_kubernetes(name):
            problems.append(environment.problem(name, "this version has no TLS; put a proxy in front"))
    return problems


def _unknown(environment: Environment) -> list[Problem]:
    known = variables()
    problems = []
    for name in sorted(environment.values.keys() - known.keys() - _FOREIGN):
        if name in _RENAMED:
            problems.append(environment.problem(name, f"is called {_RENAMED[name]} here"))
        elif name.startswith("AGENT_SERVICE_") and not environment.is_kubernetes(name):
            text = "is not a variable of this service"
            # `AGENT_SERVICE_API_PORT` means API_PORT.
            bare = name.removeprefix("AGENT_SERVICE_")
            problems.append(environment.problem(name, text + (near_miss(bare, known) or near_miss(name, known))))
    return problems


def _hint(environment: Environment, name: str) -> str:
    if name.endswith("_PORT") and environment.is_kubernetes(name):
        return " (Kubernetes set this one for a Service of that name: set enableServiceLinks: false)"
    return ""
