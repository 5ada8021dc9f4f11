"""Finding the servers on this machine, and having them tell what they do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent_service.cli.operator.dump import dump
from agent_service.observe import dumps
from agent_service.observe.dumps import About


def test_a_server_of_a_version_that_tells_other_things_is_passed_over() -> None:
    told = {"pid": os.getpid(), "worker": "here", "port": 9000, "database": "", "zone": "eu"}
    file = os.memfd_create(dumps.NAME)
    try:
        os.write(file, json.dumps(told).encode() + b"\n")
        assert [about for about, _ in dumps.servers() if about.pid == os.getpid()] == []
    finally:
        os.close(file)


def test_a_server_that_ends_before_it_is_asked_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = About(2**22 + 1, "gone", 9000, "")
    monkeypatch.setattr(dumps, "servers", lambda: iter([(ended, Path(f"/proc/{ended.pid}/fd/3"))]))

    result = CliRunner().invoke(dump)

    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == ["cannot request a dump: No such file or directory"]
