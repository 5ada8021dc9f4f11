"""What libraries read of the environment is told by the start, by `config check` and by the doctor."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from agent_service.bootstrap.surroundings import check_http_client
from agent_service.client import AsyncClient
from agent_service.config.loader import load
from agent_service.config.surroundings import CERTIFICATES, proxy_variables
from agent_service.errors import ConfigError
from tests.e2e.cli.test_doctor import doctor
from tests.e2e.processes import KEY, command, environment, server_process
from tests.fakes.provider import FakeProvider, finish, stream, text, usage

REMOTE = {
    "API_KEY": KEY,
    "LLM_PROVIDER": "openai",
    "OPENAI_API_KEY": "provider-key",
    "LLM_BASE_URL": "http://127.0.0.1:1/v1",
}
PORTS = {"API_HOST": "127.0.0.1", "API_PORT": "0", "METRICS_PORT": "0"}
UNUSABLE = [
    ("ALL_PROXY", "socks5://proxy:1080", "names a SOCKS proxy, for which the package socksio must be installed"),
    ("https_proxy", "socks5h://user:secret@proxy:1080", "names a SOCKS proxy"),
    ("HTTP_PROXY", "socks4://user:secret@proxy", "must be the URL of a proxy: http://, https://, socks5://"),
    ("HTTPS_PROXY", "ftp://user:secret@proxy", "must be the URL of a proxy"),
    ("all_proxy", "http://user:secret@[::1", "must be the URL of a proxy"),
    ("HTTP_PROXY", "http://", "must be the URL of a proxy"),
    ("SSL_CERT_FILE", "/no/secret.pem", "does not exist"),
    ("SSL_CERT_FILE", "/", "is not a file that can be read"),
    ("SSL_CERT_FILE", "/etc/hostname", "may be why no HTTP client can be built"),
    ("SSL_CERT_DIR", "/no/secret", "is not a directory"),
    ("SSLKEYLOGFILE", "/no/secret/log", "cannot be written"),
]


@pytest.mark.parametrize(("name", "value", "told"), UNUSABLE)
def test_what_no_http_client_can_be_built_with_is_told(
    name: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in (*proxy_variables(os.environ), *CERTIFICATES):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        check_http_client(load(REMOTE, dotenv_path=None, path_default=tmp_path / "none"))

    (problem,) = refused.value.problems
    assert problem.startswith(f"environment {name}: ")
    assert told in problem
    assert "secret" not in problem


@pytest.mark.parametrize(("name", "value", "told"), [UNUSABLE[0], UNUSABLE[6]])
async def test_it_is_told_before_any_task(name: str, value: str, told: str, tmp_path: Path) -> None:
    settings = REMOTE | PORTS | {name: value}
    code, out, err = await command("serve", cwd=tmp_path, env=environment(**settings))
    assert (code, out) == (2, "")
    (problem,) = [line for line in err.splitlines() if not line.startswith("{")]
    assert told in problem

    code, _, err = await command("config", "check", cwd=tmp_path, env=environment(**settings))
    assert (code, err) == (2, f"{problem}\n")

    code, found = await doctor(tmp_path, **settings)
    assert code == 1
    assert ("problem", problem) in found["configuration"]


async def test_without_a_provider_to_ask_they_are_nobodys_matter(tmp_path: Path) -> None:
    async with (
        server_process(tmp_path, ALL_PROXY="socks5://x:1", SSL_CERT_FILE="/no") as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        assert "409.5" in (await client.run("what is 17.5% of 2340?")).output


@pytest.mark.parametrize("config", ["", "models: {m: {provider: openai, model_id: x}}\nagents: {a: {model: m}}\n"])
async def test_openai_base_url_is_where_models_are_asked_and_the_start_says_so(config: str, tmp_path: Path) -> None:
    if config:
        (tmp_path / "config.yaml").write_text(config)
    async with FakeProvider() as provider:
        provider.will(stream(text("here"), finish(), usage()))
        settings = {"LLM_PROVIDER": "", "OPENAI_API_KEY": "provider-key", "OPENAI_BASE_URL": provider.base_url}
        async with (
            server_process(tmp_path, **settings) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            notice = (await server.logged("configuration_notice"))["notice"]
            assert (await client.run("hi")).output == "here"
        _, found = await doctor(tmp_path, **settings)

    model = "m" if config else "default"
    assert notice == f"environment OPENAI_BASE_URL: is the address of models without a base_url: {model}"
    assert found["environment"] == [("warning", notice)]


async def test_llm_base_url_goes_before_it(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.will(stream(text("here"), finish(), usage()))
        settings = REMOTE | {"LLM_BASE_URL": provider.base_url, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
        async with (
            server_process(tmp_path, **settings) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            assert (await client.run("hi")).output == "here"
            assert not [line for line in server.log if line["event"] == "configuration_notice"]


NOTICES = {
    "OPENAI_CUSTOM_HEADERS=x-secret: y": "makes the openai package send these headers to every provider",
    "OPENAI_LOG=debug": "makes the openai package log requests",
    "HTTP_PROXY=http://u:secret@proxy": "sends the requests of model default at 127.0.0.1 to a proxy",
    "all_proxy=http://u:secret@proxy": "sends the requests of model default at 127.0.0.1 to a proxy",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc": "is ignored while nothing is traced",
    "OTEL_EXPORTER_OTLP_PROTOCOL=http/json": "is ignored while nothing is traced",
    "OTEL_TRACES_SAMPLER=jaeger_remote": "is ignored while nothing is traced",
    "OTEL_TRACES_SAMPLER_ARG=endpoint=http://x:1": "is ignored while nothing is traced",
    "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317": "is ignored while nothing is traced",
    "OTEL_SERVICE_NAME=my service": "is ignored while nothing is traced",
}


@pytest.mark.parametrize("setting", NOTICES)
def test_what_the_service_runs_with_is_noticed(setting: str, tmp_path: Path) -> None:
    name, _, value = setting.partition("=")
    (notice,) = load(REMOTE | {name: value}, dotenv_path=None, path_default=tmp_path / "none").notices

    assert str(notice).startswith(f"environment {name}: {NOTICES[setting]}")
    assert "secret" not in str(notice)


async def test_a_notice_is_told_by_the_start_the_check_and_the_doctor(tmp_path: Path) -> None:
    settings = REMOTE | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    async with server_process(tmp_path, **settings) as server:
        told = (await server.logged("configuration_notice"))["notice"]
    _, found = await doctor(tmp_path, **settings)
    code, _, err = await command("config", "check", cwd=tmp_path, env=environment(**settings))

    assert told.startswith("environment OTEL_EXPORTER_OTLP_PROTOCOL: is ignored while nothing is traced")
    assert found["environment"] == [("warning", told)]
    assert (code, err) == (0, f"note: {told}\n")


@pytest.mark.parametrize("value", ["thrift", "secret ü"])
def test_a_value_that_no_standard_knows_is_refused_also_while_nothing_is_traced(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="environment OTEL_EXPORTER_OTLP_PROTOCOL: must be 'http/protobuf'"):
        load(REMOTE | {"OTEL_EXPORTER_OTLP_PROTOCOL": value}, dotenv_path=None, path_default=tmp_path / "none")


def test_a_protocol_that_is_not_spoken_is_refused_where_traces_are_wanted(tmp_path: Path) -> None:
    wanted = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(ConfigError, match="environment OTEL_EXPORTER_OTLP_PROTOCOL: must be 'http/protobuf'"):
        load(REMOTE | wanted, dotenv_path=None, path_default=tmp_path / "none")


async def test_a_proxy_that_leaves_a_model_of_this_machine_alone_is_not_told(tmp_path: Path) -> None:
    settings = REMOTE | {"HTTP_PROXY": "http://proxy", "NO_PROXY": "localhost, 127.0.0.1"}
    code, _, err = await command("config", "check", cwd=tmp_path, env=environment(**settings))

    assert (code, err) == (0, "")


async def test_a_variable_of_a_library_in_a_dotenv_file_is_told_to_have_no_effect(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TASK_LENGTH_MAX=7\nhttps_proxy=http://proxy\nSSL_CERT_FILE=/no\nGRPC_TRACE=all\n")
    code, _, err = await command("config", "check", cwd=tmp_path, env=environment())

    has_none = "has no effect here: a library reads it, but only from the environment of the process"
    named = {"GRPC_TRACE": 4, "SSL_CERT_FILE": 3, "https_proxy": 2}
    assert code == 0
    assert [line for line in err.splitlines() if "API key" not in line] == [
        f"note: .env:{line} {name}: {has_none}" for name, line in named.items()
    ]


async def test_what_opentelemetry_cannot_be_set_up_with_is_told(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    settings = {"API_KEY": KEY, "LLM_PROVIDER": "scripted", "OTEL_TRACES_EXPORTER": "otlp"}
    broken = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100000"}
    code, _, err = await command("serve", cwd=tmp_path, env=environment(**PORTS, **settings, **broken))

    assert (code, err) == (
        2,
        "OpenTelemetry cannot be set up (ValueError): check OTEL_BSP_MAX_EXPORT_BATCH_SIZE\n",
    )


@pytest.mark.parametrize("strategy", ["none", "epollex", ""])
@pytest.mark.parametrize("arguments", [("serve",), ("tools", "list"), ("health",)])
async def test_a_poller_that_ends_grpc_is_told_first(arguments: tuple[str, ...], strategy: str, tmp_path: Path) -> None:
    code, _, err = await command(*arguments, cwd=tmp_path, env=environment(GRPC_POLL_STRATEGY=strategy))

    assert (code, err) == (2, "GRPC_POLL_STRATEGY: must be one of all, epoll1, poll, or unset\n")


TOOLS = """
from agent_service.tools.decorator import tool

@tool(side_effect="read_only", description="x" * 1024)
def fits() -> str:
    return ""

@tool(side_effect="read_only", description="x" * 1025)
def long() -> str:
    return ""
"""


async def test_a_description_that_openai_would_refuse_is_told_by_the_start_and_by_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "long_tools.py").write_text(TOOLS)
    (tmp_path / "config.yaml").write_text(
        "models: {m: {provider: scripted}}\ntools: {modules: [long_tools]}\n"
        "agents: {a: {model: m, tools: [fits, long]}}\n"
    )
    settings = {"PYTHONPATH": str(tmp_path), "LLM_PROVIDER": ""}
    async with server_process(tmp_path, **settings) as server:
        notice = (await server.logged("configuration_notice"))["notice"]
        await asyncio.sleep(0)
    _, found = await doctor(tmp_path, **settings)

    assert notice == "tool long: its description has 1025 characters; OpenAI accepts 1024"
    assert ("warning", notice) in found["configuration"]
    assert json.dumps(server.log).count("OpenAI accepts") == 1
