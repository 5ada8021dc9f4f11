"""Builds the parts of a service from the settings, except its agents."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from agent_service.bootstrap.bounds import admission_bounds, connection_bounds
from agent_service.config.model_parts import Price as PriceConfig
from agent_service.config.schema import Budget as BudgetConfig
from agent_service.config.schema import RateLimit
from agent_service.config.settings import Settings
from agent_service.config.values import nanos
from agent_service.engine.tenant_budgets import Budget
from agent_service.keys import secret
from agent_service.keys.base import Keys
from agent_service.keys.ring import KeyRing, default_key
from agent_service.limits.base import Limiter, Rule
from agent_service.limits.memory import MemoryLimiter
from agent_service.llm.price import Price
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.reloading import Reloading
from agent_service.server.app import ServerOptions
from agent_service.server.interceptors.auth_failures import auth_failures_rule
from agent_service.server.transport.base import MakeTransport
from agent_service.service.service import ServiceOptions
from agent_service.store.base import Database
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.tls.certificates import Certificates

if TYPE_CHECKING:
    from agent_service.tls.certificate_files import CertificateFiles


async def open_store(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Database:
    """Open the store: in a file, or in memory if the settings name no file.

    Raises:
        ConfigError: the file cannot be used.
    """
    if settings.database_path is None:
        from agent_service.store.memory import MemoryStore  # imported here: few services have no file

        return await stack.enter_async_context(MemoryStore())
    store = SqliteStore(settings.database_path, silence_max_s=settings.worker_silence_s, on_commit=metrics.committed)
    return await stack.enter_async_context(store)


async def callers(settings: Settings, log: EventLog, stack: AsyncExitStack) -> Keys:
    """Return the authenticator of callers: by key, and by token if the settings name an identity provider.

    Raises:
        ConfigError: a file is missing or not valid.
    """
    keys = known_keys(settings, log, stack)
    if settings.jwt_issuer is None:
        return keys
    # Imported here because it takes 0.2 s, and most services use no identity provider.
    from agent_service.keys.key_set import KeySet
    from agent_service.keys.tokens import TokenRules, Tokens

    key_set = KeySet(settings.jwt_issuer, settings.jwt_jwks, log)
    await key_set.begin()
    watching = asyncio.create_task(key_set.watch())
    stack.callback(watching.cancel)
    rules = TokenRules(
        settings.jwt_issuer,
        settings.jwt_audience,
        settings.jwt_tenant_claim,
        settings.jwt_scope_claim,
        settings.jwt_scope_prefix,
        settings.jwt_agents_claim,
        settings.jwt_tools_claim,
    )
    return Tokens(rules, key_set, keys)


def known_keys(settings: Settings, log: EventLog, stack: AsyncExitStack) -> Keys:
    """Return the keys of the environment and of the file. Without any key, development generates one for this start,
    and prints it once.

    Raises:
        ConfigError: the file is missing or not valid.
    """
    always = [default_key(settings.api_key.get_secret_value())] if settings.api_key else []
    if settings.api_keys_file is not None:
        from agent_service.keys.reloading_keys import ReloadingKeys  # imported here: it builds the types of the file

        keys = ReloadingKeys(settings.api_keys_file, log, always=always)
        watching = asyncio.create_task(keys.watch())
        stack.callback(watching.cancel)
        return keys
    if not always and settings.jwt_issuer is None:
        made = secret.generate(secret.new_public_id())
        sys.stderr.write(f"no API_KEY is set; for this start it is {made}\n")
        always = [default_key(made)]
    return KeyRing(always)


def certificates(
    settings: Settings, log: EventLog, metrics: Metrics, stack: AsyncExitStack
) -> Callable[[], Certificates] | None:
    """Return a function for the current certificates, which are reloaded when the files change; None without TLS.

    Raises:
        ConfigError: the files are missing or not valid.
    """
    files = certificate_files(settings)
    if files is None:
        return None
    reloading = Reloading("tls", files.paths, files.parse, log, _log_fields, ripens=True)
    watching = asyncio.create_task(reloading.watch())
    stack.callback(watching.cancel)
    metrics.watch_certificate(lambda: reloading.value.not_after.timestamp())
    return lambda: reloading.value


def certificate_files(settings: Settings) -> CertificateFiles | None:
    """Return the certificate files of the settings; None without TLS."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    from agent_service.tls.certificate_files import (
        CertificateFiles,  # imported here: most services have no such files
    )

    return CertificateFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def _log_fields(certificates: Certificates) -> Mapping[str, object]:
    return {"not_after": certificates.not_after.isoformat()}


