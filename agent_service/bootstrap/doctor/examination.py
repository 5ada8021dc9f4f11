"""Finds problems that would keep the service from running well here, with advice: `agent-service doctor`.

The checks change nothing: they create or migrate no store, keep no port, and send providers only requests for their
lists of models. Findings are yielded as they are found; a failed check does not hide another.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent_service.bootstrap.catalog import tool_problems, tool_registry
from agent_service.bootstrap.check import check_parts
from agent_service.bootstrap.doctor.running_server import AskHealth, why_not_serving
from agent_service.bootstrap.doctor.token_limits import unreachable_limits
from agent_service.bootstrap.models import ModelBuilder
from agent_service.bootstrap.parts import certificate_files
from agent_service.bootstrap.surroundings import check_http_client, long_descriptions
from agent_service.config.loader import Config, load
from agent_service.config.model_entry import KEY_VARIABLES
from agent_service.config.problems import ENVIRONMENT
from agent_service.config.settings import Settings
from agent_service.errors import ConfigError, LLMError
from agent_service.keys.file import load_keys
from agent_service.keys.ring import Key
from agent_service.llm.openai.endpoint import OPENAI_BASE_URL
from agent_service.reloading import read_all
from agent_service.store.sqlite.inspection import SCHEMA_NEWEST, Inspection, inspect
from agent_service.text.suggestions import nearest

EXPIRY_NEAR = timedelta(days=14)
FREE_BYTES_MIN = 1024**3
# With less free space, SQLite cannot open or write a store.
FULL_BYTES = 1024**2
FULL_DISK = "docs/runbooks.md#disk-full"
# SQLite errors whose cause is the system, not the content of the file.
OF_THE_SYSTEM = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_BUSY")
STORE_READ_S = 20.0
PROVIDER_S = 15.0
MODELS_LISTED_MAX = 5
# Each connection and each open file needs a descriptor; some systems allow only 1024.
DESCRIPTORS_MIN = 4096
CLOCK_AHEAD_MAX_S = 5.0
CLOCK_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


class Verdict(StrEnum):
    """OK; WARNING: it runs, and needs attention; PROBLEM: it does not run, or not correctly."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about a subject, with advice unless it is OK."""

    verdict: Verdict
    subject: str
    text: str
    advice: str = ""


Findings = AsyncIterator[Finding]


async def examine(environ: Mapping[str, str], ask_health: AskHealth) -> Findings:
    """Run all checks, in the order in which problems should be fixed."""
    try:
        config = load(environ, tool_problems=tool_problems)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(Verdict.PROBLEM, "configuration", problem, "docs/configuration.md says what is allowed")
        return
    settings = config.settings
    checks = [_configuration(config), _keys(settings), _tls(settings), _store(settings), _limits(config)]
    if _can_ask(config):
        checks += [_tokens(settings), _providers(config)]
    for check in (*checks, _ports(settings, ask_health), _system()):
        async for finding in check:
            yield finding


def _can_ask(config: Config) -> bool:
    """Return whether an HTTP client can be built; `_configuration` reports the reason if not."""
    try:
        check_http_client(config)
    except ConfigError:
        return False
    return True


async def _configuration(config: Config) -> Findings:
    subject = "configuration"
    where = str(config.path or "the embedded one")
    try:
        check_parts(config)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(
                Verdict.PROBLEM, subject, problem, "fix it; `agent-service config check` reports all problems"
            )
    else:
        agents, models = ", ".join(config.agents), ", ".join(config.models)
        yield Finding(Verdict.OK, subject, f"{where} is valid: agents {agents}; models {models}")
        for text in long_descriptions(config, tool_registry(config)):
            yield Finding(Verdict.WARNING, subject, text, "shorten it: OpenAI refuses the whole request")
    for notice in config.notices:
        if notice.source == ENVIRONMENT:
            yield Finding(Verdict.WARNING, ENVIRONMENT, str(notice), "set or unset it where the service is started")
        else:
            yield Finding(Verdict.WARNING, subject, str(notice), "change it, or what stands in its way")
    for key in sorted(config.stand_ins):
        text = f"model {key} has no API key and answers from a script"
        advice = f"set {_key_variable(config, key)}, or LLM_PROVIDER=scripted to mean it"
        yield Finding(Verdict.WARNING, subject, text, advice)


