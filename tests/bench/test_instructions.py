"""What valgrind reports is read as a number, and its absence is an error."""

from __future__ import annotations

import pytest

from bench.instructions import counted_in


def test_the_instructions_are_those_of_the_summary() -> None:
    assert counted_in("==12== Command: python\n==12== \n==12== I   refs:      2,924,957,979\n") == 2_924_957_979


def test_a_run_that_counted_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="unknown tool"):
        counted_in("valgrind: unknown tool")
