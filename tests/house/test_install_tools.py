"""The tools that tests need are unpacked into .tools; the system is changed in CI alone, or on request."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("sh", "dirname", "mkdir", "rm", "cat", "tail")
APT = '#!/bin/sh\necho "$@" >>"$APT_LOG"\nexit 1\n'


@pytest.mark.parametrize(
    ("settings", "installs"), [({}, False), ({"CI": "true"}, True), ({"INSTALL_SYSTEM_PACKAGES": "yes"}, True)]
)
def test_packages_of_the_system_are_installed_only_where_that_is_wanted(
    settings: dict[str, str], installs: bool, tmp_path: Path
) -> None:
    commands, log = tmp_path / "bin", tmp_path / "apt.log"
    commands.mkdir()
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install-tools", tmp_path / "scripts")
    for name in NEEDED:
        (commands / name).symlink_to(str(shutil.which(name)))
    for name, text in {"apt-get": APT, "id": "#!/bin/sh\necho 0\n"}.items():
        (commands / name).write_text(text, "utf-8")
        (commands / name).chmod(0o755)
    done = subprocess.run(
        [str(commands / "sh"), "scripts/install-tools", "--if-possible"],
        cwd=tmp_path,
        env={"PATH": str(commands), "APT_LOG": str(log), **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert ("install --yes" in log.read_text("utf-8")) is installs
    assert installs or "apt-get install chromium" in done.stderr
