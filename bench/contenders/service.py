"""This service as `serve` starts it, of this checkout or of another one.

It does all that it does in production: keys, limits, log, metrics, and a journal on SQLite with every commit synced.
Only bounds that the load would reach are raised. The scripted model answers by the script below.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from bench.contenders.base import Contender, Running
from bench.load.generator import model_server
from bench.machine import cores, pinned
from tests.support.server_process import KEY, running_server

RAISED = {
    "RATE_LIMIT_CALLS": "1000000000",
    "RATE_LIMIT_TOKENS": "1000000000000",
    "TASKS_RUNNING_MAX": "10000",
    "TASKS_QUEUED_MAX": "100000",
    "CALLS_MAX": "10000",
    "CALLS_PER_KEY_MAX": "10000",
    "CALLS_PER_PEER_MAX": "10000",
    "OPEN_CALLS_MAX": "10000",
    "OPEN_CALLS_PER_KEY_MAX": "10000",
    "OPEN_CALLS_PER_PEER_MAX": "10000",
    "LLM_PROVIDER": "",  # the models are those of the configuration file
}
MODEL = {
    "AGENT_SERVICE_CONFIG_PATH": "model.yaml",
    "LLM_PROVIDER": "openai",
    "LLM_MODEL": "m",
    "OPENAI_API_KEY": "k",
}
NONE: Mapping[str, str] = MappingProxyType({})
SERVE = "from agent_service.cli import main; main(['serve'])"
# The same, with counters and histograms that count nothing.
UNCOUNTED = """
from agent_service.cli import main
from agent_service.observe.instruments import Count, Distribution
Count.inc = lambda self, amount=1: None
Distribution.observe = lambda self, value, trace=None: None
main(["serve"])
"""
HEADERS = {"x-api-key": KEY}
ANSWER = "Hello! I am the scripted model: I answer from a fixed script, without a network, and as fast as I can."
# The scripted model streams four words at a time.
DELTA = "some word or other "

MODELS = """
models:
  default: {provider: scripted, script: script.yaml}
"""
AGENTS = """
agents:
  assistant:
    model: default
    instructions: >-
      You are a helpful assistant. Use the tools where they give a surer answer than you can, such as for arithmetic and
      the current time. Answer briefly and plainly.
    tools: [calculator, current_time, echo, json_query]
    default: true
"""


def script() -> str:
    """The script of the model: one entry for each task of the benchmark."""
    tool = '{tool_calls: [{name: calculator, arguments: {expression: "17.5 * 2340 / 100"}}]}'
    entries = [("hello", [f'{{text: "{ANSWER}"}}']), ("pause", [f'{{text: "{ANSWER}", delay_s: 0.001}}'])]
    entries += [(f"tools {calls}", [tool] * calls + [f'{{text: "{ANSWER}"}}']) for calls in (1, 5)]
    entries += [
        (f"deltas {count}", [f'{{text: "{(DELTA * count).strip()}", chunk_delay_s: 0.01}}']) for count in (20, 200)
    ]
    entries.append(("hold", ['{text: "so far and no further", chunk_delay_s: 600}']))
    return "".join(
        f"- match: '^{match}$'\n  turns:\n" + "".join(f"    - {turn}\n" for turn in turns) for match, turns in entries
    )


def service(
    name: str = "service",
    *,
    tree: Path | None = None,
    code: str = SERVE,
    settings: Mapping[str, str] = NONE,
    under: Sequence[str] = (),
) -> Contender:
    """The service of this checkout, or of that in `tree`, which has a .venv of its own. `under` is a command that runs
    it, such as valgrind.
    """
    python = str(tree / ".venv" / "bin" / "python") if tree else sys.executable

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        (directory / "config.yaml").write_text(MODELS + AGENTS)
        (directory / "model.yaml").write_text(AGENTS)
        (directory / "script.yaml").write_text(script())
        with running_server(directory, *pinned(core, *under, python, "-c", code), **{**RAISED, **settings}) as server:
            yield Running((server.process.pid,), (server.target,))

    return Contender(name, started)


def with_model(name: str = "service", *, tree: Path | None = None) -> Contender:
    """The same, with a model of OpenAI's API on loopback."""

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        with model_server(cores()[1]) as url:
            settings = MODEL | {"LLM_BASE_URL": f"{url}/v1"}
            with service(name, tree=tree, settings=settings).start(directory, core) as one:
                yield one

    return Contender(name, started)


def traced(name: str, share: str) -> Contender:
    """The same as `service`, with this share of the traces sampled and sent to a collector."""

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        with model_server(cores()[1]) as url:
            otel = {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_TRACES_SAMPLER_ARG": share,
            }
            with service(name, settings=otel).start(directory, core) as one:
                yield one

    return Contender(name, started)


def two_workers(name: str = "two workers") -> Contender:
    """Two processes on one file, the second on the other core; each has a port of its own."""

    @contextmanager
    def started(directory: Path, core: int) -> Iterator[Running]:
        second = directory / "second"
        second.mkdir()
        shared = {"DATABASE_URL": f"sqlite:///{directory / 'shared.db'}"}
        with (
            service(settings=shared).start(directory, core) as one,
            service(settings=shared).start(second, cores()[1]) as two,
        ):
            yield Running((*one.pids, *two.pids), (*one.targets, *two.targets))

    return Contender(name, started)
