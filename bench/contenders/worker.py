"""Libraries that run in process: a process that does a piece of work as often as it is asked to, over its pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.contenders.base import Contender, Running
from bench.load.generator import model_server
from bench.machine import cores, pinned

SDK = Path(__file__).parents[1] / "peers" / "programs" / "openai_sdk.py"


def worker(name: str, *command: str) -> Contender:
    """A process of this command, whose protocol is that of `bench/peers/programs/worker.py`."""

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        with working(name, command, directory, core) as running:
            yield running

    return Contender(name, started)


def openai_sdk() -> Contender:
    """The openai package, reading the stream of the same model server as `service.with_model`."""

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        with (
            model_server(cores()[1]) as url,
            working("openai SDK", (sys.executable, str(SDK), f"{url}/v1"), directory, core) as running,
        ):
            yield running

    return Contender("openai SDK", started)


@contextmanager
def working(name: str, command: Sequence[str], directory: Path, core: int) -> Iterator[Running]:
    """The process, which has said that it is ready; ended at the end.

    Raises:
        RuntimeError: it ended by itself.
    """
    log = directory / f"{name}.log"
    pipe = subprocess.PIPE
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            pinned(core, *command), cwd=directory, stdin=pipe, stdout=pipe, stderr=sink, text=True, bufsize=1
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def hear() -> dict[str, Any]:
            line = stdout.readline()
            if not line:
                raise RuntimeError(f"{name} ended: {log.read_text('utf-8')[-2000:].strip()}")
            heard: dict[str, Any] = json.loads(line)
            return heard

        def ask(question: dict[str, Any]) -> dict[str, Any]:
            stdin.write(json.dumps(question) + "\n")
            return hear()

        try:
            hear()
            yield Running((process.pid,), ask=ask)
        finally:
            process.kill()
