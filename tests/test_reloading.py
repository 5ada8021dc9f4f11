"""Files that change while somebody uses what they held; `tests/keys/test_reloading_keys.py` has the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from agent_service.errors import ConfigError
from agent_service.observe.log import EventLog, render_json
from agent_service.reloading import Reloading


class World:
    """Two files with a word each; the word `early` is refused until `now` is its time."""

    def __init__(self, directory: Path, *, ripens: bool) -> None:
        self.paths = [directory / "one", directory / "other"]
        self.now = 0
        self.log: list[bytes] = []
        self.write("a", "b")
        events = EventLog("DEBUG", render_json, self.log.append)
        self.words = Reloading("words", self.paths, self._parse, events, lambda words: {"words": words}, ripens=ripens)

    def write(self, *words: str) -> None:
        for path, word in zip(self.paths, words, strict=True):
            path.write_text(word)

    def events(self) -> list[str]:
        return [orjson.loads(line)["event"] for line in self.log]

    def _parse(self, contents: Sequence[bytes]) -> str:
        words = b" ".join(contents).decode()
        if "early" in words and not self.now:
            raise ConfigError(["it is early"])
        return words


def test_a_change_of_either_file_counts_and_both_are_taken_together(tmp_path: Path) -> None:
    world = World(tmp_path, ripens=False)
    assert not world.words.reload()
    world.write("a", "c")
    assert world.words.reload()
    world.write("d", "c")
    assert world.words.reload()
    assert world.words.value == "d c"


def test_of_several_missing_files_all_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, ripens=False)
    for path in world.paths:
        path.unlink()
    with pytest.raises(ConfigError) as refused:
        Reloading("words", world.paths, lambda _: "", EventLog("DEBUG", render_json, world.log.append), lambda _: {})
    assert refused.value.problems == tuple(f"{path}: does not exist" for path in world.paths)


@pytest.mark.parametrize(("ripens", "value"), [(True, "early b"), (False, "a b")])
def test_what_time_alone_makes_good_is_looked_at_again_if_it_ripens(tmp_path: Path, ripens: bool, value: str) -> None:
    world = World(tmp_path, ripens=ripens)
    world.write("early", "b")
    for _ in range(3):
        assert not world.words.reload()
    assert world.events() == ["words_refused"]
    world.now = 1
    assert world.words.reload() == ripens
    assert world.words.value == value
    assert world.events() == ["words_refused", "words_reloaded"][: 1 + ripens]
    assert not world.words.reload()
