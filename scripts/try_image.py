"""`make test-image`: builds the image and tries it the hard way.

It runs under a user id that no system knows, on a read-only root file system, without capabilities, without a network.
One to three minutes; nothing stays running, mounted or built.

`containers.py` says what it runs with. BASE names another base image than the Dockerfile's.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

from scripts.containers import ROOT, USER, Container, Engine, Failed, Namespaces, engine_that_runs, say

START_S = 60
LOG_LINES = 20

AUTHORITIES = 'import ssl; print("authorities:", bool(ssl.create_default_context().get_ca_certs()))'
# What a start has to compile, each time, because a read-only root keeps no bytecode.
UNCOMPILED = """
import os, sys
import agent_service.bootstrap, agent_service.cli.operator.serve, agent_service.llm.openai, openai, uvloop
specs = [getattr(module, "__spec__", None) for module in sys.modules.values()]
print("uncompiled:", [spec.name for spec in specs if spec and spec.cached and not os.path.exists(spec.cached)])"""


def scenario(container: Container) -> None:
    began = time.monotonic()
    container.build()
    say(f"built in {time.monotonic() - began:.0f} s on {container.base}: {container.size()}")

    container.start(key="")
    code = container.wait_for_end()
    if code != 2:
        raise Failed(f"expected it to refuse, with 2, to start without a key: {code}")
    expect("production needs a key", container.log())

    began = time.monotonic()
    container.start(secrets.token_hex(32))
    while "SERVING" not in (answer := container.inside("agent-service", "health", "readiness")):
        if not container.is_running():
            raise Failed(f"the server ended: {answer}")
        if time.monotonic() - began > START_S:
            raise Failed(f"not ready after {START_S} s: {answer}")
    say(f"ready after {time.monotonic() - began:.0f} s, as user {USER} on a read-only root")

    expect("SERVING", container.inside("agent-service", "health"))  # what HEALTHCHECK runs
    expect("409.5", container.inside("agent-service", "run", "What is 17.5% of 2340?"))
    tokyo = ("agent-service", "tools", "invoke", "current_time", '{"timezone": "Asia/Tokyo"}')
    expect("+09:00", container.inside(*tokyo))
    expect(USER, container.inside("stat", "-c", "%u", "/data/agent_service.db"))
    expect("Read-only file system", container.inside("touch", "/app/it"))
    expect("authorities: True", container.inside("python", "-c", AUTHORITIES))
    expect("uncompiled: []", container.inside("python", "-c", UNCOMPILED))

    container.terminate()
    code = container.wait_for_end()
    if code != 0:
        raise Failed(f"expected SIGTERM to end it with 0: {code}")
    say("answered the README's task, ended by SIGTERM with 0")


def expect(part: str, whole: str) -> None:
    if part not in whole:
        raise Failed(f"expected {part!r} in: {whole}")


def main() -> int:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda which, _: sys.exit(128 + which))
    written = re.search(r"^ARG BASE=(.*)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert written is not None
    base = os.environ.get("BASE") or written[1]
    container: Container | None = None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            engine = engine_that_runs()
            container = Engine(engine, base, work) if engine else Namespaces(base, work)
            say(f"building with {engine or 'buildah'}; a minute or two")
            scenario(container)
        except Failed as error:
            say(f"{error}")
            if container is not None:
                say("FAILED; the last that was said:")
                print("\n".join(container.log().splitlines()[-LOG_LINES:]))
            return 1
        finally:
            if container is not None:
                container.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
