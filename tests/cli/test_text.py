"""Text that the command line takes and shows, in encodings that are none, on streams that take nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.processes import environment

BROKEN = b"caf\xe9"
NOWHERE = {"AGENT_SERVICE_TARGET": "127.0.0.1:1", "API_KEY": "key"}


def agent_service(
    directory: Path, *arguments: str | bytes, stdin: bytes = b"", code: str = "", **settings: str
) -> tuple[int, str, str]:
    """Run it in a process of its own: exit code, stdout, stderr. What is printed may be in any encoding."""
    run: Sequence[str] = ("-c", code) if code else ("-m", "agent_service")
    done = subprocess.run(
        [sys.executable, *run, *arguments],
        cwd=directory,
        env=environment(**(NOWHERE | settings)),
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode(errors="replace")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", BROKEN),
        ("run", "--agent", BROKEN, "hi"),
        ("run", "--label", b"key=" + BROKEN, "hi"),
        ("run", "--target", BROKEN, "hi"),
        ("run", "--api-key", BROKEN, "hi"),
        ("tools", "invoke", BROKEN),
        ("tools", "invoke", "echo", BROKEN),
        ("tasks", "show", BROKEN),
        ("tasks", "resume", "t", "i", "--reply", BROKEN),
        ("usage", "--tenant", BROKEN),
        ("health", BROKEN),
        ("keys", "new", "--scope", "tasks.run", "--tenant", BROKEN),
    ],
)
def test_an_argument_that_is_not_utf_8_is_told_and_exits_2(arguments: Sequence[str | bytes], tmp_path: Path) -> None:
    code, _, err = agent_service(tmp_path, *arguments)

    assert (code, "is not valid UTF-8" in err) == (2, True), err


def test_a_variable_that_is_not_utf_8_is_told_and_exits_2(tmp_path: Path) -> None:
    for name in NOWHERE:
        code, _, err = agent_service(tmp_path, "run", "hi", stdin=b"", code="", **{name: os.fsdecode(BROKEN)})

        assert (code, "is not valid UTF-8" in err) == (2, True), err


@pytest.mark.parametrize("stdin", [BROKEN, b"\xff\xfeh\0i\0", b"\xed\xa0\x80", b"x" * (4 * 1024 * 1024 + 1)])
def test_standard_input_that_is_no_text_is_told_and_exits_2(stdin: bytes, tmp_path: Path) -> None:
    for arguments in (("run", "-"), ("run", "--schema", "-", "hi")):
        code, _, err = agent_service(tmp_path, *arguments, stdin=stdin)

        assert (code, "standard input is" in err) == (2, True), err


def test_a_schema_with_half_a_surrogate_pair_is_told_and_exits_2(tmp_path: Path) -> None:
    code, _, err = agent_service(tmp_path, "run", "--schema", "-", "hi", stdin=rb'{"title": "\ud800"}')

    assert (code, "is not a JSON object" in err) == (2, True), err


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "a b", "\ufeffkey"])
def test_a_key_that_no_header_can_carry_is_told_and_exits_2(key: str, tmp_path: Path) -> None:
    for arguments in (("run", "hi"), ("tools", "list"), ("tasks", "list"), ("usage",)):
        code, _, err = agent_service(tmp_path, *arguments, API_KEY=key)

        assert (code, "the API key has a character that cannot be sent" in err) == (2, True), err
        assert key not in err


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e400", "-1", "1e300"])
def test_a_time_that_is_no_number_of_seconds_is_told_and_exits_2(seconds: str, tmp_path: Path) -> None:
    for arguments in (("run", "hi"), ("tools", "invoke", "echo"), ("health",)):
        code, _, err = agent_service(tmp_path, *arguments, "--timeout", seconds)

        assert (code, "is not a number of seconds" in err) == (2, True), err


@pytest.mark.parametrize("encoding", ["latin-1", "iso8859-15", "cp1252:strict"])
def test_what_stdout_cannot_show_has_replacement_characters(encoding: str, tmp_path: Path) -> None:
    code = "import sys; from agent_service.cli import main; import click\n@main.command()\ndef x(): click.echo('é🌍')\n"
    code += "import agent_service.cli as cli; cli.LazyGroup.get_command = lambda *_: x; main(['x'])"

    exit_code, out, _ = agent_service(tmp_path, code=code, PYTHONIOENCODING=encoding)

    assert (exit_code, out) == (0, "é?\n")


def test_output_that_cannot_be_written_is_told_and_exits_5(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agent_service", "config", "schema"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (5, "error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "hi", "--max-tokens", "9" * 20),
        ("tasks", "list", "--limit", "9" * 20),
        ("tasks", "watch", "t", "--after", "9" * 20),
        ("tools", "list", "--target", "localhost:65536"),
        ("tools", "list", "--ca-file", "not.pem"),
        ("tools", "list", "--ca-file", "none.pem"),
        ("tools", "list", "--cert-file", "not.pem", "--key-file", "not.pem"),
    ],
)
def test_a_number_or_a_file_that_cannot_be_used_is_told_and_exits_2(arguments: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("garbage")

    code, _, err = agent_service(tmp_path, *arguments)

    assert (code, "Error: " in err) == (2, True), err
