"""A run of the benchmark, with as few calls as there can be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--rounds", "2", "--seconds", "0.02")
# A server in the place of another checkout's: its tasks have no state.
WRONG = """
import json, signal, sys, threading, grpc
from concurrent.futures import ThreadPoolExecutor
answers = {"RunTask": grpc.unary_unary_rpc_method_handler(lambda request, context: b"")}
server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("agent_service.v1.AgentService", answers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
print(json.dumps({"event": "started", "port": port}), file=sys.stderr, flush=True)
ended.wait()
"""

pytestmark = [pytest.mark.needs("go"), pytest.mark.together("bench")]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=150)


def measured(tmp_path: Path, *arguments: object) -> tuple[str, dict[str, Any]]:
    """The table and the JSON of a run that succeeds."""
    done = run(*SMALL, "--json", tmp_path / "found.json", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((tmp_path / "found.json").read_text())


def test_a_row_is_measured_beside_the_echo(tmp_path: Path) -> None:
    table, found = measured(tmp_path, "--quick", "--only", "RunTask, 1 tool call")

    echo, task = found["rows"]
    assert (echo["name"], task["name"], task["base"]) == ("echo", "RunTask, 1 tool call", "echo")
    assert echo["rate_ratio"] == {"median": 1, "least": 1, "most": 1}
    for row in (echo, task):
        assert [sample["calls"] >= row["in_flight"] == 64 for sample in row["rounds"]] == [True, True]
        assert row["cpu_us"]["least"] <= row["cpu_us"]["median"] <= row["cpu_us"]["most"]
        assert 0 < row["p50_ms"]["median"] <= row["p99_ms"]["median"]
        assert row["private_kib"] > 1000
    assert task["cpu_us"]["median"] > echo["cpu_us"]["median"]
    assert {"cores", "python", "packages"} <= found["machine"].keys()
    assert "RunTask, 1 tool call" in table


def test_targets_lack_a_value_where_their_rows_were_left_out(tmp_path: Path) -> None:
    _, found = measured(tmp_path, "--quick", "--only", "cold start")

    values = {target["name"]: target["value"] for target in found["targets"]}
    with_value = [name for name, value in values.items() if value is not None]
    assert with_value == ["exec to first completed task / bare server"]
    assert 0 < values[with_value[0]]["least"] <= values[with_value[0]]["most"]
    assert len(values) > 5


def test_an_answer_that_is_wrong_fails_the_run(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "wrong.py").write_text(WRONG)
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'wrong.py'}\n")
    python.chmod(0o755)

    done = run("--quick", *SMALL, "--only", "RunTask (against)", "--against", tmp_path)

    assert done.returncode == 1
    assert "error: RunTask (against), against: 128 of 128 answers are wrong, the first: the last message lacks" in (
        done.stderr
    )
    assert done.stdout == ""


def test_a_text_that_no_row_has_is_refused() -> None:
    done = run("--only", "no such row")

    assert (done.returncode, done.stderr) == (1, "no row has 'no such row' in its name\n")


def test_the_streams_of_a_model_are_followed_to_their_callers(tmp_path: Path) -> None:
    _, found = measured(tmp_path, "--quick", "--rounds", "1", "--only", "chunks", "--only", "latency")

    values = {target["name"]: target["value"] for target in found["targets"] if target["value"] is not None}
    assert [name.split(",")[0] for name in values] == [
        "ms from the model's write to the caller's message",
        "ms from the model's write to the caller's message",
        "CPU of a chunk",
    ]
    p50, p99, chunk = values.values()
    assert 0 < p50["least"] <= p99["most"] < 10_000
    assert chunk["median"] > 0


def test_streams_that_stay_open_have_a_memory_each(tmp_path: Path) -> None:
    table, found = measured(tmp_path, "--quick", "--only", "open streams")

    memory = {reading["contender"]: reading["spread"]["median"] for reading in found["readings"]}
    assert 5 < memory["echo"] < memory["service"] < 1000
    assert "open streams, 200 open: service " in table


def test_telemetry_and_long_tasks_are_measured(tmp_path: Path) -> None:
    _, found = measured(tmp_path, "--rounds", "1", "--only", "traces", "--only", "history")

    names = [row["name"] for row in found["rows"]]
    assert names == ["RunTask, nothing", "RunTask, metrics, traces 1 %", "RunTask, metrics, traces 100 %"]
    assert [len(row["rounds"]) for row in found["rows"]] == [10, 10, 10]
    (history,) = found["readings"]
    assert 0.1 < history["spread"]["median"] < 10
