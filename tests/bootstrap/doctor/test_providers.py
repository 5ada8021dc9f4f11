"""What `agent-service doctor` finds of models, by what their providers list."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_service.bootstrap.doctor import examination
from agent_service.bootstrap.doctor.examination import Finding, examine
from agent_service.bootstrap.doctor.running_server import why_not_serving
from agent_service.errors import ConfigError, LLMError
from agent_service.llm.openai.model import OpenAIModel
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_AUTH

CANARY = "canary-7f3a9c"
FILE = """\
models:
  m: {provider: openai, model_id: gpt-4o}
agents: {a: {model: m}}
"""
AZURE = "provider: azure, base_url: 'https://name.openai.azure.com', model_id: prod-1"
TODAY = datetime.now(UTC).date()


class Asking:
    """Providers that answer at once, and what doctor finds of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = directory / "config.yaml"
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(directory)

    async def findings(
        self,
        answer: Mapping[str, str | None] | LLMError | None,
        file: str = FILE,
        *,
        subject: str = "provider",
        **environ: str,
    ) -> list[Finding]:
        async def check(_: OpenAIModel) -> Mapping[str, str | None] | None:
            if isinstance(answer, LLMError):
                raise answer
            return answer

        async def no_server(_: str, __: str) -> str | None:
            return None

        self._monkeypatch.setattr(OpenAIModel, "check", check)
        self._path.write_text(file)
        given = {"API_PORT": "0", "METRICS_PORT": "0", "OPENAI_API_KEY": CANARY, "AZURE_OPENAI_API_KEY": CANARY}
        findings = [each async for each in examine(given | environ, no_server)]
        assert CANARY not in str(findings)
        return [each for each in findings if each.subject == subject]


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    return Asking(tmp_path, monkeypatch)


async def test_a_model_that_the_provider_lists_is_well_and_its_values_are_named(asking: Asking) -> None:
    [found] = await asking.findings({"gpt-4o": None, "gpt-6-luna": None})
    assert (found.verdict, found.text) == (
        "ok",
        "model m can be asked: base_url https://api.openai.com/v1, model_id gpt-4o, OPENAI_API_KEY (has the key);"
        " config.yaml:2 models.m.model_id",
    )


async def test_a_model_that_the_provider_does_not_list_is_told_with_those_that_it_has(asking: Asking) -> None:
    _, found = await asking.findings({"gpt-6-luna": None, "gpt-4.1": None, "text-embedding-3": None})
    assert (found.verdict, found.text) == ("warning", "model m: the provider's list has no gpt-4o")
    assert found.advice.startswith("set one that there is, such as gpt-4.1, gpt-6-luna")
    assert found.advice.endswith(": config.yaml:2 models.m.model_id")


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (f"{TODAY + timedelta(45)}", f"ends on {TODAY + timedelta(45)}, in 45 days"),
        (f"{TODAY + timedelta(45)}T00:00:00Z", f"ends on {TODAY + timedelta(45)}, in 45 days"),
        (f"{TODAY}", f"ends on {TODAY}, in 0 days"),
        (f"{TODAY - timedelta(38)}", f"ended on {TODAY - timedelta(38)}, 38 days ago"),
        ("next spring", "ends: 'next spring'"),
    ],
)
async def test_a_model_that_ends_is_told_with_its_day(asking: Asking, ends: str, told: str) -> None:
    _, found = await asking.findings({"gpt-4o": ends})
    assert (found.verdict, found.text) == ("warning", f"model m: gpt-4o {told}")
    assert found.advice == "set another model: config.yaml:2 models.m.model_id"


@pytest.mark.parametrize(
    ("entry", "listed"),
    [
        ("provider: openai, model_id: gpt-4o", None),
        ("provider: openai, model_id: gpt-4o", {}),
        ("provider: openai, model_id: qwen3, base_url: 'http://localhost:1/v1'", {"qwen3:latest": None}),
        ("provider: openai, model_id: gemini-3-pro, base_url: 'http://localhost:1'", {"models/gemini-3-pro": None}),
        (AZURE, {"gpt-4o": None}),
    ],
)
async def test_a_list_that_says_nothing_of_a_model_warns_of_none(
    asking: Asking, entry: str, listed: Mapping[str, str | None] | None
) -> None:
    [found] = await asking.findings(listed, f"models: {{m: {{{entry}}}}}\nagents: {{a: {{model: m}}}}\n")
    assert found.verdict == "ok"


