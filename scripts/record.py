"""`make record`: runs the demo on a terminal of its own and writes what it showed as docs/demo.svg."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "demo.svg"
COLUMNS, ROWS = 88, 40
CHARACTER_PX, LINE_PX, FONT_PX, MARGIN_PX = 8.4, 20, 14, 20
STYLES = {"1": "bold", "2": "dim"}
ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
<title>{title}</title>
<style>
rect {{ fill: #14191f }}
text {{ font: {font}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d7dde4;
  white-space: pre }}
.bold {{ font-weight: bold; fill: #ffffff }}
.dim {{ fill: #8b98a5 }}
</style>
<rect width="100%" height="100%" rx="8"/>
{lines}
</svg>
"""


class Line(NamedTuple):
    """One line of a terminal."""

    text: str
    style: str


def recorded(command: list[str]) -> list[Line]:
    """The lines that a command writes to a terminal; it must end well."""
    terminal, child_terminal = pty.openpty()
    fcntl.ioctl(child_terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "TMPDIR": "/tmp"}  # noqa: S108 # of the demo's own folder
    environment.pop("NO_COLOR", None)
    written = b""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=child_terminal, stdout=child_terminal, stderr=child_terminal
    ) as process:
        os.close(child_terminal)
        while read := _read(terminal):
            written += read
    os.close(terminal)
    if process.returncode != 0:
        raise RuntimeError(written.decode())
    return [_line(line) for line in written.decode().splitlines()]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the other end was closed
        return b""


def _line(raw: str) -> Line:
    """A line that has one style from its beginning to its end, which is all that the demo writes."""
    codes = [code for code, kind in ESCAPE.findall(raw) if kind == "m"]
    style = next((STYLES[code] for code in codes if code in STYLES), "plain")
    text = ESCAPE.sub("", raw)
    if not text.isprintable() or any(kind != "m" for _, kind in ESCAPE.findall(raw)):
        raise RuntimeError(f"this script draws no cursor movement: {raw!r}")
    return Line(text, style)


def picture(lines: list[Line]) -> str:
    """The lines as SVG."""
    shown = [Line("$ make demo", "bold"), *lines]
    width = round(2 * MARGIN_PX + CHARACTER_PX * max(len(line.text) for line in shown))
    drawn = [
        f'<text x="{MARGIN_PX}" y="{MARGIN_PX + LINE_PX * number + FONT_PX}" class="{line.style}"'
        f' xml:space="preserve">{escape(line.text)}</text>'
        for number, line in enumerate(shown)
        if line.text
    ]
    height = 2 * MARGIN_PX + LINE_PX * len(shown)
    title = "A terminal: make demo runs a task from start to answer"
    return SVG.format(width=width, height=height, font=FONT_PX, title=title, lines="\n".join(drawn))


if __name__ == "__main__":
    PICTURE.write_text(picture(recorded([sys.executable, "-m", "scripts.demo"])), "utf-8")
    print(PICTURE.relative_to(ROOT))
