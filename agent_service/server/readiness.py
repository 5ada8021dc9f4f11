"""Readiness: runs named checks periodically, and reports changes to health, log and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent_service.errors import AgentServiceError
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.server.health import Health

INTERVAL_S = 2.0
TIMEOUT_S = 1.0

# Returns if the check passes; raises an error otherwise.
Check = Callable[[], Awaitable[None]]


class Readiness:
    """Ready while every check passes and the server does not drain.

    `models` returns which models can be used now. Health reports each under its own name; they affect readiness only
    through the checks.
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
        """Check until cancelled. The reported health is never older than INTERVAL_S + TIMEOUT_S."""
        while True:
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - otherwise health would stay at its last status
                self._log.error("readiness_fault", error)
            await asyncio.sleep(INTERVAL_S)

    async def check(self) -> bool:
        """Run every check once, all at the same time. Return whether the server is ready."""
        causes = await asyncio.gather(*map(_cause, self._checks.values()))
        for name, cause in zip(self._checks, causes, strict=True):
            self._note(name, cause)
        self._health.set_models(self._models())
        self._health.set_checks({name: name not in self._failing for name in self._checks})
        self._publish()
        return not self._failing

    def drain(self) -> None:
        """Report not ready from now on, regardless of the checks."""
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
    """Run a check. Return the cause of its failure, in a form that may be logged; "" if it passes."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except AgentServiceError as error:
        return f"{error.reason_name}: {error.message}"
    except Exception as error:  # noqa: BLE001 - a check that raises anything has failed
        return type(error).__name__
    return ""
