"""Signals that come before the server can handle them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.e2e.processes import KEY, agent_service, environment

EARLY = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignored(pid: int) -> bool:
    """Whether the process ignores them, as the kernel knows it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return all(mask >> (number - 1) & 1 for number in EARLY)


async def test_a_server_that_still_imports_outlives_a_hang_up(tmp_path: Path) -> None:
    settings = {
        "API_KEY": KEY,
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "METRICS_PORT": "0",
        "LLM_PROVIDER": "scripted",
    }
    process = await asyncio.create_subprocess_exec(
        *agent_service("serve"),
        cwd=tmp_path,
        env=environment(**settings),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    started = asyncio.ensure_future(process.stderr.readuntil(b'"started"'))
    try:
        async with asyncio.timeout(60):
            while not ignored(process.pid):  # Python itself starts
                await asyncio.to_thread(lambda: None)
            assert not started.done()
            sent = 0
            while not started.done():
                for number in EARLY:
                    process.send_signal(number)
                sent += 1
                await asyncio.sleep(0.01)
            await started
        assert sent > 1
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
