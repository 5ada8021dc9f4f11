"""`agent-service usage`, and budgets of `agent-service run`, against a real server with a configuration of its own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent_service.cli import main
from agent_service.text.amounts import money
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process

CONFIG = """\
models:
  default:
    provider: scripted
    price: {input: 0.15, cached_input: 0.075, output: 0.6}
  unknown: {provider: scripted}
agents:
  assistant: {model: default, tools: [calculator]}
  other: {model: unknown}
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    (tmp_path / "config.yaml").write_text(CONFIG)
    async with server_process(tmp_path, LLM_PROVIDER="") as started:
        yield started


async def cli(server: ServerProcess, *arguments: str) -> tuple[int, str, str]:
    env = environment(AGENT_SERVICE_TARGET=server.target, API_KEY=KEY)
    return await command(*arguments, cwd=server.directory, env=env)


async def test_usage_is_told_as_a_table_as_csv_and_as_json(server: ServerProcess) -> None:
    await cli(server, "run", "-q", "add 2 and 3")
    await cli(server, "run", "-q", "--agent", "other", "hello")
    await cli(server, "tools", "invoke", "calculator", '{"expression": "1"}')

    code, out, err = await cli(server, "usage", "--by", "model,agent", "--bucket", "day", "--since", "1d")
    assert code == 0
    head, *rows, total = (line.split() for line in out.splitlines())
    columns = "TIME AGENT MODEL TASKS CALLS TOOLS INPUT CACHED OUTPUT REASONING ESTIMATED COST"
    assert " ".join(head) == columns
    assert [row[1:4] for row in rows] == [
        ["assistant", "default", "1"],
        ["calculator", "1", "0"],
        ["other", "unknown", "1"],
    ]
    assert rows[0][0].endswith("T00:00Z")
    assert total[:2] == ["TOTAL", "3"]
    assert float(total[-1]) == float(rows[0][-1]) > 0
    assert err == "note: the cost does not include 1 calls of models without a price\n"

    code, out, _ = await cli(server, "usage", "--by", "agent", "--format", "csv")
    told = list(csv.DictReader(io.StringIO(out)))
    assert [row["agent"] for row in told] == ["assistant", "calculator", "other"]
    assert sum(int(row["unpriced_calls"]) for row in told) == 1
    code, out, _ = await cli(server, "usage", "--by", "agent", "--format", "json")
    first = json.loads(out.splitlines()[0])
    assert (first["agent"], first["tasks"]) == ("assistant", "1")
    assert money(int(first["costNanos"]), decimals_min=2) == told[0]["cost"]


async def test_nothing_was_used_before_and_after(server: ServerProcess) -> None:
    await cli(server, "run", "-q", "hello")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    code, out, _ = await cli(server, "usage", "--since", tomorrow)
    assert code == 0
    assert out.splitlines()[-1].split() == ["0"] * 8 + ["0.00"]
    code, out, _ = await cli(server, "usage", "--since", tomorrow, "--format", "json")
    assert (code, out) == (0, "")


async def test_a_run_keeps_to_its_budget_and_its_cost_is_shown(server: ServerProcess) -> None:
    code, out, _ = await cli(server, "run", "--max-tokens", "5", "hello")
    assert code == 1
    assert "BUDGET_EXHAUSTED" in out
    code, out, _ = await cli(server, "run", "--max-cost", "0.000001", "hello")
    assert code == 1
    assert "the task's budget of cost is 0.000001" in out
    code, task_id, _ = await cli(server, "run", "--max-cost", "1.5", "--max-tokens", "100000", "--background", "hello")
    await cli(server, "tasks", "watch", task_id.strip())
    code, out, _ = await cli(server, "tasks", "show", task_id.strip())
    assert "written · cost 0.00" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("usage", "--since", "yesterday"), "is not a time such as"),
        (("usage", "--until", "2026-07-01T05:30"), "is not a whole hour in UTC"),
        (("usage", "--by", "tenant,colour"), "'colour' is not one of tenant, agent, model"),
        (("usage", "--bucket", "week"), "week"),
        (("run", "--max-cost", "much", "hi"), "is not an amount such as"),
        (("run", "--max-cost", "0", "hi"), "must be above 0"),
        (("run", "--max-cost", "0.0000000001", "hi"), "at most 9 decimals"),
        (("run", "--max-tokens", "0", "hi"), "0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_called(arguments: tuple[str, ...], told: str) -> None:
    refused = CliRunner().invoke(main, arguments)
    assert (refused.exit_code, told in refused.stderr) == (2, True)
