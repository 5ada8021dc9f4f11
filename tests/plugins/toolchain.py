"""What a test needs beside Python, and what happens where it is missing.

    @pytest.mark.needs("grpcurl")

On a workstation such a test is skipped, and the end of the run says which were left out for want of what. With CI set
nothing may be left out: every skip, for whatever reason, and every deselection is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

BROUGHT_HERE = Path(__file__).parents[2] / ".tools"

# Of a test that is skipped: what it needs and the machine lacks. A property of its report, which also a process of
# pytest-xdist sends.
LEFT_OUT = "left out for want of"


def find(tool: str) -> str | None:
    """The path of an executable, or of a source, that `make tools` brought or that PATH has."""
    source = BROUGHT_HERE / "source" / tool
    if source.is_dir():
        return str(source)
    return shutil.which(tool, path=str(BROUGHT_HERE / "bin")) or shutil.which(tool)


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*tools): executables and sources that the test cannot do without")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = [tool for marker in item.iter_markers("needs") for tool in marker.args if find(tool) is None]
    if not missing:
        return
    reason = f"needs {' and '.join(missing)}: neither in .tools (`make tools`) nor on PATH"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    item.user_properties.append((LEFT_OUT, missing))
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not _failed_as_expected(report):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _failed_as_expected(report: pytest.TestReport) -> bool:
    reason = getattr(report, "wasxfail", None)
    return reason is not None and "[NOTRUN]" not in reason


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if in_ci() and report.outcome == "skipped":
        report.outcome = "failed"
        vars(report).pop("wasxfail", None)
        report.longrepr = f"left out although CI is set: {_reason(report)}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    match report.longrepr:
        case (_, _, str(reason)):
            return reason
        case other:
            return str(other)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if in_ci() and items:
        raise pytest.UsageError(f"{len(items)} tests deselected although CI is set, the first: {items[0].nodeid}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        for tool in dict(getattr(report, "user_properties", ())).get(LEFT_OUT, ()):
            left_out.setdefault(tool, []).append(report.nodeid)
    for tool, tests in sorted(left_out.items()):
        checks = "1 check" if len(tests) == 1 else f"{len(tests)} checks"
        terminalreporter.section(f"left out for want of {tool}: {checks}", yellow=True)
        for test in tests:
            terminalreporter.line(test)
