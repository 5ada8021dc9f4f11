"""Plays the scenario (clients/scenario.md) through the Python client, or runs the examples; prints TAP.

usage: check.py [--blocking] [examples]      --blocking: through `Client` in place of `AsyncClient`
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import string
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from callers import AsyncCaller, BlockingCaller, Caller, error_of, result_of
from matching import MismatchError, filled, found, match

from agent_service.client import CallError

HERE = Path(__file__).parent
SCENARIO = HERE.parent / "scenario.yaml"
ACTION_S = 30.0
CALL_KEYS = {"call", "as", "with", "until", "meanwhile", "give_up", "expect", "error", "save"}
# What a call that was given up ends with, in asyncio and in threads.
GIVEN_UP = (asyncio.CancelledError, CancelledError)


class SkippedError(Exception):
    """The step cannot be played here."""


class Scenario:
    """The conversation so far."""

    def __init__(self, make: Callable[[str], Caller]) -> None:
        self._make = make
        self._callers: dict[str, Caller] = {}
        run = "".join(random.choices(string.ascii_lowercase + string.digits, k=8))  # noqa: S311 - no secret
        self._variables = {"run": run}

    async def play(self, step: dict[str, Any]) -> None:
        """Take the actions of a step."""
        if not os.environ.get("SCENARIO_RESTART") and _restarts(step["do"]):
            raise SkippedError("SCENARIO_RESTART is not set")
        if unknown := set(step) - {"step", "tries", "do"}:
            raise MismatchError(f"unknown keys: {sorted(unknown)}")
        for left in range(step.get("tries", 1), 0, -1):
            try:
                await self._take_all(step["do"])
                return
            except MismatchError:
                if left == 1:
                    raise

    async def close(self) -> None:
        for caller in self._callers.values():
            await caller.close()

    async def _take_all(self, actions: Sequence[dict[str, Any]]) -> None:
        for action in actions:
            try:
                async with asyncio.timeout(ACTION_S):
                    await self._take(action)
            except MismatchError as error:
                raise MismatchError(f"{action.get('call', next(iter(action)))}: {error}") from None
            except TimeoutError:
                raise MismatchError(
                    f"{action.get('call', next(iter(action)))}: took more than {ACTION_S:.0f} s"
                ) from None

    async def _take(self, action: dict[str, Any]) -> None:
        if set(action) == {"wait_s"}:
            await asyncio.sleep(float(filled(action["wait_s"], self._variables)))
        elif action == {"restart": True}:
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", os.environ["SCENARIO_RESTART"], stdout=sys.stderr
            )
            if await process.wait() != 0:
                raise MismatchError("the server was not restarted")
        elif "call" in action and set(action) <= CALL_KEYS:
            await self._call(action)
        else:
            raise MismatchError(f"unknown keys: {sorted(set(action) - CALL_KEYS)}")

    async def _call(self, action: dict[str, Any]) -> None:
        arguments = filled(action.get("with", {}), self._variables)
        call = asyncio.ensure_future(self._result(action, arguments))
        try:
            await self._take_all(action.get("meanwhile", ()))
            if action.get("give_up"):
                await self._caller(action).give_up(call)
            told = await self._outcome(call, action)
        finally:
            call.cancel()
        for name, place in action.get("save", {}).items():
            self._variables[name] = found(place, told)

    async def _result(self, action: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """A client that cannot be made is an error of its first call."""
        return await result_of(self._caller(action), action["call"], arguments, action.get("until"))

    async def _outcome(self, call: asyncio.Future[Any], action: dict[str, Any]) -> Any:
        """The result or the error, which is as expected."""
        try:
            result = await asyncio.shield(call)
        except (CallError, *GIVEN_UP) as error:
            if isinstance(error, asyncio.CancelledError) and not call.cancelled():
                raise  # it is us who are out of time
            told = error_of(error)
            if "error" not in action:
                raise MismatchError(f"expected no error, got {error!r}") from None
            match(filled(action["error"], self._variables), told, "error")
            return told
        if "error" in action:
            raise MismatchError(f"expected an error, got {result}")
        if "expect" in action:
            match(filled(action["expect"], self._variables), result, "expect")
        return result

    def _caller(self, action: dict[str, Any]) -> Caller:
        name = action.get("as", "alice")
        if name not in self._callers:
            self._callers[name] = self._make(name)
        return self._callers[name]


def _restarts(actions: Sequence[dict[str, Any]]) -> bool:
    return any("restart" in action or _restarts(action.get("meanwhile", ())) for action in actions)


async def report(tests: Sequence[tuple[str, Callable[[], Awaitable[None]]]]) -> bool:
    """Run them in order and print TAP; whether all of them hold."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    print(f"TAP version 13\n1..{len(tests)}", flush=True)
    all_hold = True
    for number, (name, test) in enumerate(tests, 1):
        problem = skipped = ""
        try:
            await test()
        except SkippedError as error:
            problem, skipped = (str(error), "") if in_ci else ("", f" # SKIP {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the next step is played
            problem = str(error) if isinstance(error, MismatchError) else repr(error)
        all_hold = all_hold and not problem
        print(f"{'not ok' if problem else 'ok'} {number} - {name}{skipped}", flush=True)
        if problem:
            print(f"  ---\n  message: {json.dumps(problem, ensure_ascii=False)}\n  ...", flush=True)
    return all_hold


async def play(make: Callable[[str], Caller]) -> bool:
    """The scenario."""
    scenario = Scenario(make)
    steps = yaml.safe_load(SCENARIO.read_text("utf-8"))
    try:
        return await report([(step["step"], lambda step=step: scenario.play(step)) for step in steps])
    finally:
        await scenario.close()


async def run_examples() -> bool:
    """The examples of the README, each a program."""

    def program(path: Path) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            process = await asyncio.create_subprocess_exec(
                sys.executable, path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            out, _ = await process.communicate()
            if process.returncode != 0:
                raise MismatchError(out.decode())

        return run

    return await report([(path.stem, program(path)) for path in sorted((HERE / "examples").glob("*.py"))])


if __name__ == "__main__":
    wanted = set(sys.argv[1:])
    with suppress(KeyboardInterrupt):
        if "examples" in wanted:
            sys.exit(0 if asyncio.run(run_examples()) else 1)
        sys.exit(0 if asyncio.run(play(BlockingCaller if "--blocking" in wanted else AsyncCaller)) else 1)
