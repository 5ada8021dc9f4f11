"""Checks of the configuration file across entries, and against the environment and the disk.

They read the parsed tree, not the validated models, so that one invalid number does not hide an invalid name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from agent_service.config.model_entry import API_KEY_ENV_DEFAULT, KEY_VARIABLES, REMOTE, Model
from agent_service.config.problems import Problem, in_words
from agent_service.config.schema import File
from agent_service.config.settings import Settings
from agent_service.config.sources.document import Document
from agent_service.config.sources.environment import PLACEHOLDERS, Environment, secret_flaw
from agent_service.config.sources.operator_files import check_writable
from agent_service.config.values import QUOTED, is_quoted, is_variable, valid_header_value
from agent_service.schemas.flaws import flaws
from agent_service.text.files import Unusable, check_readable
from agent_service.text.suggestions import did_you_mean, not_among
from agent_service.text.yaml_document import Location

MODEL_DEFAULT = "default"  # the key of the model that the environment defines

# Variables by setting of the model `default`: _DEFINING define it, the others change it.
_DEFINING = {"provider": "LLM_PROVIDER", "model_id": "LLM_MODEL", "base_url": "LLM_BASE_URL"}
_DEFINING_TEXT = "LLM_PROVIDER, LLM_MODEL or LLM_BASE_URL"
MODEL_VARIABLES = _DEFINING | {"api": "LLM_API", "temperature": "LLM_TEMPERATURE", "max_tokens": "LLM_MAX_TOKENS"}


def check_schema(document: Document) -> tuple[File | None, list[Problem]]:
    """Validate the document. Return the File, if it is valid, and every violation of the schema."""
    try:
        return File.model_validate(document.tree), []
    except ValidationError as exc:
        # A default that depends on a setting with a problem is no separate problem.
        errors = [error for error in exc.errors(include_url=False) if error["type"] != "default_factory_not_called"]
        return None, [_schema_problem(document, error) for error in errors if error["loc"] not in document.yaml.unread]


def check_names(document: Document, models: list[str]) -> list[Problem]:
    """Report references to unknown models and agents, duplicates, and tools or fallbacks that do not fit.

    `models` are the keys of all models, with the one that the environment defines.
    """
    problems = []
    agents = document.keys("agents")
    default = None
    for key, model in document.mappings("models"):
        problems += _foreign_fallbacks(document, key, model, models)
    for key, agent in document.mappings("agents"):
        named = agent.get("model")
        if isinstance(named, str) and named not in models:
            problems.append(document.problem(("agents", key, "model"), not_among(named, "model", models)))
        if agent.get("tools") and _has_no_tools(document, named):
            text = f"has tools, but models.{named} is declared unable to call tools"
            problems.append(document.problem(("agents", key, "model"), text))
        if agent.get("default") is True:
            if default is not None:
                problems.append(
                    document.problem(("agents", key, "default"), f"agents.{default} is already the default")
                )
            default = default or key
        problems += _foreign_tools(document, key, agent)
    problems += _repeated_names(document, "rate_limits") + _repeated_names(document, "budgets")
    for index, rule in _entries(document, "rate_limits"):
        match = rule.get("match")
        for kind, known in (("agent", agents), ("model", models)):
            named = match.get(kind) if isinstance(match, dict) else None
            if isinstance(named, str) and named not in ("*", *known):
                path = ("rate_limits", index, "match", kind)
                problems.append(document.problem(path, not_among(named, kind, known)))
    return problems


def unknown_tools(document: Document, tools: Collection[str]) -> list[Problem]:
    """Report tools of agents that are not in `tools`, the names of the registered tools."""
    problems = []
    for key, agent in document.mappings("agents"):
        named = agent.get("tools")
        for index, tool in enumerate(named if isinstance(named, list) else ()):
            if isinstance(tool, str) and tool not in tools:  # the schema reports other types
                problems.append(document.problem(("agents", key, "tools", index), not_among(tool, "tool", tools)))
    return problems


def check_prices(document: Document, models: list[str]) -> list[Problem]:
    """Report cost limits that cannot be enforced because a price is missing. `models` as in `check_names`."""
    unpriced = set(models) - {key for key, model in document.mappings("models") if model.get("price") is not None}
    problems = []
    for key, agent in document.mappings("agents"):
        limits, model = agent.get("limits"), agent.get("model")
        if isinstance(limits, dict) and limits.get("cost") is not None and model in unpriced:
            text = f"needs a price for models.{model} (0 if it is free)"
            problems.append(document.problem(("agents", key, "limits", "cost"), text))
    for index, budget in _entries(document, "budgets"):
        if budget.get("max_cost") is not None and unpriced:
            text = (
                f"needs a price for every model; there is none for {', '.join(sorted(unpriced)[:10])} (0 if it is free)"
            )
            problems.append(document.problem(("budgets", index, "max_cost"), text))
    return problems


def check_model_source(document: Document, environment: Environment) -> list[Problem]:
    """Report models defined both in the file and in the environment, or in neither."""
    chosen = [name for name in MODEL_VARIABLES.values() if name in environment.values]
    if not document.keys("models"):
        # The schema reports a section that is not a mapping.
        if set(chosen) & set(_DEFINING.values()) or document.tree.get("models", {}) != {}:
            return []
        text = f"is missing; without it, set {_DEFINING_TEXT} to define the model '{MODEL_DEFAULT}'"
        return [document.problem(("models",), text)]
    there = f"{document.source}:{document.yaml.line(('models',))} models"
    defines = f"defines a model, but {there} also does; remove one of the two"
    changes = f"changes the model of the environment, but {there} defines the models; set it there"
    return [environment.problem(name, defines if name in _DEFINING.values() else changes) for name in chosen]


def check_environment_model(settings: Settings, environment: Environment) -> list[Problem]:
    """Check the model `default`, if the environment defines it."""
    if settings.llm_provider == "scripted":
        if "LLM_BASE_URL" not in environment.values:
            return []
        return [environment.problem("LLM_BASE_URL", "does not fit the provider scripted, which calls no server")]
    if flaw := _environment_model_flaw(settings, environment):
        return [flaw]
    # The settings report an invalid LLM_PROVIDER.
    is_reported = "LLM_PROVIDER" in environment.values and not settings.is_set("llm_provider")
    sources = ("LLM_BASE_URL", "OPENAI_BASE_URL", API_KEY_ENV_DEFAULT)
    given = any(name in environment.values for name in sources)
    if not settings.is_production or is_reported or given:
        return []
    text = f"production needs it for the model '{MODEL_DEFAULT}'; without a provider, set LLM_PROVIDER=scripted"
    return [environment.problem(API_KEY_ENV_DEFAULT, text)]


def environment_model(settings: Settings) -> Model:
    """Return the model `default`.

    Raises:
        ValidationError: its settings contradict each other.
    """
    given = settings.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    entry = {setting: given[name] for setting, name in MODEL_VARIABLES.items() if name in given}
    if entry.get("temperature") == "none":
        entry["temperature"] = None
    return Model(**{"provider": settings.llm_provider, "model_id": settings.llm_model, **entry})


def check_keys(document: Document, settings: Settings, environment: Environment) -> list[Problem]:
    """Check the keys of declared models; in production, also that keys are set and no model is scripted."""
    problems = []
    for key, model in document.mappings("models"):
        path = ("models", key)
        if model.get("provider") == "scripted" and settings.is_production:
            text = "production rejects declared scripted models; omit `models` and set LLM_PROVIDER=scripted"
            problems.append(document.problem((*path, "provider"), text))
        provider = model.get("provider")
        if provider not in REMOTE:
            continue
        problems += _header_problems(document, path, model, environment)
        named = model.get("api_key_env")
        variable = named if isinstance(named, str) else KEY_VARIABLES[provider]
        if not is_variable(variable):  # the schema reports it; it may be a key
            continue
        value = environment.values.get(variable)
        if value is None:
            if settings.is_production and needs_key(provider, named, model.get("base_url")):
                problems.append(
                    document.problem(path, f"production needs {variable} in the environment for this model")
                )
        elif variable != API_KEY_ENV_DEFAULT:  # the settings report it
            problems += _key_problems(variable, value, settings, environment)
    return problems


def check_scripts(document: Document, directory: Path) -> list[Problem]:
    """Check the files named by models, relative to `directory`."""
    problems = []
    for key, model in document.mappings("models"):
        script = model.get("script")
        if (
            model.get("provider") == "scripted"
            and isinstance(script, str)
            and (flaw := _flaw(check_readable, directory / script))
        ):
            problems.append(document.problem(("models", key, "script"), flaw))
    return problems


def check_output_schemas(document: Document) -> list[Problem]:
    """Check the output schemas of agents."""
    words = [
        document.problem(path, "must be true or false, or quoted if it is text")
        for path in sorted(document.yaml.words, key=document.yaml.line)
        if path[0] == "agents" and "output_schema" in path[2:3]
    ]
    return words + [
        document.problem(("agents", key, "output_schema", *flaw.path), flaw.text)
        for key, agent in document.mappings("agents")
        if isinstance(schema := agent.get("output_schema"), dict)  # the schema reports other types
        for flaw in flaws(schema)
    ]


def check_files(settings: Settings, environment: Environment) -> list[Problem]:
    """Check the files named by the environment, except the configuration file."""
    read = {
        "API_KEYS_FILE": settings.api_keys_file,
        "TLS_CERT_FILE": settings.tls_cert_file,
        "TLS_KEY_FILE": settings.tls_key_file,
        "TLS_CLIENT_CA_FILE": settings.tls_client_ca_file,
    }
    problems = [
        environment.problem(name, flaw)
        for name, path in read.items()
        if path is not None and (flaw := _flaw(check_readable, path))
    ]
    if settings.database_path is not None and (flaw := _flaw(check_writable, settings.database_path)):
        problems.append(environment.problem("DATABASE_URL", flaw))
    return problems


def needs_key(provider: str, api_key_env: Any, base_url: Any) -> bool:
    """Return whether a model requires a key: self-hosted servers often need none."""
    return provider == "azure" or api_key_env is not None or base_url is None


def _environment_model_flaw(settings: Settings, environment: Environment) -> Problem | None:
    try:
        environment_model(settings)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        return environment.problem(MODEL_VARIABLES[str(error["loc"][0])], in_words(error))
    return None


def _foreign_fallbacks(document: Document, key: str, model: dict[str, Any], models: list[str]) -> list[Problem]:
    """Report fallbacks that are unknown, duplicate, scripted, or the model itself."""
    fallbacks = model.get("fallbacks")
    if not isinstance(fallbacks, list):  # the schema reports it
        return []
    providers = {other: entry.get("provider") for other, entry in document.mappings("models")}
    problems: list[Problem] = []
    for index, name in enumerate(fallbacks):
        path = ("models", key, "fallbacks", index)
        if not isinstance(name, str):  # the schema reports it
            continue
        if name == key:
            problems.append(document.problem(path, "is the same model"))
        elif name not in models:
            problems.append(document.problem(path, not_among(name, "model", models)))
        elif name in fallbacks[:index]:
            problems.append(document.problem(path, f"is a duplicate of [{fallbacks.index(name)}]"))
        elif model.get("provider") in REMOTE and providers.get(name) == "scripted":
            problems.append(
                document.problem(path, "is scripted; a scripted model cannot be the fallback of a real one")
            )
    return problems


def _has_no_tools(document: Document, key: Any) -> bool:
    model = dict(document.mappings("models")).get(key) if isinstance(key, str) else None
    capabilities = model.get("capabilities") if model else None
    return isinstance(capabilities, dict) and capabilities.get("tools") is False


def _header_problems(
    document: Document, path: Location, model: dict[str, Any], environment: Environment
) -> list[Problem]:
    """Report header variables that are unset or cannot be sent."""
    named = model.get("headers_env")
    problems = []
    for header, variable in named.items() if isinstance(named, dict) else ():
        if not isinstance(variable, str) or not is_variable(variable):  # the schema reports it
            continue
        value = environment.values.get(variable)
        if value is None:
            problems.append(document.problem((*path, "headers_env", header), f"{variable} is not set"))
            continue
        if is_quoted(value):
            problems.append(environment.problem(variable, QUOTED))
            continue
        try:
            valid_header_value(value)
        except ValueError as exc:
            problems.append(environment.problem(variable, str(exc)))
    return problems


def _foreign_tools(document: Document, key: str, agent: dict[str, Any]) -> list[Problem]:
    """Report approval rules for tools that the agent does not list."""
    tools, approval = agent.get("tools", []), agent.get("approval")
    if not isinstance(tools, list) or not isinstance(approval, dict):  # the schema reports it
        return []
    listed = [tool for tool in tools if isinstance(tool, str)]
    return [
        document.problem(
            ("agents", key, "approval", tool), "is not among the agent's tools" + did_you_mean(tool, listed)
        )
        for tool in approval
        if tool not in listed
    ]


def _key_problems(variable: str, value: str, settings: Settings, environment: Environment) -> list[Problem]:
    if value in PLACEHOLDERS:
        text = f"'{value}' is a placeholder; production needs a real value"
        return [environment.problem(variable, text)] if settings.is_production else []
    flaw = secret_flaw(value)
    return [environment.problem(variable, flaw)] if flaw else []


def _flaw(check: Callable[[Path], None], path: Path) -> str | None:
    try:
        check(path)
    except Unusable as exc:
        return f"the file {exc}"
    return None


def _repeated_names(document: Document, section: str) -> list[Problem]:
    """Report entries of a list with the name of an earlier entry."""
    problems = []
    names: dict[str, int] = {}
    for index, entry in _entries(document, section):
        name = entry.get("name")
        if isinstance(name, str) and names.setdefault(name, index) != index:
            text = f"is already the name of {section}[{names[name]}]"
            problems.append(document.problem((section, index, "name"), text))
    return problems


def _entries(document: Document, section: str) -> list[tuple[int, dict[str, Any]]]:
    entries = document.tree.get(section)
    return [
        (index, entry)
        for index, entry in enumerate(entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]


def _schema_problem(document: Document, error: Any) -> Problem:
    path = tuple(part for part in error["loc"] if part != "[key]")
    text = in_words(error)
    if error["type"] == "extra_forbidden":
        text = "is not a setting" + did_you_mean(str(path[-1]), _fields(path[:-1]))
    elif error["loc"][-1:] == ("[key]",):
        text = f"this name {text}"
    return document.problem(path, text)


def _unless_none(type_: Any) -> Any:
    """The settings that a field has where it is given, which it need not be; the type itself where it has none."""
    return next((each for each in get_args(type_) if each is not NoneType), type_) if _is_union(type_) else type_


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, UnionType)


def _fields(path: tuple[str | int, ...]) -> list[str]:
    """The names that the schema knows at a path."""
    type_: Any = File
    for part in path:
        if isinstance(type_, type) and issubclass(type_, BaseModel):
            field = next((field for name, field in type_.model_fields.items() if part in (name, field.alias)), None)
            type_ = _unless_none(field.annotation) if field else None
        else:  # a dict's or a tuple's entries
            type_ = next((each for each in get_args(type_) if isinstance(each, type)), None)
    if not (isinstance(type_, type) and issubclass(type_, BaseModel)):
        return []
    return [field.alias or name for name, field in type_.model_fields.items()]