def _key_variable(config: Config, stand_in: str) -> str:
    """Return the variable for the key of a model that is scripted because it has no key."""
    declared = dict(config.document.mappings("models")).get(stand_in, {})
    return declared.get("api_key_env") or KEY_VARIABLES[declared.get("provider", "openai")]


async def _keys(settings: Settings) -> Findings:
    subject = "keys"
    if settings.api_key is not None:
        yield Finding(Verdict.OK, subject, "API_KEY is set: tenant default, every scope but admin")
    if settings.api_keys_file is None:
        if settings.api_key is None and settings.jwt_issuer is None:
            text = "there is none: one is made at each start, and every restart locks callers out"
            yield Finding(Verdict.WARNING, subject, text, "set API_KEY or API_KEYS_FILE")
        return
    path = settings.api_keys_file
    try:
        keys = load_keys(path)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(
                Verdict.PROBLEM, subject, problem, "`agent-service keys check` reports all problems of the file"
            )
        return
    for finding in _expiries(keys):
        yield finding
    if path.stat().st_mode & 0o022:
        text = f"{path} may be changed by others than its owner, who could make keys of their own"
        yield Finding(Verdict.PROBLEM, subject, text, f"chmod go-w {path}")
    yield Finding(Verdict.OK, subject, f"{path} has {len(keys)} keys")


def _expiries(keys: Iterable[Key]) -> Iterator[Finding]:
    now = datetime.now(UTC)
    for key in keys:
        name, ends = key.principal.key_id, key.expires
        if ends is None or key.disabled:
            continue
        if ends <= now:
            yield Finding(Verdict.WARNING, "keys", f"{name} has expired", "remove it, or make a new one: keys new")
        elif ends - now < EXPIRY_NEAR:
            text = f"{name} expires at {ends.isoformat()}"
            yield Finding(
                Verdict.WARNING, "keys", text, f"agent-service keys new --id {name}; both secrets may overlap"
            )


async def _tokens(settings: Settings) -> Findings:
    if settings.jwt_issuer is None:
        return
    from agent_service.keys.key_set import KeySet

    log = _ProblemLog()
    key_set = KeySet(settings.jwt_issuer, settings.jwt_jwks, log)
    source = settings.jwt_jwks or settings.jwt_issuer
    if await key_set.refresh():
        yield Finding(Verdict.OK, "tokens", f"the public keys of {source} are available")
    else:
        text = f"{source} {log.problem}: calls with a token are refused"
        yield Finding(Verdict.PROBLEM, "tokens", text, "check JWT_ISSUER, JWT_JWKS and the network")


class _ProblemLog:
    """Keeps the problem that a key set logs."""

    problem = ""

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None:
        self.problem = fields["problem"]


async def _tls(settings: Settings) -> Findings:
    subject = "tls"
    files = certificate_files(settings)
    if files is None:
        if settings.is_production:
            text = "there is none: keys and texts cross the network in the clear, unless something in front encrypts"
            yield Finding(Verdict.WARNING, subject, text, "set TLS_CERT_FILE and TLS_KEY_FILE (docs/operations.md)")
        return
    try:
        ends = files.parse(read_all(files.paths)).not_after
    except ConfigError:
        return  # told above
    if files.key.stat().st_mode & 0o007:
        yield Finding(
            Verdict.WARNING, subject, f"{files.key} is readable by every user of this machine", f"chmod o= {files.key}"
        )
    if ends - datetime.now(UTC) < EXPIRY_NEAR:
        text, advice = f"{files.chain} expires at {ends.isoformat()}", "renew it; the server reloads it"
        yield Finding(Verdict.WARNING, subject, text, advice)
    else:
        yield Finding(Verdict.OK, subject, f"{files.chain} is good until {ends.isoformat()}")


