"""A server started as the manifests say, and asked for its health as Kubernetes would ask."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.rendered import EVERYTHING, Manifest, container, environment, plain, pod, render, the
from tests.e2e.processes import ServerProcess, server_process
from tests.fakes.authority import LOOPBACK, authority
from tests.plugins.toolchain import find

pytestmark = pytest.mark.needs("grpc-health-probe")

PROBES = ("startup", "readiness", "liveness")
OK, NOT_SERVING = 0, 4
CONFIG = "agents: {assistant: {model: default}}\nmodels: {default: {provider: scripted}}\n"


def mount(directory: Path, manifests: list[Manifest]) -> dict[str, str]:
    """Put the files where the container would find them; its environment, with ports and places of this test."""
    given = environment(manifests)
    mounted = {"/etc/agent-service": str(directory)}
    for name in ("config", "keys", "tls"):
        (directory / name).mkdir()
    contents: dict[str, Any] = {}
    if "AGENT_SERVICE_CONFIG_PATH" in given:
        contents["config"] = the(manifests, "ConfigMap")["data"]
    if "API_KEYS_FILE" in given:
        contents["keys"] = the(manifests, "Secret", "-keys")["stringData"]
    if "TLS_CERT_FILE" in given:
        issued = authority().issue(*LOOPBACK)
        pair = {"tls.crt": issued.certificate.decode(), "tls.key": issued.key.decode()}
        contents["tls"] = pair | {"ca.crt": authority().pem.decode()}
    for name, files in contents.items():
        for file, content in files.items():
            (directory / name / file).write_text(content)
    for old, new in mounted.items():
        given = {name: value.replace(old, new) for name, value in given.items()}
    model = "" if "config" in contents else "scripted"
    return given | {"HEALTH_PORT": "0", "LLM_PROVIDER": model}


async def probe(server: ServerProcess, manifests: list[Manifest]) -> list[int]:
    """What the three probes say."""

    async def exit_code(kind: str) -> int:
        asked = container(manifests)[f"{kind}Probe"]
        tool = find("grpc-health-probe")
        assert tool is not None
        options = ("-addr", f"127.0.0.1:{server.health_port}", "-service", asked["grpc"]["service"])
        timeouts = ("-connect-timeout", "20s", "-rpc-timeout", "20s")
        process = await asyncio.create_subprocess_exec(tool, *options, *timeouts, stderr=asyncio.subprocess.DEVNULL)
        return await process.wait()

    return list(await asyncio.gather(*map(exit_code, PROBES)))


@pytest.fixture(params=["plain", pytest.param("everything", marks=pytest.mark.needs("helm"))])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> list[Manifest]:
    if request.param == "plain":
        return plain()
    config = tmp_path / "written.yaml"
    config.write_text(CONFIG)
    return render(*EVERYTHING, f"--set-file=config={config}")


async def test_it_passes_its_probes_and_is_gone_before_it_would_be_killed(
    tmp_path: Path, manifests: list[Manifest]
) -> None:
    async with server_process(tmp_path, **mount(tmp_path, manifests)) as server:
        assert await probe(server, manifests) == [OK, OK, OK]

        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await server.logged("draining")
        assert await probe(server, manifests) == [OK, NOT_SERVING, OK]

        async with asyncio.timeout(pod(manifests)["terminationGracePeriodSeconds"]):
            assert await server.process.wait() == 0
        assert time.monotonic() - began >= float(environment(manifests)["DRAIN_DELAY"])
