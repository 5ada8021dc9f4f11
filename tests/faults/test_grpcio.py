"""The grpcio that is installed bears what kills later ones (docs/adr/0002), with either transport."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_client_can_end_a_server_of_this_grpcio() -> None:
    command = [sys.executable, "scripts/try_grpcio.py", "--no-cost"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    assert told.count(": survives\n") == 4, told