async def _store(settings: Settings) -> Findings:
    subject, path = "store", settings.database_path
    if path is None:
        text = "is in memory: a restart loses every task"
        yield Finding(Verdict.WARNING, subject, text, "set DATABASE_URL=sqlite:///agent_service.db")
        return
    free = shutil.disk_usage(path.parent).free
    if free < FULL_BYTES:
        text = f"the disk of {path.parent} is full: {free // 1024} KiB left, and new work is refused"
        yield Finding(Verdict.PROBLEM, subject, text, f"make room: {FULL_DISK}")
    elif free < FREE_BYTES_MIN:
        text = f"{path.parent} has {free // 1024**2} MiB left; when it is full, new work is refused"
        yield Finding(Verdict.WARNING, subject, text, "make room, or lower TASK_RETENTION_DAYS")
    if not path.exists():
        yield Finding(Verdict.OK, subject, f"{path} will be made at the first start")
        return
    late = time.monotonic() + STORE_READ_S
    try:
        seen = await asyncio.to_thread(inspect, path, is_late=lambda: time.monotonic() > late)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(Verdict.PROBLEM, subject, problem, _store_advice(path, error.__cause__))
        return
    for finding in _seen(path, seen):
        yield finding


def _store_advice(path: Path, cause: BaseException | None) -> str:
    """Return the advice for a store that cannot be opened. A failed read does not mean that the file is damaged."""
    is_of_the_system = isinstance(cause, OSError) or getattr(cause, "sqlite_errorname", "").startswith(OF_THE_SYSTEM)
    if not is_of_the_system:
        return "set DATABASE_URL to another file, or restore a backup (docs/runbooks.md#restore-from-a-backup)"
    if shutil.disk_usage(path.parent).free < FULL_BYTES:
        return f"make room first: the disk is full, and the file may be intact ({FULL_DISK})"
    return f"check the disk, its mount and the permissions of {path.parent}; the file may be intact"


def _seen(path: Path, seen: Inspection) -> Iterator[Finding]:
    subject = "store"
    if seen.damage:
        text = f"{path} is damaged: {seen.damage}"
        yield Finding(Verdict.PROBLEM, subject, text, "stop the service, and restore a backup (docs/operations.md)")
    elif seen.damage is None:
        text = f"{path} is too large to be read whole in {STORE_READ_S:g} s; what was read is sound"
        yield Finding(Verdict.OK, subject, text)
    if 0 < seen.schema < SCHEMA_NEWEST:
        text = f"{path} has schema {seen.schema}; the next start brings it to {SCHEMA_NEWEST}, and there is no way back"
        yield Finding(Verdict.WARNING, subject, text, "agent-service tasks backup FILE")
    ahead_s = seen.newest_us / 1e6 - time.time()
    if ahead_s > CLOCK_AHEAD_MAX_S:
        text = f"this machine's clock is {ahead_s:.0f} s behind the newest event in {path}"
        yield Finding(Verdict.PROBLEM, "clock", text, "set the clock; deadlines and limits go by it")
    size = f"{seen.size_bytes / 1024**2:.1f} MiB"
    yield Finding(Verdict.OK, subject, f"{path}: {seen.tasks} tasks, {seen.unfinished} of them unfinished, {size}")


async def _limits(config: Config) -> Findings:
    for text, advice in unreachable_limits(config):
        yield Finding(Verdict.PROBLEM, "limits", text, advice)


async def _providers(config: Config) -> Findings:
    async with AsyncExitStack() as stack:
        builder = ModelBuilder(stack)
        try:
            await builder.build(config)
        except ConfigError:
            return  # told above
        for key, ask in builder.asks.items():
            try:
                async with asyncio.timeout(PROVIDER_S):
                    listed = await ask()
            except LLMError as error:
                text = f"model {key}: {error.message} ({error.reason_name})"
                yield Finding(Verdict.PROBLEM, "provider", text, f"check {_request_text(config, key)}")
            except TimeoutError:
                text = f"model {key}: no answer in {PROVIDER_S:g} s"
                yield Finding(Verdict.PROBLEM, "provider", text, f"check the network and {_request_text(config, key)}")
            else:
                yield Finding(Verdict.OK, "provider", f"model {key} can be asked: {_request_text(config, key)}")
                for finding in _listed(config, key, listed or {}):
                    yield finding


