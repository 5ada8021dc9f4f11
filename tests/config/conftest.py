"""A folder of one's own to be configured from."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent_service.config.loader import Config, load
from agent_service.errors import ConfigError

KEY = "k3y-" + "0123456789abcdef" * 2


class Place:
    """A working directory with, at will, a `config.yaml` and a `.env`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "config.yaml"

    def write(self, text: str, name: str = "config.yaml") -> Path:
        path = self.directory / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def load(self, environ: Mapping[str, str] | None = None, **more: str) -> Config:
        return load({**(environ or {}), **more})

    def problems(self, environ: Mapping[str, str] | None = None, **more: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(environ, **more)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return list(caught.value.problems)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


@pytest.fixture
def production() -> dict[str, str]:
    """An environment that production starts with."""
    return {"AGENT_SERVICE_ENV": "production", "API_KEY": KEY, "OPENAI_API_KEY": "sk-real"}
