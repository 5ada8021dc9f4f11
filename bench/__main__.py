"""Measures this service beside a bare gRPC echo and others, all in one run.

    make bench
    make bench ARGS="--only StreamTask --json streams.json"
    make bench ARGS="--against ../agent-service-old"

Each contender is a process of its own on one core; the load generator, a compiled program, is on another. Rounds are
interleaved in rotating order, and every answer is checked: a wrong one ends the run. Progress goes to standard error,
the table to standard output. docs/performance.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.load.generator import program
from bench.peers.cases import left_out
from bench.peers.install import NAMES, install
from bench.plan import Measurement, plan
from bench.report import as_json, table
from bench.results import Found
from bench.rounds import Pace

NOTE_LINES = 20


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds: the figures are rough")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only rows or groups with this in their name")
    parser.add_argument("--rounds", type=int, help="rounds of each row (default: 5; 2 with --quick)")
    parser.add_argument("--seconds", type=float, help="length of a round (default: 1; 0.2 with --quick)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout with a .venv, to compare with")
    parser.add_argument("--peers", action="store_true", help="install the peers that are not there, into .tools/peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--list", action="store_true", help="list the groups, and measure nothing")
    return parser.parse_args()


def chosen(every: list[Measurement], wanted: list[str] | None) -> list[Measurement]:
    """The parts that the options ask for.

    Raises:
        SystemExit: a text fits no row.
    """
    if not wanted:
        return every
    for text in wanted:
        if all(each.only([text]) is None for each in every):
            raise SystemExit(f"no row has {text!r} in its name")
    return [part for each in every if (part := each.only(wanted)) is not None]


def install_peers() -> None:
    """Install what can be had; what cannot is left out."""
    for name in NAMES:
        try:
            install(name)
        except RuntimeError as error:
            print(error, file=sys.stderr)


def main() -> int:
    """Measure, and print what was found."""
    given = options()
    if given.peers:
        install_peers()
    every = plan(against=given.against and given.against.resolve(), is_quick=given.quick)
    if given.list:
        print("\n".join(each.name for each in every))
        return 0
    pace = Pace(given.rounds or (2 if given.quick else 5), given.seconds or (0.2 if given.quick else 1.0))
    found = Found()
    try:
        program()
        for measurement in chosen(every, given.only):
            measurement.measure(pace, found)
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(*note.splitlines()[-NOTE_LINES:], sep="\n", file=sys.stderr)
        return 1
    print("\n".join(table(found)))
    if left_out():
        print(f"left out, not installed (--peers installs them): {', '.join(left_out())}")
    if given.json:
        chosen_options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
        given.json.write_text(json.dumps(as_json(found, chosen_options, left_out()), indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
