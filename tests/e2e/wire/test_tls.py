"""TLS with real processes: the settings, the files while they change, and the flags of the command line."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import ssl
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent_service.client import AsyncClient, CallError, Tls
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process
from tests.fakes.authority import DAY, LOOPBACK, Issued, authority, replace

TASK = "What is 17.5% of 2340?"


def settings(directory: Path, issued: Issued | None = None) -> dict[str, str]:
    """A server of `authority()` in that directory."""
    cert_file, key_file = (issued or authority().issue(*LOOPBACK)).write(directory, "server")
    return {"TLS_CERT_FILE": str(cert_file), "TLS_KEY_FILE": str(key_file)}


def client(server: ServerProcess, key: str = KEY) -> AsyncClient:
    return AsyncClient(server.target, api_key=key, tls=Tls(authority().write(server.directory)), patience_s=0)


async def shown(server: ServerProcess) -> bytes:
    """The certificate that a new connection sees, as PEM."""

    def read() -> bytes:
        context = ssl.create_default_context(cadata=authority().pem.decode())
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", server.port)) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1") as protected,
        ):
            return ssl.DER_cert_to_PEM_cert(protected.getpeercert(binary_form=True) or b"").encode()

    return await asyncio.to_thread(read)


async def test_the_command_line_speaks_tls_by_flags_and_by_variables(tmp_path: Path) -> None:
    ca_file = str(authority().write(tmp_path))
    async with server_process(tmp_path, **settings(tmp_path)) as server:
        assert (await server.logged("started"))["tls"] is True
        by_flags = ("--target", server.target, "--ca-file", ca_file)
        env = environment(API_KEY=KEY)
        code, out, err = await command("run", *by_flags, "--quiet", TASK, cwd=tmp_path, env=env)
        assert (code, err) == (0, "")
        assert "409.5" in out
        by_variables = environment(API_KEY=KEY, AGENT_SERVICE_TARGET=server.target, AGENT_SERVICE_CA_FILE=ca_file)
        assert await command("health", cwd=tmp_path, env=by_variables) == (0, "SERVING\n", "")
        code, out, err = await command("health", "--target", server.target, "--tls", cwd=tmp_path, env=env)
        assert (code, out) == (5, "")
        assert "CERTIFICATE_VERIFY_FAILED" in err
        code, out, err = await command("health", "--target", server.target, cwd=tmp_path, env=env)
        assert (code, out) == (5, "")
        assert "it may require TLS (--tls, --ca-file)" in err


async def test_the_command_line_shows_a_certificate_of_its_own_in_place_of_a_key(tmp_path: Path) -> None:
    name = "spiffe://prod/ns/agents/sa/worker"
    (tmp_path / "keys.yaml").write_text(
        f"keys: [{{id: worker, identity: '{name}', tenant: acme, scopes: [tasks.run], agents: ['*']}}]"
    )
    mutual = settings(tmp_path) | {"TLS_CLIENT_CA_FILE": str(authority().write(tmp_path)), "API_KEYS_FILE": "keys.yaml"}
    async with server_process(tmp_path, **mutual) as server:
        cert_file, key_file = map(str, authority().issue(name).write(tmp_path, "client"))
        common = ("--target", server.target, "--ca-file", str(tmp_path / "ca.pem"))
        own = ("--cert-file", cert_file, "--key-file", key_file)
        code, _, err = await command("run", *common, *own, "--quiet", TASK, cwd=tmp_path, env=environment())
        assert (code, err) == (0, "")
        assert (await server.logged("rpc"))["tenant"] == "acme"
        code, _, _ = await command("run", *common, "--quiet", TASK, cwd=tmp_path, env=environment(API_KEY=KEY))
        assert code == 5


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--ca-file", "missing.pem"), "missing.pem: No such file or directory"),
        (("--cert-file", "client.pem"), "a client certificate needs both --cert-file and --key-file"),
    ],
)
async def test_wrong_flags_are_told_as_such(tmp_path: Path, flags: tuple[str, ...], told: str) -> None:
    code, _, err = await command("health", *flags, cwd=tmp_path, env=environment())
    assert (code, err.splitlines()[-1]) == (2, f"Error: {told}")


async def test_certificates_change_under_load_without_a_failed_call(tmp_path: Path) -> None:
    async with server_process(tmp_path, **settings(tmp_path)) as server, client(server) as stays:
        done, calls = asyncio.Event(), [0, 0]

        async def stay() -> None:
            while not done.is_set():
                await stays.list_agents()
                calls[0] += 1

        async def come_and_go() -> None:
            while not done.is_set():
                async with client(server) as newcomer:
                    await newcomer.list_agents()
                calls[1] += 1

        load = [asyncio.create_task(stay()), asyncio.create_task(come_and_go())]
        for times in (1, 2, 3):
            issued = authority().issue(*LOOPBACK)
            issued.write(tmp_path, "server")
            async with asyncio.timeout(20):
                line = await server.logged("tls_reloaded", times)
            (sample,) = re.findall(r"^agent_service_tls_not_after_seconds (.*)$", await server.metrics(), re.MULTILINE)
            assert float(sample) == datetime.fromisoformat(line["not_after"]).timestamp()
            assert await shown(server) == issued.certificate
            before = list(calls)
            while any(count < was + 3 for count, was in zip(calls, before, strict=True)):
                await asyncio.wait(load, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
                assert not any(task.done() for task in load)
        done.set()
        await asyncio.gather(*load)


async def test_files_that_do_not_serve_are_refused_once_and_the_last_good_ones_stay(tmp_path: Path) -> None:
    good, other = authority().issue(*LOOPBACK), authority().issue(*LOOPBACK)
    expired = authority().issue(*LOOPBACK, begins=-3 * DAY, ends=-2 * DAY)
    early = authority().issue(*LOOPBACK, begins=DAY, ends=2 * DAY)
    flaws = [
        (b"garbage", good.key, "server.pem: holds no certificate in PEM form"),
        (expired.certificate, expired.key, "server.pem: expired at 20"),
        (early.certificate, early.key, "server.pem: is not valid before 20"),
        (good.certificate, other.key, "server.key: is not the key of the first certificate of "),
    ]
    async with server_process(tmp_path, **settings(tmp_path, good)) as server:
        for certificate, key, told in flaws:
            replace(tmp_path / "server.pem", certificate)
            replace(tmp_path / "server.key", key)
            await refused_for(server, told)
            assert await shown(server) == good.certificate
            async with client(server) as newcomer:
                assert await newcomer.list_agents()
        last = [line["problems"] for line in server.log if line["event"] == "tls_refused"][-1]
        other.write(tmp_path, "server")
        async with asyncio.timeout(20):
            await server.logged("tls_reloaded")
        assert await shown(server) == other.certificate
        assert [line.get("problems") for line in server.log].count(last) == 1
        assert "PRIVATE KEY" not in "".join(server.stderr)


async def refused_for(server: ServerProcess, told: str) -> None:
    """Wait until the files are refused for that; between two of them other reasons may be seen."""
    async with asyncio.timeout(20):
        for times in itertools.count(1):
            line = await server.logged("tls_refused", times)
            if any(told in problem for problem in line["problems"]):
                assert line["level"] == "WARNING"
                return


async def test_a_start_with_them_is_refused_as_is_a_check_of_the_configuration(tmp_path: Path) -> None:
    env = environment(API_KEY=KEY, LLM_PROVIDER="scripted", API_PORT="0", METRICS_PORT="0", **settings(tmp_path))
    (tmp_path / "server.pem").write_text("garbage")
    told = f"{tmp_path}/server.pem: holds no certificate in PEM form\n"
    for arguments in (("serve",), ("config", "check")):
        assert await command(*arguments, cwd=tmp_path, env=env) == (2, "", told)


@pytest.mark.parametrize(
    ("unset", "told"),
    [
        ("TLS_KEY_FILE", "environment TLS_KEY_FILE: must be set if TLS_CERT_FILE is set"),
        ("TLS_CERT_FILE", "environment TLS_CERT_FILE: must be set if TLS_KEY_FILE is set"),
    ],
)
async def test_half_of_a_pair_is_refused(tmp_path: Path, unset: str, told: str) -> None:
    env = environment(API_KEY=KEY, LLM_PROVIDER="scripted", **settings(tmp_path))
    del env[unset]
    assert await command("config", "check", cwd=tmp_path, env=env) == (2, "", told + "\n")


async def test_the_port_for_health_answers_health_alone_without_tls(tmp_path: Path) -> None:
    async with server_process(tmp_path, HEALTH_PORT="0", **settings(tmp_path)) as server:
        async with AsyncClient(f"127.0.0.1:{server.health_port}", api_key=KEY, patience_s=0) as plain:
            for name in ("", "startup", "liveness", "readiness", "agent_service.v1.AgentService"):
                assert await plain.health(name) == "SERVING"
            with pytest.raises(CallError) as refused:
                await plain.run("hi")
            assert (refused.value.code, refused.value.reason) == ("UNIMPLEMENTED", "METHOD_NOT_FOUND")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
            for package in ("v1", "v1alpha"):
                reflect: Any = channel.stream_stream(
                    f"/grpc.reflection.{package}.ServerReflection/ServerReflectionInfo"
                )()
                assert await reflect.code() is grpc.StatusCode.UNIMPLEMENTED
        # As the image's HEALTHCHECK runs it.
        here = {"API_PORT": str(server.port), "HEALTH_PORT": str(server.health_port)}
        told = await command("health", "readiness", cwd=tmp_path, env=environment(**here, **settings(tmp_path)))
        assert told == (0, "SERVING\n", "")
