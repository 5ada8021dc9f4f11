"""Reads the whole configuration, environment and file, and reports all problems at once.

The file is `AGENT_SERVICE_CONFIG_PATH`, else `./config.yaml`, else an embedded one: `demo.yaml` in development,
`default.yaml` in production.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from agent_service.config import checks
from agent_service.config.checks import MODEL_DEFAULT
from agent_service.config.contradictions import contradictions
from agent_service.config.model_entry import REMOTE, Model
from agent_service.config.problems import Problem, config_error, dotted, in_words
from agent_service.config.schema import Agent, Budget, File, Match, RateLimit
from agent_service.config.settings import Settings, read_settings, variables
from agent_service.config.sources.document import Document, parse
from agent_service.config.sources.environment import Environment, read_environment
from agent_service.config.sources.operator_files import read_text
from agent_service.config.surroundings import notices
from agent_service.text.files import Unusable
from agent_service.text.yaml_document import Location

OPENAI_BASE_URL = "https://api.openai.com/v1"
RULE_DEFAULT = "default"  # the name of the rate limit of RATE_LIMIT_*

# Returns the problems of the tools that a file names, given the file and its path; None: the embedded file.
ToolProblems = Callable[[Document, Path | None], list[Problem]]

_STAND_IN: Mapping[str, Any] = {
    "provider": "scripted",
    "base_url": None,
    "api_version": None,
    "api_key_env": None,
    "headers": {},
    "headers_env": {},
}


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration with all defaults.

    `models` and `agents` are by key, in the file's order; a model's `name` is never empty, its `script` relative to the
    working directory. `rate_limits` begins with the rule of RATE_LIMIT_*, unless the file replaces it. `stand_ins` are
    the keys of models that are scripted only because they have no key (never in production). `path` is the file; None:
    the embedded one. `notices` are facts about a valid configuration that an operator should know.
    """

    settings: Settings
    models: Mapping[str, Model]
    agents: Mapping[str, Agent]
    default_agent: str
    rate_limits: tuple[RateLimit, ...]
    budgets: tuple[Budget, ...]
    tool_modules: tuple[str, ...]
    stand_ins: frozenset[str]
    path: Path | None
    notices: tuple[Problem, ...]
    document: Document = field(repr=False)
    api_keys: Mapping[str, SecretStr] = field(repr=False)
    secret_headers: Mapping[str, Mapping[str, SecretStr]] = field(repr=False)

    def api_key(self, model: str) -> SecretStr | None:
        """Return the provider's key for the model with this key, or None."""
        return self.api_keys.get(model)

    def headers(self, model: str) -> dict[str, str]:
        """Return the headers sent to the provider of the model with this key, including secrets."""
        secrets = self.secret_headers.get(model, {})
        revealed = {name: secret.get_secret_value() for name, secret in secrets.items()}
        return self.models[model].headers | revealed

    def problem(self, path: Location, text: str) -> Problem:
        """Return a problem of the file that is found later, by importing or connecting.

        For ("agents", "assistant", "class") it reads `config.yaml:7 agents.assistant.class: <text>`.
        """
        return self.document.problem(path, text)

    def place(self, model: str, setting: str) -> str:
        """Return the place of a model's setting, also if it is not set: `config.yaml:7 models.smart.temperature`, or
        `LLM_TEMPERATURE` for the model of the environment.
        """
        path = ("models", model, *setting.split("."))
        if model in self.document.keys("models"):
            return str(self.document.problem(path, "")).removesuffix(": ")
        variable = checks.MODEL_VARIABLES.get(setting)
        return variable or f"{dotted(path)} of a configuration file"


def load(
    environ: Mapping[str, str],
    *,
    dotenv_path: Path | None = Path(".env"),
    path_default: Path = Path("config.yaml"),
    tool_problems: ToolProblems | None = None,
) -> Config:
    """Read and check everything. Options of a command line are given as variables: `os.environ | {"API_PORT": "0"}`.

    `tool_problems` checks the tools that the file names. It is called only if there are other problems, to report all
    of them at once. If the file is valid, the code that loads the tools reports their problems.

    Raises:
        ConfigError: every problem of the environment, `.env` and the file.
    """
    environment, problems = read_environment(environ, dotenv_path)
    settings, more = read_settings(environment)
    problems += more + checks.check_files(settings, environment)
    path = _find(settings, path_default)
    document, more = _read(path, settings)
    problems += more
    if document is None:
        raise config_error(problems)
    file, more = _check(document, settings, environment, path)
    problems += more
    if problems or file is None:
        raise config_error(problems + (tool_problems(document, path) if tool_problems else []))
    return _resolve(file, document, settings, environment, path)


def load_settings(environ: Mapping[str, str], *, dotenv_path: Path | None = Path(".env")) -> Settings:
    """Read only the environment, for commands that need no configuration file.

    Raises:
        ConfigError: every problem of the environment and `.env`.
    """
    environment, problems = read_environment(environ, dotenv_path)
    settings, more = read_settings(environment)
    if problems or more:
        raise config_error([*problems, *more])
    return settings


def _find(settings: Settings, path_default: Path) -> Path | None:
    if settings.config_path is not None:
        return settings.config_path
    return path_default if os.path.lexists(path_default) else None


