"""A page's blocks, run in their order as its reader would: commands, and the files that it says to write.

A block whose first line is `# NAME` is that file. A shell goes on from block to block; one that starts the server is
left to it, and the next block begins in a new shell where the page began. What the page says a block `prints` is looked
for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.processes import ServerProcess, server_process

BLOCK = re.compile(
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$(?:\n\nprints (?P<told>.*?)\.(?:\s|$))?", re.DOTALL | re.MULTILINE
)
SERVE = "agent-service serve"
KEPT = ("cd ", ". ", "export ")  # what a later block of the same shell depends on
UNSET = dict.fromkeys(("API_KEY", "LLM_PROVIDER", "DATABASE_URL"), "")  # a project's own
NOT_RUN = ("docker ",)  # no engine runs where the tests do


@dataclass
class Reader:
    """Somebody who reads pages, beginning in `directory`."""

    directory: Path
    env: Mapping[str, str]
    servers: AsyncExitStack
    shell: list[str] = field(default_factory=list)
    server: ServerProcess | None = None

    async def read(self, page: str) -> None:
        for block in BLOCK.finditer(page):
            text, expected = block["text"], re.findall(r"`([^`]+)`", block["told"] or "")
            named = re.match(r"# ([\w./-]+\.\w+)\n", text)
            if named and block["language"] != "sh":
                (self.directory / named[1]).write_text(text, "utf-8")
            elif block["language"] == "sh" and not text.startswith(NOT_RUN):
                out = await self._run(text)
                assert [part for part in expected if part not in out] == [], out

    async def _run(self, text: str) -> str:
        commands, serves, rest = text.partition(f"{SERVE}\n")
        assert not rest, "nothing can follow in the shell of the server"
        kept = [line for line in commands.splitlines() if line.startswith(KEPT)]
        out = await self._bash(commands) if len(kept) < len(commands.splitlines()) else ""
        self.shell += kept
        if serves:
            await self._serve()
            self.shell = []
        return out

    async def _serve(self) -> None:
        if self.server is not None:  # the page starts it anew
            self.server.process.terminate()
            await self.server.process.wait()
        script = "\n".join((*self.shell, f"exec {SERVE}"))
        self.server = await self.servers.enter_async_context(
            server_process(self.directory, *("bash", "-euc", script), **self.env, **UNSET)
        )

    async def _bash(self, commands: str) -> str:
        there = {"AGENT_SERVICE_TARGET": self.server.target} if self.server is not None else {}
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", "\n".join((*self.shell, commands))),
            cwd=self.directory,
            env={**self.env, **there},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()
