"""Whether to send work here: named checks, asked again and again, told to health, log and metrics when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent_service.errors import AgentServiceError
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.server.health import Health

INTERVAL_S = 2.0
TIMEOUT_S = 1.0

# Returns when all is well; raises what is wrong.
Check = Callable[[], Awaitable[None]]


class Readiness:
    """Ready while every check passes and the server does not drain.

    `models` says which can be used now: health tells it of each, under a name of its own, and readiness leaves it to
    the checks.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        health: Health,
        log: EventLog,
        metrics: Metrics,
        models: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._models = models
        self._checks = checks
        self._health = health
        self._log = log
        self._metrics = metrics
        self._failing: dict[str, str] = {}
        self._draining = False

    async def run(self) -> None:
        """Check for ever: what health says is never older than INTERVAL_S + TIMEOUT_S."""
        while True:
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - else health would say for ever what it said last
                self._log.error("readiness_fault", error)
            await asyncio.sleep(INTERVAL_S)

    async def check(self) -> bool:
        """Ask every check once, all at the same time; whether the server is ready."""
        causes = await asyncio.gather(*map(_cause, self._checks.values()))
        for name, cause in zip(self._checks, causes, strict=True):
            self._note(name, cause)
        self._health.set_models(self._models())
        self._health.set_checks({name: name not in self._failing for name in self._checks})
        self._publish()
        return not self._failing

    def drain(self) -> None:
        """Not ready from now on, whatever the checks say."""
        self._draining = True
        self._publish()

    def _note(self, name: str, cause: str) -> None:
        if cause != self._failing.get(name, ""):
            if cause:
                self._log.warning("readiness_failing", check=name, cause=cause)
            else:
                self._log.info("readiness_recovered", check=name)
        if cause:
            self._failing[name] = cause
        else:
            self._failing.pop(name, None)
        self._metrics.ready(name).set(0 if cause else 1)

    def _publish(self) -> None:
        self._health.set_ready(not self._failing and not self._draining)


async def _cause(check: Check) -> str:
    """Return what a check finds wrong, in words that may be logged; empty if nothing."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except AgentServiceError as error:
        return f"{error.reason_name}: {error.message}"
    except Exception as error:  # noqa: BLE001 - a check that breaks is a check that fails
        return type(error).__name__
    return ""