def limiter_rules(limits: Iterable[RateLimit]) -> list[Rule]:
    """Return the configuration's limits as rules of the limiter."""
    return [
        Rule(
            name=limit.name,
            tenant=limit.match.tenant,
            agent=limit.match.agent,
            model=limit.match.model,
            per=frozenset(limit.per),
            calls_max=limit.max_calls,
            model_calls_max=limit.max_model_calls,
            tokens_max=limit.max_tokens,
            window_s=limit.window_seconds,
        )
        for limit in limits
    ]


def auth_failures_limiter(settings: Settings, metrics: Metrics) -> Limiter | None:
    """Return the limiter of failed authentications by peer; None if the settings disable it."""
    if not settings.auth_failures_max:
        return None
    rule = auth_failures_rule(settings.auth_failures_max, settings.rate_limit_window_s)
    return MemoryLimiter([rule], on_denied=metrics.limit_denied)


def tenant_budgets(budgets: Iterable[BudgetConfig]) -> list[Budget]:
    """Return the configuration's budgets as budgets of the engine."""
    return [
        Budget(
            name=budget.name,
            period=budget.period,
            tenant=budget.match.tenant,
            per_tenant="tenant" in budget.per,
            tokens_max=budget.max_tokens,
            cost_nanos_max=None if budget.max_cost is None else nanos(budget.max_cost),
        )
        for budget in budgets
    ]


def price_of(price: PriceConfig) -> Price:
    """Return a price of the configuration as exact integers."""
    cached_input = price.input if price.cached_input is None else price.cached_input
    return Price(nanos(price.input), nanos(cached_input), nanos(price.output))


def transport(settings: Settings) -> MakeTransport:
    """Return the transport that the settings name."""
    if settings.api_transport == "aio":
        from agent_service.server.transport.grpc_aio import AioTransport  # imported here, as the other one

        return AioTransport
    from agent_service.server.transport.loop.server import LoopTransport  # on names that are not public: docs/adr/0035

    return LoopTransport


def server_options(settings: Settings) -> ServerOptions:
    """Return the server's addresses, bounds and drain times."""
    return ServerOptions(
        transport=transport(settings),
        host=settings.api_host,
        port=settings.api_port,
        health_port=settings.health_port,
        reflection=settings.reflection_enabled,
        drain_delay_s=settings.drain_delay_s,
        drain_grace_s=settings.drain_grace_s,
        call_timeout_s=settings.call_timeout_s,
        admission=admission_bounds(settings),
        connections=connection_bounds(settings),
    )


def service_options(settings: Settings) -> ServiceOptions:
    """Return the service's bounds: reattach grace, queue length, retention."""
    return ServiceOptions(
        queued_max=settings.tasks_queued_max,
        reattach_grace_s=settings.reattach_grace_s,
        retention_s=settings.task_retention_days * 86_400,
    )


async def serve_channelz(settings: Settings, stack: AsyncExitStack) -> int:
    """Serve Channelz on a loopback port, if the settings name one. Return the port, or 0.

    Raises:
        ConfigError: the port cannot be bound.
    """
    if settings.channelz_port is None:
        return 0
    from agent_service.server.channelz import ChannelzServer  # imported here: rarely used

    server = ChannelzServer(settings.channelz_port)
    port = await server.start()
    stack.push_async_callback(server.stop)
    return port
