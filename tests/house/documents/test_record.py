"""The picture in the README is what the demo shows."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]
VARYING = {
    r"\b[0-9a-f]{32}\b": "ID",
    r"127\.0\.0\.1:\d+": "ADDRESS",
    r"/tmp/agent-service-demo-\w+": "DIRECTORY",
    r"\d+\.\d ms": "TIME",
}


@pytest.fixture
def record() -> ModuleType:
    """scripts/record.py."""
    spec = importlib.util.spec_from_file_location("record", ROOT / "scripts" / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(svg: str) -> list[str]:
    """The lines of a picture, without what is another in every run."""
    lines = [line.text or "" for line in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    for pattern, name in VARYING.items():
        lines = [re.sub(pattern, name, line) for line in lines]
    return lines


def test_the_picture_shows_what_the_demo_writes_to_a_terminal(record: ModuleType) -> None:
    committed = (ROOT / "docs" / "demo.svg").read_text("utf-8")
    recorded = record.picture(record.recorded([sys.executable, "-m", "scripts.demo"]))

    assert shown(committed) == shown(recorded), "make record writes it anew"
    assert "17.5% of 2340 is 409.5." in shown(committed)
