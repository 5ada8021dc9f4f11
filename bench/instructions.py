"""User-space instructions of a call, of the whole server: counted by valgrind, with many calls in flight.

    make bench-instructions
    make bench-instructions ARGS="--tasks 400 --in-flight 1"

A server runs under valgrind twice, for some calls and for as many more; the difference is that of the calls alone. The
count hardly varies with the load of the machine, and predicts the time of a call better than a short measurement does.
It takes a minute for each call, because valgrind makes a server some thirty times slower.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.contenders.service import service
from bench.contenders.service_calls import run_task
from bench.load.generator import Call, Shape, load
from bench.machine import cores

WARM_UP = 50
REFERENCES = re.compile(r"I +refs: +([\d,]+)")
CALLS = {
    "RunTask": run_task("hello"),
    "RunTask, 1 tool call": run_task("tools 1", tool_calls=1),
}


def total(call: Call, calls: int, in_flight: int) -> int:
    """Instructions of a server from its start to its end, that answers so many calls."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as name:
        directory = Path(name)
        counter = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
        log = directory / "valgrind.log"
        counted = service(under=(*counter, f"--log-file={log}"))
        with counted.start(directory, cores()[0]) as running:
            for number in (WARM_UP, calls):
                with load(call, Shape(number, min(in_flight, number)), running.targets, cores()[1]) as ready:
                    ready.run()
        return counted_in(log.read_text())


def counted_in(log: str) -> int:
    """The instructions that valgrind reports at its end.

    Raises:
        RuntimeError: it reports none.
    """
    found = REFERENCES.search(log)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing: {log}")
    return int(found[1].replace(",", ""))


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.instructions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=300, help="calls that are counted (default: 300)")
    parser.add_argument("--in-flight", type=int, default=64, help="calls in flight (default: 64)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Count, and print a line for each call."""
    given = options(arguments)
    if shutil.which("valgrind") is None:
        print("bench-instructions needs valgrind on PATH: apt-get install valgrind", file=sys.stderr)
        return 1
    for name, call in CALLS.items():
        few, many = (total(call, given.tasks * times, given.in_flight) for times in (1, 2))
        print(f"{name}: {(many - few) / given.tasks / 1000:,.0f} thousand instructions, {given.in_flight} in flight")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
