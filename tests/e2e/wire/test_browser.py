"""A page in a real browser: clients/typescript/browser, by gRPC-Web through Envoy."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.behind_proxy import provided
from tests.e2e.wire.test_envoy import envoy
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, serving
from tests.fakes.provider import FakeProvider, finish, hanging_stream, stream, text, usage
from tests.plugins.toolchain import find

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "clients" / "typescript"
PAGE = CLIENT / "dist" / "browser"
# What ends by itself in the background would ask for the outside.
CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
# Fills in the page's form as somebody would, and tells what the page shows in the end.
DRIVE = """<!doctype html><iframe src="/index.html"></iframe><script type="module">
const told = new URLSearchParams(location.search);
const frame = document.querySelector("iframe");
await new Promise((loaded) => frame.addEventListener("load", loaded));
const page = frame.contentDocument, at = (id) => page.getElementById(id);
for (const name of ["proxy", "token", "task"]) at(name).value = told.get(name);
const shown = (id, text) => new Promise((seen) => {
  const look = () => at(id).textContent.includes(text) && seen();
  new MutationObserver(look).observe(at(id), {childList: true, characterData: true, subtree: true});
  look();
});
at("run").click();
if (told.get("stop_at")) { await shown("says", told.get("stop_at")); at("stop").click(); }
await new Promise((seen) => new MutationObserver(() => at("ended").textContent && seen())
  .observe(at("ended"), {childList: true}));
const events = [...page.querySelectorAll("li")].map((each) => each.textContent);
await fetch("/told", {method: "POST",
  body: JSON.stringify({ended: at("ended").textContent, says: at("says").textContent, events})});
</script>"""

pytestmark = [
    pytest.mark.needs("envoy", "chromium", "npm"),
    pytest.mark.timeout(180),
    pytest.mark.together("client-typescript"),
]


@dataclass
class Site:
    """Serves the page, and takes what it tells."""

    port: int = 0
    told: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        method, path = head.split(" ")[:2]
        path = path.partition("?")[0]
        if method == "post":
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            self.told.put_nowait(json.loads(await reader.readexactly(length)))
        found = (PAGE / path[1:]).is_file()
        body = DRIVE.encode() if path == "/drive.html" else (PAGE / path[1:]).read_bytes() if found else b""
        kind = "text/javascript" if path.endswith(".js") else "text/html; charset=utf-8"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
def page() -> None:
    """Build it."""
    subprocess.run(["npm", "run", "--silent", "browser"], cwd=CLIENT, check=True, capture_output=True)


@dataclass(frozen=True)
class Visitor:
    """Somebody with a browser and a token, who asks for the page."""

    site: Site
    proxy: str
    issuer: IdentityProvider
    directory: Path

    async def sends(self, token: str = "", stop_at: str = "") -> dict[str, Any]:
        """What the page shows after its form was sent."""
        form = {"proxy": f"http://{self.proxy}", "task": "What is 17.5% of 2340?", "stop_at": stop_at}
        form["token"] = token or self.issuer.token(scope="tasks.run tasks.cancel")
        chromium = find("chromium")
        assert chromium is not None
        process = await asyncio.create_subprocess_exec(
            chromium,
            *CHROMIUM,
            f"--user-data-dir={self.directory / 'profile'}",
            "--remote-debugging-port=0",  # else it leaves when the page is loaded
            f"http://127.0.0.1:{self.site.port}/drive.html?{urlencode(form)}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                return await self.site.told.get()
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def visitor(directory: Path, provider: FakeProvider, *, is_welcome: bool = True) -> AsyncIterator[Visitor]:
    """A visitor of a page whose origin Envoy lists, or does not."""
    site = Site()
    async with (
        await asyncio.start_server(site.serve, "127.0.0.1", 0) as listening,
        serving(IdentityProvider()) as issuer,
        provided(directory, provider, JWT_ISSUER=issuer.issuer, JWT_AUDIENCE=AUDIENCE) as server,
    ):
        site.port = listening.sockets[0].getsockname()[1]
        origins = [("http://localhost:3000", f"http://127.0.0.1:{site.port}")] if is_welcome else []
        async with envoy(directory, server.port, *origins) as proxy:
            yield Visitor(site, proxy, issuer, directory)


@pytest.mark.usefixtures("page")
async def test_a_page_streams_a_task_and_shows_its_events(tmp_path: Path) -> None:
    async with FakeProvider() as provider, visitor(tmp_path, provider) as somebody:
        provider.will(stream(text("It is "), text("409.5."), finish(), usage()))
        shown = await somebody.sends()

    assert (shown["ended"], shown["says"]) == ("completed", "It is 409.5.")
    assert shown["events"] == ["submitted", "attemptStarted", "modelStarted", "modelReplied", "completed"]


@pytest.mark.usefixtures("page")
async def test_a_page_reads_why_it_was_refused(tmp_path: Path) -> None:
    async with FakeProvider() as provider, visitor(tmp_path, provider) as somebody:
        shown = await somebody.sends(token=somebody.issuer.token(exp=1))

    assert shown["ended"] == "refused: TOKEN_EXPIRED"


@pytest.mark.usefixtures("page")
async def test_stopping_in_a_page_ends_the_call_of_the_model(tmp_path: Path) -> None:
    async with FakeProvider() as provider, visitor(tmp_path, provider) as somebody:
        provider.will(hanging_stream(text("I have begun")))
        shown = await somebody.sends(stop_at="I have begun")
        assert shown["ended"] == "stopped"
        async with asyncio.timeout(5):  # sooner than the server finds out by itself
            await provider.requests[0].client_gone.wait()


@pytest.mark.usefixtures("page")
async def test_a_page_of_another_origin_is_told_nothing(tmp_path: Path) -> None:
    async with FakeProvider() as provider, visitor(tmp_path, provider, is_welcome=False) as somebody:
        shown = await somebody.sends()

    assert shown["ended"] == "refused: Unknown"
    assert provider.requests == []