def _read(path: Path | None, settings: Settings) -> tuple[Document | None, list[Problem]]:
    if path is None:
        name = "default.yaml" if settings.is_production else "demo.yaml"
        return parse(Path(__file__).with_name(name).read_text("utf-8"), f"{name} (embedded)")
    try:
        text = read_text(path)
    except Unusable as exc:
        named_by = "" if settings.config_path is None else " (AGENT_SERVICE_CONFIG_PATH names it)"
        return None, [Problem(str(path), 0, "", f"{exc}{named_by}")]
    return parse(text, str(path))


def _check(
    document: Document, settings: Settings, environment: Environment, path: Path | None
) -> tuple[File | None, list[Problem]]:
    file, problems = checks.check_schema(document)
    declared = document.keys("models")
    problems += checks.check_names(document, declared or [MODEL_DEFAULT])
    problems += checks.check_prices(document, declared or [MODEL_DEFAULT])
    problems += checks.check_keys(document, settings, environment)
    if path is not None:
        problems += checks.check_model_source(document, environment)
    if not declared:
        problems += checks.check_environment_model(settings, environment)
    problems += checks.check_output_schemas(document)
    problems += checks.check_scripts(document, path.parent if path else Path())
    return file, problems


def _resolve(file: File, document: Document, settings: Settings, environment: Environment, path: Path | None) -> Config:
    """Apply the defaults that depend on the environment and on keys."""
    declared = dict(file.models) or {MODEL_DEFAULT: checks.environment_model(settings)}
    declared = {key: _with_base_url(key, model, settings, environment) for key, model in declared.items()}
    models: dict[str, Model] = {}
    api_keys: dict[str, SecretStr] = {}
    stand_ins = set()
    for key, model in declared.items():
        name = model.name or key
        script = str(path.parent / model.script) if path and model.script else model.script
        models[key] = model.model_copy(update={"name": name, "script": script})
        if model.provider in REMOTE:
            secret = environment.secret(model.key_variable)
            if secret is not None:
                api_keys[key] = secret
            elif checks.needs_key(model.provider, model.api_key_env, model.base_url):
                stand_ins.add(key)
                models[key] = models[key].model_copy(update=_STAND_IN)
    models = {key: _without(model, stand_ins) for key, model in models.items()}
    agents = {key: _with_timeout(agent) for key, agent in file.agents.items()}
    rate_limits = _rate_limits(file, settings)
    found = notices(environment, settings, models, frozenset(variables()))
    return Config(
        settings=settings,
        models=models,
        agents=agents,
        default_agent=next((key for key, agent in file.agents.items() if agent.default), next(iter(file.agents))),
        rate_limits=rate_limits,
        budgets=file.budgets,
        tool_modules=file.tools.modules,
        stand_ins=frozenset(stand_ins),
        path=path,
        notices=(*found, *contradictions(document, models, agents, rate_limits)),
        document=document,
        api_keys=api_keys,
        secret_headers={
            key: {name: SecretStr(environment.values[variable]) for name, variable in model.headers_env.items()}
            for key, model in models.items()
        },
    )


def _with_base_url(key: str, model: Model, settings: Settings, environment: Environment) -> Model:
    """Apply OPENAI_BASE_URL, and the defaults that depend on it, to a model of the provider openai without an address.

    Raises:
        ConfigError: the settings of the model contradict those defaults.
    """
    url = settings.openai_base_url
    if model.provider != "openai" or model.base_url is not None or url is None or url.rstrip("/") == OPENAI_BASE_URL:
        return model
    given = {name: getattr(model, name) for name in model.model_fields_set}
    try:
        return Model.model_validate(given | {"base_url": url})
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        text = f"is the address of model {key}: its {dotted(error['loc'])} {in_words(error)}"
        raise config_error([environment.problem("OPENAI_BASE_URL", text)]) from exc


def _without(model: Model, stand_ins: set[str]) -> Model:
    """Remove fallbacks that are scripted because they have no key: a script must not answer for a failed model."""
    return model.model_copy(update={"fallbacks": tuple(key for key in model.fallbacks if key not in stand_ins)})


def _with_timeout(agent: Agent) -> Agent:
    """Lower the default timeout to the maximum, if only the maximum is set lower."""
    return agent.model_copy(update={"timeout_s": min(agent.timeout_s, agent.timeout_max_s)})


def _rate_limits(file: File, settings: Settings) -> tuple[RateLimit, ...]:
    """Return the rule of RATE_LIMIT_*, without the maxima that an equal rule of the file sets, and the file's rules."""
    rules = file.rate_limits
    if any(rule.name == RULE_DEFAULT for rule in rules):
        return rules
    same = [rule for rule in rules if rule.match == Match() and rule.per == ("tenant",)]
    calls = None if any(rule.max_calls is not None for rule in same) else settings.rate_limit_calls
    tokens = None if any(rule.max_tokens is not None for rule in same) else settings.rate_limit_tokens
    if calls is None and tokens is None:
        return rules
    window_s = settings.rate_limit_window_s
    return (RateLimit(name=RULE_DEFAULT, max_calls=calls, max_tokens=tokens, window_seconds=window_s), *rules)
