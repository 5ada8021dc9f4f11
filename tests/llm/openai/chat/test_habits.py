"""Habits of providers that people report: each reply of `habits/chat.jsonl` meets a task over two real sockets.

A case has a `kind`, a `name`, and `replies`: status, content type, headers, pieces of the body (latin-1) and how the
body ends: `chunked` and `length` as they should, `cut` by a reset, `hold` by silence. The last reply comes again.
`right` says in words what should come of it; the table here says so in figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_service.errors import reason_name
from agent_service.llm.base import Model
from agent_service.llm.breaker import Breaking, CircuitBreaker
from agent_service.llm.retry import RetryBudget, Retrying
from agent_service.tools.base import Tool
from agent_service.tools.decorator import tool
from tests.fakes.provider import Exchange, FakeProvider, Reply
from tests.harness import Parts, started
from tests.llm.conftest import MakeModel

CASES = [orjson.loads(line) for line in (Path(__file__).parent / "habits" / "chat.jsonl").read_bytes().splitlines()]


def reply_of(spec: dict[str, Any]) -> Reply:
    """A reply that is sent as the case says."""
    pieces = [piece.encode("latin-1") for piece in spec["body"]]

    async def reply(exchange: Exchange) -> None:
        headers = {"content-type": spec["content_type"], **spec["headers"]}
        length = sum(map(len, pieces)) if spec["end"] == "length" else None
        await exchange.head(spec["status"], headers, length=length)
        for piece in pieces:
            await exchange.send(piece)
        match spec["end"]:
            case "chunked":
                await exchange.end()
            case "cut" | "close":
                exchange.cut()
            case "hold":
                await exchange.request.client_gone.wait()

    return reply


class Ran(list[str]):
    """The tools that have run, with their arguments."""

    def tools(self) -> list[Tool]:
        @tool(side_effect="read_only")
        def weather(city: str) -> str:
            """Tells the weather."""
            self.append(f"weather({city})")
            return "sunny"

        @tool(side_effect="read_only")
        def clock() -> str:
            """Tells the time."""
            self.append("clock()")
            return "noon"

        @tool(side_effect="read_only")
        def moon() -> str:
            """Tells the phase of the moon."""
            self.append("moon()")
            return "full"

        @tool
        def wipe(scope: str = "all") -> str:
            """Deletes everything."""
            self.append(f"wipe({scope})")
            return "gone"

        return [weather, clock, moon, wipe]


@dataclass(frozen=True, slots=True)
class Comes:
    """What comes of a case: the answer or the failure, after so many requests; the tools that ran; tokens that are
    charged for the last reply, None where they are estimated.
    """

    output: str = "fine"
    reason: str = ""
    requests: int = 1
    ran: tuple[str, ...] = ()
    charged: tuple[int, int, int] | None = (11, 7, 0)
    is_cut: bool = False


WEATHER = Comes(requests=2, ran=("weather(Bonn)",))
CLOCK = Comes(requests=2, ran=("clock()",))
NOTHING_RAN = Comes(requests=2)
BROKEN_OFF = Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=None)
FILTERED = Comes(output="", reason="LLM_REJECTED")
CUT = Comes(output="half an ans", is_cut=True)
LIMIT = Comes(output="", reason="LLM_RATE_LIMITED", requests=3, charged=(0, 0, 0))
TOTAL = Comes(output='{"total": 3}')

COMES = {
    "cut-length-empty-args": NOTHING_RAN,
    "cut-filter": FILTERED,
    "cut-doc-length": NOTHING_RAN,
    "cut-length-whole-first": NOTHING_RAN,
    "end-no-done-calls": WEATHER,
    "finish-abort": BROKEN_OFF,
    "finish-network_error": BROKEN_OFF,
    "finish-insufficient_system_resource": BROKEN_OFF,
    "finish-guardrail_intervened": FILTERED,
    "finish-sensitive": FILTERED,
    "finish-SAFETY": FILTERED,
    "finish-max_tokens": CUT,
    "finish-model_length": CUT,
    "empty-stop": Comes(requests=2),
    "empty-length": Comes(output="", reason="LLM_NO_ANSWER"),
    "call-legacy": WEATHER,
    "call-id-changes": WEATHER,
    "call-id-every-piece": WEATHER,
    "call-placeholder-text": WEATHER,
    "call-summary-repeated": WEATHER,
    "call-phantom": WEATHER,
    "call-index-text": WEATHER,
    "call-two-empty-no-id": Comes(requests=2, ran=("clock()", "moon()")),
    "call-args-null-text": CLOCK,
    "call-args-list": CLOCK,
    "call-name-blanks": WEATHER,
    "call-name-harmony": WEATHER,
    "sse-tab": Comes(charged=None),
    "use-list": Comes(charged=None),
    "text-surrogates-split": Comes(output="a\N{GRINNING FACE}"),
    "text-invalid-utf8": Comes(output="a\N{REPLACEMENT CHARACTER}"),
    "err-sse-status-text": LIMIT,
    "err-sse-list": LIMIT,
    "err-500-invalid": Comes(output="", reason="LLM_REJECTED", charged=(0, 0, 0)),
    "err-429-quota-moonshot": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-retry-epoch": Comes(requests=2),
    "use-in-choice": Comes(charged=(5, 3, 0)),
    "use-x-groq": Comes(charged=(5, 3, 0)),
    "use-anthropic-names": Comes(charged=(5, 3, 0)),
    "use-partial": Comes(charged=(5, 3, 0)),
    "use-cached-deepseek": Comes(charged=(5, 3, 4)),
    "json-think": TOTAL,
    "json-prose-before": TOTAL,
    "json-fence-start-only": TOTAL,
    "json-bom": TOTAL,
    "cut-then-stop": NOTHING_RAN,
    "cut-filter-then-stop": FILTERED,
    "stop-then-filter": FILTERED,
    "cut-length-in-every-chunk-stop": CUT,
    "cut-legacy": NOTHING_RAN,
    "cut-unknown-finish": NOTHING_RAN,
    "cut-max_tokens-upper": NOTHING_RAN,
    "cut-connection-after-call": Comes(requests=2),
    "cut-connection-after-finish": Comes(requests=2),
    "cut-done-half-arguments": Comes(requests=2),
    "end-finish-null-text-cut": Comes(requests=2),
    "end-finish-number": Comes(requests=2),
    "end-usage-behind-done": Comes(charged=None),
    "finish-calls-toolCalls": WEATHER,
    "finish-length-FinishReason.MAX_TOKENS": CUT,
    "finish-length-max_new_tokens": CUT,
    "finish-length-length_limit": CUT,
    "finish-length-num_predict": CUT,
    "finish-filter-FinishReason.SAFETY": FILTERED,
    "finish-filter-ERROR_TOXIC": FILTERED,
    "finish-filter-sensitive_words": FILTERED,
    "finish-broke-engine_overloaded": Comes(requests=2),
    "finish-broke-user_cancelled": Comes(requests=2),
    "finish-broke-unexpected_eof": Comes(requests=2),
    "finish-broke-internal_server_error": Comes(requests=2),
    "empty-think-alone": Comes(requests=2),
    "empty-think-open": Comes(requests=2),
    "empty-reasoning-object": Comes(requests=2),
    "empty-zero-width": Comes(requests=2),
    "text-content-null-refusal": Comes(output="No."),
    "calls-finish-text-only": Comes(requests=2),
    "call-stop": WEATHER,
    "choice-two-without-index": WEATHER,
    "message-behind-text": WEATHER,
    "call-cumulative": WEATHER,
    "call-repeated-other-blanks": WEATHER,
    "call-placeholder-behind": WEATHER,
    "call-placeholder-null": WEATHER,
    "call-placeholder-object": WEATHER,
    "call-args-by-id": Comes(requests=2, ran=("weather(Bonn)", "weather(Rome)")),
    "call-index-shifts": WEATHER,
    "call-index-none-then-zero": WEATHER,
    "call-index-one-based": Comes(requests=2, ran=("weather(Bonn)", "clock()")),
    "call-index-negative": WEATHER,
    "call-index-float": Comes(requests=2, ran=("weather(Bonn)", "weather(Rome)")),
    "call-index-zero-parallel": Comes(requests=2, ran=("weather(Bonn)", "clock()", "moon()")),
    "call-same-twice-other-ids": Comes(requests=2, ran=("clock()", "clock()")),
    "call-name-repeated-last-piece": WEATHER,
    "call-name-empty-pieces": WEATHER,
    "call-name-in-pieces": WEATHER,
    "call-name-late": WEATHER,
    "call-id-late": WEATHER,
    "call-id-number": WEATHER,
    "call-entry-object": WEATHER,
    "call-name-prefix-functions": WEATHER,
    "call-type-null": WEATHER,
    "call-doc-object-args": WEATHER,
    "call-doc-same-index": Comes(requests=2, ran=("weather(Bonn)", "clock()")),
    "call-args-trailing-space": WEATHER,
    "call-args-word-none": CLOCK,
    "call-args-undefined": CLOCK,
    "call-args-twice-encoded": WEATHER,
    "call-args-fenced": WEATHER,
    "call-finish-in-same-chunk": WEATHER,
    "json-lines-cut": Comes(requests=2),
    "doc-cut-length": Comes(requests=2),
    "sse-html-200": Comes(requests=2),
    "sse-text-200": Comes(requests=2),
    "sse-empty-200": Comes(requests=2),
    "text-utf8-in-pieces": Comes(output="a\N{SNOWMAN}"),
    "text-nul": Comes(output="a\0b"),
    "text-half-at-end": Comes(output="a\ufffd"),
    "text-control-raw": Comes(output="a\tb"),
    "err-base-resp-limit": LIMIT,
    "err-base-resp-balance": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-flat-code": LIMIT,
    "err-errors-list": LIMIT,
    "err-detail": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-event-flat": LIMIT,
    "err-string": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-string-limit": LIMIT,
    "err-zhipu-balance": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-glm-plan": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-groq-498": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-499": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-424": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-529": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-520": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-530": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-413-tpm": Comes(output="", reason="LLM_REJECTED", charged=(0, 0, 0)),
    "err-422": Comes(output="", reason="LLM_REJECTED", charged=(0, 0, 0)),
    "err-400-throttling": LIMIT,
    "err-400-overloaded": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=(0, 0, 0)),
    "err-403-limit": LIMIT,
    "err-403-quota": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-400-key": Comes(output="", reason="LLM_AUTH", charged=(0, 0, 0)),
    "err-dashscope-quota": LIMIT,
    "err-dashscope-arrears": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-bedrock-camel": LIMIT,
    "err-bedrock-model-stream": Comes(output="", reason="LLM_UNAVAILABLE", requests=3, charged=None),
    "err-html-200": BROKEN_OFF,
    "err-in-choice": LIMIT,
    "err-finish-error-429": LIMIT,
    "err-retry-seconds-unit": Comes(requests=2),
    "err-retry-http-date": Comes(requests=2),
    "err-retry-float": Comes(requests=2),
    "err-retry-info": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "err-retry-long-unit": Comes(output="", reason="LLM_RATE_LIMITED", charged=(0, 0, 0)),
    "use-split": Comes(charged=(11, 7, 0)),
    "use-negative": Comes(charged=None),
    "use-output-only": Comes(charged=None),
    "use-anthropic-cache": Comes(charged=(1011, 7, 1000)),
    "use-gemini": Comes(charged=(5, 3, 0)),
    "use-ollama": Comes(charged=(5, 3, 0)),
    "use-llamacpp": Comes(charged=(5, 3, 0)),
    "use-xai-reasoning": Comes(charged=(5, 20, 0)),
    "use-x-groq-nested": Comes(charged=(5, 3, 0)),
    "use-bedrock": Comes(charged=(5, 3, 0)),
    "use-cached-top": Comes(charged=(5, 3, 4)),
    "use-bool": Comes(charged=None),
    "json-citation": TOTAL,
    "json-footnotes": TOTAL,
    "json-think-twice": TOTAL,
    "json-thought-tag": TOTAL,
    "json-think-brackets": TOTAL,
    "json-think-kimi": TOTAL,
    "json-seed-think": TOTAL,
    "json-encoded-twice": TOTAL,
    "json-template-end": TOTAL,
    "json-answer-tag": TOTAL,
    "json-tilde-fence": TOTAL,
    "json-fence-crlf": TOTAL,
    "json-fence-inline": TOTAL,
    "json-two-fences": TOTAL,
    "json-draft-then-final": TOTAL,
    "json-repeated": TOTAL,
    "json-harmony": TOTAL,
    "json-prefix-word": TOTAL,
}


def tried(model: Model) -> Model:
    """With three tries that come at once."""
    return Breaking(Retrying(model, "fake", RetryBudget(), attempts=3, base_delay_s=0.0), CircuitBreaker())


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']} {case['name']}" for case in CASES])
async def test_a_habit_comes_to_what_is_right(
    provider: FakeProvider, make_model: MakeModel, case: dict[str, Any]
) -> None:
    comes, ran = COMES.get(case["name"], Comes()), Ran()
    replies = [reply_of(spec) for spec in case["replies"]]
    provider.will(*replies, *[replies[-1]] * 3)
    model = tried(make_model(total_s=10.0, first_token_s=5.0, idle_s=5.0))
    schema = {"output_schema": case["output_schema"]} if "output_schema" in case else {}
    async with started(Parts(model=model, tools=ran.tools())) as running:
        events = [event async for event in running.client.stream("hi", **schema)]
        task = await running.client.get_task(events[-1].task_id)

    assert (task.output, reason_name(task.failure.reason)) == (comes.output, comes.reason or "UNSPECIFIED")
    assert list(ran) == list(comes.ran)
    assert len(provider.requests) == comes.requests
    assert task.output_truncated == comes.is_cut
    used = [event.model_replied.usage for event in events if event.HasField("model_replied")]
    last = used[-1] if used else task.usage
    if comes.charged is None:
        assert last.estimated
    else:
        assert (last.input_tokens, last.output_tokens, last.cached_input_tokens) == comes.charged


def test_the_table_names_no_case_that_is_gone() -> None:
    assert COMES.keys() <= {case["name"] for case in CASES}