def _request_text(config: Config, key: str) -> str:
    """Return the settings of a model's requests, and the place where they are set."""
    model = config.models[key]
    has_key = "has the key" if config.api_key(key) else "is unset"
    url = model.base_url or OPENAI_BASE_URL
    return (
        f"base_url {url}, model_id {model.model_id}, {model.key_variable} ({has_key}); {config.place(key, 'model_id')}"
    )


def _listed(config: Config, key: str, listed: Mapping[str, str | None]) -> Iterator[Finding]:
    """Yield the finding about a model in its provider's list. An empty list is no evidence."""
    name, place = config.models[key].model_id, config.place(key, "model_id")
    # Ollama and Gemini list names with a suffix or prefix that requests may omit.
    found = next((each for each in (name, f"{name}:latest", f"models/{name}") if each in listed), None)
    if found is not None:
        if ends := listed[found]:
            text = f"model {key}: {name} {_end_text(ends)}"
            yield Finding(Verdict.WARNING, "provider", text, f"set another model: {place}")
    elif listed and config.models[key].provider != "azure":  # its list is of models, and a deployment has its own name
        close = nearest(name, listed, MODELS_LISTED_MAX, cutoff=0.3) or sorted(listed)[:MODELS_LISTED_MAX]
        text = f"model {key}: the provider's list has no {name}"
        yield Finding(Verdict.WARNING, "provider", text, f"set one that there is, such as {', '.join(close)}: {place}")


def _end_text(text: str) -> str:
    try:
        ends = date.fromisoformat(text[:10])
    except ValueError:
        return f"ends: {text[:40]!r}"
    days = (ends - datetime.now(UTC).date()).days
    return f"ends on {ends}, in {days} days" if days >= 0 else f"ended on {ends}, {-days} days ago"


async def _ports(settings: Settings, ask_health: AskHealth) -> Findings:
    ports = {"API_PORT": (settings.api_host, settings.api_port)}
    if settings.health_port is not None:  # first: it can be asked without TLS
        ports = {"HEALTH_PORT": (settings.api_host, settings.health_port), **ports}
    first = next(iter(ports))
    if settings.metrics_enabled:
        ports["METRICS_PORT"] = (settings.metrics_host or settings.api_host, settings.metrics_port)
    ours = None
    for name, (host, port) in ports.items():
        problem = _cannot_listen(host, port)
        if not problem:
            yield Finding(Verdict.OK, "ports", f"{name} {port} is free" if port else f"{name} is any free one")
            continue
        if name == first:
            ours = await ask_health(target := f"localhost:{port}", "")
            if ours is not None:
                text = f"{name} {port}: a server of this kind runs there, and is {ours}"
                wrong = [] if ours == "SERVING" else [cause async for cause in why_not_serving(ask_health, target)]
                for why, advice in wrong:
                    yield Finding(Verdict.PROBLEM, "ports", f"{text}: {why}", advice)
                if not wrong:
                    yield Finding(Verdict.OK, "ports", text)
        if ours is None:
            yield Finding(Verdict.PROBLEM, "ports", f"{name} {port}: {problem}", f"stop what has it, or set {name}")


def _cannot_listen(host: str, port: int) -> str:
    """Return why the address cannot be bound; "" if it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        return "another process has it" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""


async def _system() -> Findings:
    now = datetime.now(UTC)
    if now < CLOCK_EARLIEST:
        text = f"says {now:%Y-%m-%d %H:%M} UTC, which is past"
        yield Finding(Verdict.PROBLEM, "clock", text, "set the clock; certificates, tokens and deadlines go by it")
    else:
        yield Finding(Verdict.OK, "clock", f"says {now:%Y-%m-%d %H:%M:%S} UTC")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS_MIN:
        text = f"this user may open {soft} files at once, and every connection is one"
        yield Finding(Verdict.WARNING, "system", text, f"ulimit -n {DESCRIPTORS_MIN}, or LimitNOFILE of the unit")
    if os.geteuid() == 0:
        text = "this is root, and the service needs none of its rights"
        yield Finding(Verdict.WARNING, "system", text, "run it as a user of its own")
