"""The reference manual of the configuration, as Markdown: `docs/configuration.md` is this text.

Generated from the types of `settings` and `schema`. This module names no setting except the sections of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent_service.config.describe import env_reference, json_schema
from agent_service.config.settings import Settings

Schema = Mapping[str, Any]

_HEAD = """\
# Configuration

<!-- Written by `agent-service config reference > docs/configuration.md`. -->

Settings and secrets come from the environment, models and agents from a file. Both are checked completely at the start:
`agent-service config check` reports all problems at once, with file and line. A server with a problem does not start
and exits 2. `agent-service config show` prints the effective configuration, with secrets masked.

## Environment variables

A variable of the process overrides the same one in `./.env`; an empty value counts as unset. `true` and `false` may
also be written as `1` and `0`, `yes` and `no`, `on` and `off`. Durations are in seconds. To begin, copy
[.env.example](../.env.example). A name that begins with `AGENT_SERVICE_` or `TLS_` and is in no table here is rejected;
so is `REDIS_URL`, which this version does not support. Any other name similar to that of a setting causes a notice,
because it may belong to another program. The commands that call a server also read `API_KEY` and `AGENT_SERVICE_TARGET`
(`host:port`) in this way, and `AGENT_SERVICE_TLS`, `AGENT_SERVICE_CA_FILE`, `AGENT_SERVICE_CERT_FILE`,
`AGENT_SERVICE_KEY_FILE` and `AGENT_SERVICE_SERVER_NAME`: see their `--help`.

White space around a value is removed. Quotation marks around a value are rejected, because they would be part of it (in
`.env` they are not). `.env` may be a named pipe, which is read once. Libraries read variables of their own, from the
process's environment and never from `.env`: proxies (`HTTPS_PROXY`, `NO_PROXY`), certificates (`SSL_CERT_FILE`),
`OPENAI_*`, `OTEL_*`, `GRPC_*`. Values that make every provider unreachable are rejected at the start; for other values
that matter, the start, `config check` and the doctor print a notice
([ADR 25](adr/0025-what-libraries-read-is-told.md)).
"""

_FILE_HEAD = """
## The file

Its path is `AGENT_SERVICE_CONFIG_PATH`, by default `./config.yaml`. Without a file, production runs one agent,
`assistant`, with the built-in tools; development also has `cashier`, whose tool requires an approval, and `accountant`,
whose answer fits a schema.

The format is plain YAML, at most 256 KiB. Anchors, aliases, merges and tags are rejected, and so are unknown settings,
and numbers that YAML reads differently than they look, such as 010 or 1:30.
[config.example.yaml](config.example.yaml) shows every setting in its place; `agent-service config schema` prints a JSON
Schema for editors. A running server reloads the file when its content changes, and on SIGHUP. Running tasks keep the
configuration with which they were accepted. A file with a problem changes nothing.
"""

_BY_FAMILY = object()  # a default that depends on other settings, which a JSON Schema cannot express

_HEADINGS: Mapping[str, str] = {
    "models": "`models.<key>`",
    "agents": "`agents.<name>`",
    "rate_limits": "`rate_limits[]`",
    "budgets": "`budgets[]`",
    "tools": "`tools`",
}


def reference() -> str:
    """Return the manual."""
    return _HEAD + "".join(_environment()) + _FILE_HEAD + "".join(_file())


def _environment() -> Iterator[str]:
    properties = Settings.model_json_schema(by_alias=True)["properties"]
    section = ""
    for variable in env_reference():
        if variable.section != section:
            section = variable.section
            yield f"\n### {section}\n\n| variable | value | default | meaning |\n|---|---|---|---|\n"
        default = f"`{variable.default}`" if variable.default else "unset"
        yield _row(f"`{variable.name}`", _takes(properties[variable.name]), default, variable.description)


def _file() -> Iterator[str]:
    whole = json_schema()
    definitions = whole["$defs"]
    for section, heading in _HEADINGS.items():
        given = whole["properties"][section]
        entry = _entry(given, definitions)
        about = " ".join(filter(None, (entry["description"], given.get("description"))))
        yield f"\n### {heading}\n\n{about}\n\n| setting | value | default | meaning |\n|---|---|---|---|\n"
        yield from _settings(entry, definitions, "")


def _entry(section: Schema, definitions: Schema) -> Schema:
    """Return the schema of one entry of a section."""
    patterns = section.get("patternProperties")
    inner = next(iter(patterns.values())) if patterns else section.get("items", section)
    entry: Schema = definitions[_name(inner)]
    return entry


def _settings(entry: Schema, definitions: Schema, prefix: str) -> Iterator[str]:
    for name, given in entry["properties"].items():
        mapping = next((each for each in (given, *given.get("anyOf", ())) if "$ref" in each), None)
        if mapping is not None:
            yield from _settings(definitions[_name(mapping)], definitions, f"{prefix}{name}.")
            continue
        default = "required" if name in entry.get("required", ()) else _default(given.get("default", _BY_FAMILY))
        meaning = given.get("description") or entry["description"]
        yield _row(f"`{prefix}{name}`", _takes(given), default, meaning)


def _takes(given: Schema) -> str:
    """Describe the valid values in a few words."""
    if "anyOf" in given:  # null means to omit the setting
        return ", or ".join(_takes(each) for each in given["anyOf"] if each["type"] != "null")
    if "const" in given:
        return f"`{given['const']}`"
    if "enum" in given:
        return " or ".join(f"`{value}`" for value in given["enum"])
    match given["type"]:
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number":
            return f"{given['type']}{_range(given)}"
        case "array":
            most = f", at most {given['maxItems']}" if "maxItems" in given else ""
            return f"list of {_takes(given['items'])}{most}"
        case "object" if given["additionalProperties"] is True:
            return "mapping"
        case "object":
            return f"mapping from names to {_takes(given['additionalProperties'])}"
    if "pattern" in given:
        return f"text like `{given['pattern']}`"
    kind = {"password": "secret", "path": "path"}.get(given.get("format", ""), "text")
    return f"{kind}, at most {given['maxLength']:,} characters" if "maxLength" in given else kind


def _range(given: Schema) -> str:
    least = f"above {given['exclusiveMinimum']:,}" if "exclusiveMinimum" in given else f"{given['minimum']:,}"
    return f", {least} to {given['maximum']:,}"


def _default(value: Any) -> str:
    match value:
        case None | "":
            return "none"
        case _ if value is _BY_FAMILY:
            return "by family"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case list():
            return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(_in_table(cell) for cell in cells) + " |\n"


def _in_table(text: str) -> str:
    """Escape text for a table cell. Within backticks only `|` is special; outside, `<path>` would be HTML."""
    outside = text.split("`")
    outside[::2] = [part.replace("<", "\\<") for part in outside[::2]]
    return "`".join(outside).replace("|", "\\|")


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
