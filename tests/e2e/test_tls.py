"""TLS with real processes: the settings, the files, and the flags of the command line."""

from __future__ import annotations

from pathlib import Path

from agent_service.client import AsyncClient, Tls
from tests.e2e.processes import KEY, command, environment, server_process
from tests.fakes.authority import LOOPBACK, authority


def settings(directory: Path) -> dict[str, str]:
    """A server of `authority()` in that directory."""
    cert_file, key_file = authority().issue(*LOOPBACK).write(directory, "server")
    return {"TLS_CERT_FILE": str(cert_file), "TLS_KEY_FILE": str(key_file)}


async def test_the_command_line_speaks_tls_by_flags_and_by_variables(tmp_path: Path) -> None:
    ca_file = str(authority().write(tmp_path))
    async with server_process(tmp_path, **settings(tmp_path)) as server:
        assert (await server.logged("started"))["tls"] is True
        by_flags = ("--target", server.target, "--ca-file", ca_file)
        env = environment(API_KEY=KEY)
        code, out, err = await command("run", *by_flags, "--quiet", "What is 17.5% of 2340?", cwd=tmp_path, env=env)
        assert (code, err) == (0, "")
        assert "409.5" in out
        by_variables = environment(API_KEY=KEY, AGENT_SERVICE_TARGET=server.target, AGENT_SERVICE_CA_FILE=ca_file)
        assert await command("health", cwd=tmp_path, env=by_variables) == (0, "SERVING\n", "")
        code, out, err = await command("health", "--target", server.target, "--tls", cwd=tmp_path, env=env)
        assert (code, out) == (5, "")
        assert "CERTIFICATE_VERIFY_FAILED" in err
        async with AsyncClient(server.target, api_key=KEY, tls=Tls(ca_file)) as client:
            assert await client.list_tools()
