"""Builds an environment for each peer in .tools/peers, of the versions in bench/peers/*.txt, and finds them again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".tools" / "peers"
PROGRAMS = Path(__file__).parent / "programs"
NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.txt")))


def python_of(name: str) -> str | None:
    """The interpreter of a peer's environment; None where it is not installed, or of other versions."""
    home = HOME / name
    installed = home / "requirements.txt"
    wanted = Path(__file__).with_name(f"{name}.txt").read_text("utf-8")
    if not installed.exists() or installed.read_text("utf-8") != wanted:
        return None
    return str(home / "bin" / "python")


def install(name: str) -> None:
    """Build the environment of a peer unless it is there.

    Raises:
        RuntimeError: its packages cannot be had.
    """
    if python_of(name) is not None:
        return
    print(f"installing {name} into .tools/peers; once", file=sys.stderr, flush=True)
    home, wanted = HOME / name, Path(__file__).with_name(f"{name}.txt")
    shutil.rmtree(home, ignore_errors=True)
    pip = (str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for command in ((sys.executable, "-m", "venv", str(home)), (*pip, "-r", str(wanted))):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name} cannot be installed: {done.stderr.strip()[-1000:]}")
    (home / "requirements.txt").write_text(wanted.read_text("utf-8"), "utf-8")