async def test_a_provider_that_refuses_the_key_is_told_with_the_values_to_look_at(asking: Asking) -> None:
    error = LLMError(ERROR_REASON_LLM_AUTH, "the model provider rejects the key")
    [found] = await asking.findings(error, "agents: {a: {model: default}}\n", LLM_MODEL="gpt-6-luna")
    assert (found.verdict, found.text) == ("problem", "model default: the model provider rejects the key (LLM_AUTH)")
    assert found.advice == (
        "check base_url https://api.openai.com/v1, model_id gpt-6-luna, OPENAI_API_KEY (has the key); LLM_MODEL"
    )


async def test_a_model_without_its_key_is_told_with_the_variable_that_would_hold_it(asking: Asking) -> None:
    file = f"""\
models:
  m: {{provider: openai, model_id: x, api_key_env: OTHER_KEY}}
  n: {{{AZURE}}}
agents: {{a: {{model: m}}}}
"""
    _, *told = await asking.findings(None, file, subject="configuration", AZURE_OPENAI_API_KEY="")
    assert [each.advice.partition(",")[0] for each in told] == ["set OTHER_KEY", "set AZURE_OPENAI_API_KEY"]


@pytest.mark.parametrize(
    ("agent", "rest", "environ", "told"),
    [
        (
            "",
            "",
            {"RATE_LIMIT_TOKENS": "16384"},
            ("rate limit default admits 16384 tokens", "raise RATE_LIMIT_TOKENS, or lower"),
        ),
        (", limits: {tokens: 9000}", "", {}, ("agent a admits 9000 tokens", "raise agents.a.limits.tokens, or lower")),
        (
            "",
            "rate_limits: [{name: r, match: {model: m}, max_tokens: 5}, {name: s, match: {model: n}, max_tokens: 5}]",
            {},
            ("rate limit r admits 5 tokens", "raise max_tokens of rate limit r, or lower"),
        ),
        (
            "",
            "budgets: [{name: b, max_tokens: 9}]",
            {},
            ("budget b admits 9 tokens", "raise max_tokens of budget b, or"),
        ),
        ("", "", {"RATE_LIMIT_TOKENS": "16385"}, None),
    ],
)
async def test_a_limit_that_the_longest_reply_of_a_model_exceeds_is_told(
    asking: Asking, agent: str, rest: str, environ: dict[str, str], told: tuple[str, str] | None
) -> None:
    models = "models: {m: {provider: openai, model_id: gpt-6.2-sol}, n: {provider: openai, model_id: gpt-6.2-sol}}"
    file = f"{models}\nagents: {{a: {{model: m{agent}}}, same: {{model: m}}}}\n{rest}\n"
    found = await asking.findings(None, file, subject="limits", **environ)
    if told is None:
        assert found == []
    else:
        [one] = found
        text, advice = told
        assert (one.verdict, one.text) == ("problem", f"{text}, and one reply of model m may have 16384: no task fits")
        assert one.advice.startswith(advice)
        assert one.advice.endswith("config.yaml:1 models.m.max_tokens")


@pytest.mark.parametrize(
    ("failing", "told"),
    [
        ({"startup", "check/store"}, ["it has not started yet"]),
        ({"check/store"}, ["the check store does not pass"]),
        ({"check/provider", "check/tools"}, ["the check provider does not pass", "the check tools does not pass"]),
        (set(), ["every check passes, so it is stopping"]),
    ],
)
async def test_why_a_server_takes_no_work_is_told_by_its_checks(failing: set[str], told: list[str]) -> None:
    async def ask_health(_: str, service: str) -> str:
        return "NOT_SERVING" if service in failing else "SERVING"

    found = [each async for each in why_not_serving(ask_health, "localhost:9000")]
    assert [why for why, _ in found] == told
    assert all(advice for _, advice in found)


async def test_a_store_that_the_system_cannot_read_is_not_taken_for_a_damaged_one(
    asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorname = "SQLITE_IOERR_READ"

    def inspect(path: Path, **_: object) -> None:
        raise ConfigError([f"{path} cannot be read: {cause}"]) from cause

    monkeypatch.setattr(examination, "inspect", inspect)
    (tmp_path / "tasks.db").touch()
    [found] = [
        each
        for each in await asking.findings(None, subject="store", DATABASE_URL="sqlite:///tasks.db")
        if "cannot be read" in each.text
    ]
    assert found.verdict == "problem"
    assert "the file may be intact" in found.advice
    assert "backup" not in found.advice
