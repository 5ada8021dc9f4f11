"""Keys that change while the service runs."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_service.errors import AuthenticationError, ConfigError
from agent_service.keys.reloading_keys import ReloadingKeys
from agent_service.keys.ring import default_key
from agent_service.keys.secret import generate, hash_text, public_id_of
from agent_service.observe.log import EventLog, render_json

ONE, TWO = (generate(public_id_of(key_id)) for key_id in ("one", "two"))


class Log:
    """Keeps events as (event, fields)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(listing(one=ONE))
    return path


def listing(**secrets: str) -> str:
    entries = [
        f"- {{id: {key_id}, hash: '{hash_text(secret)}', tenant: acme, scopes: [tasks.run]}}\n"
        for key_id, secret in secrets.items()
    ]
    return "keys:\n" + "".join(entries)


def knows(keys: ReloadingKeys, secret: str) -> bool:
    try:
        keys.authenticate(secret)
    except AuthenticationError:
        return False
    return True


def test_a_changed_file_is_used_from_then_on(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log)
    path.write_text(listing(two=TWO))
    assert knows(keys, ONE)
    assert not knows(keys, TWO)
    assert keys.reload()
    assert not knows(keys, ONE)
    assert knows(keys, TWO)
    assert log.events == [("keys_reloaded", {"path": str(path), "keys": 1})]


def test_a_change_counts_that_leaves_size_and_times_as_they_were(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log)
    before = path.stat()
    path.write_text(listing(one=generate(public_id_of("one"))))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert keys.reload()
    assert not knows(keys, ONE)


def test_a_file_that_did_not_change_is_left_alone(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log)
    path.touch()
    assert not keys.reload()
    assert log.events == []


@pytest.mark.parametrize(
    "bad",
    ["", "keys: [", f"keys: [{{id: one, hash: {ONE}}}]", None],
    ids=["empty", "broken off", "not a hash", "missing"],
)
def test_the_last_good_keys_stay_when_the_file_is_bad_and_that_is_said_once(
    path: Path, log: Log, bad: str | None
) -> None:
    keys = ReloadingKeys(path, log)
    good = path.read_text()
    if bad is None:
        path.unlink()
    else:
        path.write_text(bad)
    for _ in range(3):
        assert not keys.reload()
    assert knows(keys, ONE)
    ((event, fields),) = log.events
    assert event == "keys_refused"
    assert fields["path"] == str(path)
    assert all(problem.startswith(str(path)) for problem in fields["problems"])
    assert ONE not in str(log.events)
    path.write_text(good)
    assert keys.reload()
    assert [event for event, _ in log.events] == ["keys_refused", "keys_reloaded"]


def test_a_file_that_goes_missing_again_is_told_again(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log)
    for _ in range(2):
        path.rename(path.with_suffix(".aside"))
        assert not keys.reload()
        path.with_suffix(".aside").rename(path)
        assert keys.reload()
    assert [event for event, _ in log.events] == ["keys_refused", "keys_reloaded"] * 2


@pytest.mark.parametrize("bad", [None, "", "keys: 1"])
def test_a_file_that_is_bad_at_the_start_is_an_error(path: Path, log: Log, bad: str | None) -> None:
    if bad is None:
        path.unlink()
    else:
        path.write_text(bad)
    with pytest.raises(ConfigError):
        ReloadingKeys(path, log)


def test_keys_beside_the_file_outlive_every_reload(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log, always=[default_key("plain")])
    assert knows(keys, "plain")
    path.write_text("keys: []\n")
    assert keys.reload()
    assert knows(keys, "plain")
    assert not knows(keys, ONE)


def test_expiry_needs_no_reload(path: Path, log: Log) -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    path.write_text(listing(one=ONE).replace("acme,", "acme, not_after: 2026-07-01T00:00:00Z,"))
    keys = ReloadingKeys(path, log, clock=lambda: now)
    assert knows(keys, ONE)
    now = datetime(2026, 7, 2, tzinfo=UTC)
    with pytest.raises(AuthenticationError) as caught:
        keys.authenticate(ONE)
    assert caught.value.reason_name == "API_KEY_EXPIRED"


async def test_watching_reloads_each_time_it_wakes(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log)
    slept: list[float] = []
    woken = asyncio.Event()
    contents = [listing(two=TWO), "keys: ["]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if contents:
            await asyncio.to_thread(path.write_text, contents.pop(0))
        else:
            woken.set()
            await asyncio.Event().wait()

    watching = asyncio.create_task(keys.watch(sleep=sleep))
    await woken.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert slept == [1.0] * 3
    assert knows(keys, TWO)
    assert [event for event, _ in log.events] == ["keys_reloaded", "keys_refused"]


def test_authenticating_does_not_touch_the_file(path: Path, log: Log) -> None:
    keys = ReloadingKeys(path, log)
    path.unlink()
    assert knows(keys, ONE)


def test_the_log_of_a_service_takes_the_events_and_shows_no_secret(path: Path) -> None:
    lines: list[bytes] = []
    keys = ReloadingKeys(path, EventLog("DEBUG", render_json, lines.append))
    path.write_text(listing(one=ONE) + f"- {{id: {ONE}, hash: {ONE}, {ONE}: {hash_text(ONE)}}}\n")
    assert not keys.reload()
    assert b"keys_refused" in lines[0]
    assert ONE.encode() not in lines[0]
    assert hash_text(ONE).removeprefix("sha256:").encode() not in lines[0]
