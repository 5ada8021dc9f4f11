"""The tools that tests need are unpacked into .tools; the system is changed in CI alone, or on request."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
APT = '#!/bin/sh\necho "$@" >>"$APT_LOG"\nexit 1\n'
AS_ROOT = "import os, runpy; os.geteuid = lambda: 0; runpy.run_path('scripts/install_tools.py', run_name='__main__')"


@pytest.mark.parametrize(
    ("settings", "installs"), [({}, False), ({"CI": "true"}, True), ({"INSTALL_SYSTEM_PACKAGES": "yes"}, True)]
)
def test_packages_of_the_system_are_installed_only_where_that_is_wanted(
    settings: dict[str, str], installs: bool, tmp_path: Path
) -> None:
    commands, log = tmp_path / "bin", tmp_path / "apt.log"
    commands.mkdir()
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install_tools.py", tmp_path / "scripts")
    (commands / "apt-get").write_text(APT, "utf-8")
    (commands / "apt-get").chmod(0o755)
    (commands / "sh").symlink_to(str(shutil.which("sh")))
    done = subprocess.run(
        [sys.executable, "-c", AS_ROOT, "--if-possible"],
        cwd=tmp_path,
        env={"PATH": str(commands), "APT_LOG": str(log), **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert ("install --yes" in log.read_text("utf-8")) is installs
    assert installs or "apt-get install chromium" in done.stderr
    assert "grpcurl: no go to bring it" in done.stderr
    assert not list((tmp_path / ".tools").glob("*.version"))
