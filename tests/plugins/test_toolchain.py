"""The plugin, in runs of pytest of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins import toolchain

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")

    def run_in(source: str, *arguments: str, ci: str) -> pytest.RunResult:
        monkeypatch.setenv("CI", ci)
        pytester.makepyfile(test_it=f"import pytest\n\n{source}\n")
        return pytester.runpytest_inprocess(
            "-p", "tests.plugins.toolchain", "-p", "no:hypothesispytest", "--strict-markers", *arguments
        )

    return run_in


NEEDS_UNKNOWN_TOOLS = """
@pytest.mark.needs("no-such-tool")
def test_with_it(): raise AssertionError("ran")

@pytest.mark.needs("no-such-tool", "no-other-tool")
def test_with_both(): raise AssertionError("ran")

def test_without(): pass
"""


def test_a_workstation_leaves_out_what_a_missing_tool_needs_and_says_so(run: Run) -> None:
    ended = run(NEEDS_UNKNOWN_TOOLS, ci="")

    ended.assert_outcomes(passed=1, skipped=2)
    ended.stdout.fnmatch_lines(
        [
            "*left out for want of no-other-tool: 1 check*",
            "test_it.py::test_with_both",
            "*left out for want of no-such-tool: 2 checks*",
            "test_it.py::test_with_it",
            "test_it.py::test_with_both",
        ]
    )


def test_ci_fails_where_a_tool_is_missing(run: Run) -> None:
    ended = run(NEEDS_UNKNOWN_TOOLS, ci="true")

    ended.assert_outcomes(passed=1, errors=2)
    ended.stdout.fnmatch_lines("needs no-such-tool: neither in .tools*")
    ended.stdout.no_fnmatch_line("*left out for want of*")


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_test_whose_tool_is_there_runs(run: Run, ci: str) -> None:
    ended = run("@pytest.mark.needs('sh')\ndef test_with_it(): pass", ci=ci)

    ended.assert_outcomes(passed=1)
    ended.stdout.no_fnmatch_line("*left out*")


@pytest.mark.parametrize(
    "skip",
    [
        "@pytest.mark.skip(reason='not today')\ndef test_it(): pass",
        "@pytest.mark.skipif(True, reason='not today')\ndef test_it(): pass",
        "def test_it(): pytest.skip('not today')",
        "pytest.skip('not today', allow_module_level=True)",
        "@pytest.fixture\ndef it(): pytest.skip('not today')\n\ndef test_it(it): pass",
        "@pytest.mark.xfail(run=False, reason='not today')\ndef test_it(): pass",
    ],
)
def test_ci_takes_every_skip_for_a_failure(run: Run, skip: str) -> None:
    assert run(skip, ci="").ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)

    ended = run(skip, ci="true")

    assert ended.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    ended.stdout.fnmatch_lines("*left out although CI is set: *not today*")


def test_ci_refuses_to_deselect(run: Run) -> None:
    ended = run("def test_one(): pass\n\ndef test_two(): pass", "-k", "one", ci="true")

    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines("*1 tests deselected although CI is set*")


def test_ci_takes_an_expected_failure_for_what_it_is(run: Run) -> None:
    ended = run("@pytest.mark.xfail(strict=True)\ndef test_it(): raise ValueError", ci="true")

    ended.assert_outcomes(xfailed=1)


def test_the_tools_that_make_built_come_before_those_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_here, on_path = tmp_path / ".tools" / "bin", tmp_path / "path"
    for folder in (built_here, on_path):
        folder.mkdir(parents=True)
        (folder / "grpcurl").write_text("#!/bin/sh\n")
        (folder / "grpcurl").chmod(0o755)
    monkeypatch.setattr(toolchain, "BROUGHT_HERE", tmp_path / ".tools")
    monkeypatch.setenv("PATH", str(on_path))

    assert toolchain.find("grpcurl") == str(built_here / "grpcurl")
    (built_here / "grpcurl").unlink()
    assert toolchain.find("grpcurl") == str(on_path / "grpcurl")
    (on_path / "grpcurl").unlink()
    assert toolchain.find("grpcurl") is None


def test_the_source_of_definitions_counts_as_a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "BROUGHT_HERE", tmp_path)
    assert toolchain.find("gateway-api") is None

    (tmp_path / "source" / "gateway-api").mkdir(parents=True)

    assert toolchain.find("gateway-api") == str(tmp_path / "source" / "gateway-api")
