"""The output of a run: a table on standard output, and all figures as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.results import LOAD_SHARE_MAX, Found, Row, Spread, added, cpu_us, latency, rate
from bench.targets import targets

ROOT = Path(__file__).parents[1]
FOREIGN_CORES_MAX = 0.2
HEAD = (
    f"{'':<40}{'in flight':>10}{'/s':>8}{'CPU us':>8}{'spread':>8}{'switches':>9}{'p50 ms':>9}{'p99 ms':>9}"
    f"{'ratio /s':>10}{'CPU':>7}{'MiB':>6}{'foreign':>9}"
)


def table(found: Found) -> Iterator[str]:
    """The lines of the table."""
    group = ""
    for row in found.rows:
        if row.group != group:
            group = row.group
            yield f"{group}, ratios to {found.base(row).name}"
            yield HEAD
        yield _line(row, found)
    for reading in found.readings:
        spread = Spread.of(reading.values)
        measured = f"{reading.contender} {spread.median:.4g} {reading.unit}".strip()
        yield f"{reading.group}, {reading.name}: {measured} ({spread.least:.4g} to {spread.most:.4g})"
    yield from _targets(found)
    yield from warnings(found)


def _line(row: Row, found: Found) -> str:
    base = found.base(row)
    cpu = row.spread(cpu_us)
    switches = row.spread(lambda sample: sample.voluntary + sample.involuntary).median
    p50, p99 = (row.spread(latency(name)).median for name in ("p50", "p99"))
    line = (
        f"  {row.name:<38}{row.in_flight:>10}{row.spread(rate).median:>8.0f}{cpu.median:>8.0f}"
        f"{(cpu.most - cpu.least) / cpu.median:>8.0%}{switches:>9.1f}{p50:>9.2f}{p99:>9.2f}"
        f"{row.ratio(base, rate).median:>10.3f}{row.ratio(base, cpu_us).median:>7.2f}{row.private_kib / 1024:>6.0f}"
        f"{row.spread(lambda sample: sample.foreign_cores).median:>9.2f}"
    )
    if row.samples[0].stamp_ms.get("max"):
        p50, p99 = (row.spread(added(name)).median for name in ("p50", "p99"))
        line += f"   model to caller {p50:.1f} ms p50, {p99:.1f} p99"
    twin = found.twin(row)
    if twin is not None:
        line += f"   this / against: {row.ratio(twin, rate).median:.3f} /s, {row.ratio(twin, cpu_us).median:.3f} CPU"
    return line


def _targets(found: Found) -> Iterator[str]:
    yield f"{'targets':<82}{'is':>8}{'from':>8}{'to':>8}{'must':>7}{'aim':>7}"
    for target in targets(found):
        bounds = f"{target.must:>7g}{target.aim:>7g}"
        if target.value is None:
            yield f"  {target.name:<80}{'-':>8}{'':>16}{bounds}  not measured"
            continue
        value = target.value
        yield f"  {target.name:<80}{value.median:>8.3g}{value.least:>8.3g}{value.most:>8.3g}{bounds}  {target.verdict}"


def warnings(found: Found) -> Iterator[str]:
    """Reasons to distrust figures of this run."""
    foreign = max((row.spread(lambda sample: sample.foreign_cores).median for row in found.rows), default=0.0)
    if foreign > FOREIGN_CORES_MAX:
        yield f"other processes used up to {foreign:.1f} cores: use ratios alone, and those with care"
    for row in found.rows:
        if row.spread(lambda sample: sample.load_share).median > LOAD_SHARE_MAX:
            yield f"the load generator was the bound of {row.name}, {row.in_flight} in flight"


def as_json(found: Found, options: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    """All figures, for a program."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        "revision": _revision(),
        "options": options,
        "rows": [row.as_json(found.base(row), found.twin(row)) for row in found.rows],
        "readings": [reading.as_json() for reading in found.readings],
        "targets": [asdict(target) | {"verdict": target.verdict} for target in targets(found)],
        "left_out": left_out,
        "warnings": list(warnings(found)),
    }


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("grpcio", "uvloop", "protobuf")},
    }


def _revision() -> str:
    """The commit, with a note where files differ from it; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return described.stdout.strip()
