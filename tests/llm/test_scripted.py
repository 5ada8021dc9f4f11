"""The scripted model: the default script's answers, and what a script can say."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import getcoroutinestate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.errors import ConfigError, LLMError
from agent_service.llm.base import Message, ModelReply, ModelRequest, Role, ToolSpec
from agent_service.llm.script import Script, pieces_of
from agent_service.llm.scripted import ScriptedModel, default_script
from agent_service.llm.scripted_answer import answer_of
from agent_service.schemas.output_schema import OutputSchema
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage
from tests.llm.observer import RecordingObserver

TOOLS = [ToolSpec(name, "", '{"type":"object"}') for name in ("calculator", "current_time", "f", "g")]
NOON = '{"time":"12:00","weekday":"Sunday","timezone":"UTC"}'


def user(text: str) -> Message:
    return Message(Role.USER, text)


def tool(text: str, name: str = "calculator") -> Message:
    return Message(Role.TOOL, text, tool_call_id="call_1", tool_name=name)


def said(reply: ModelReply) -> Message:
    return Message(Role.ASSISTANT, reply.text, reply.tool_calls)


def calls_of(reply: ModelReply) -> list[tuple[str, str, str]]:
    return [(call.id, call.name, call.arguments_json) for call in reply.tool_calls]


async def ask(
    script: Script | str,
    *messages: Message,
    tools: Sequence[ToolSpec] = TOOLS,
    observer: RecordingObserver | None = None,
) -> ModelReply:
    script = Script.parse(script, "script.yaml") if isinstance(script, str) else script
    return await ScriptedModel(script).generate(ModelRequest(messages, tools), observer or RecordingObserver())


@pytest.fixture(scope="module")
def default() -> Script:
    return default_script()


# The default script.


@pytest.mark.parametrize(
    ("task", "name", "arguments", "result", "answer"),
    [
        ("What is 17.5% of 2340?", "calculator", "2340 * 17.5 / 100", "409.5", "17.5% of 2340 is 409.5."),
        ("15 percent of 1,200", "calculator", "1200 * 15 / 100", "180", "15% of 1200 is 180."),
        ("what is 12 * (3 + 4)?", "calculator", "12 * (3 + 4)", "84", "12 * (3 + 4) = 84"),
        ("2+2", "calculator", "2+2", "4", "2+2 = 4"),
        ("add 2 and 3", "calculator", "2 + 3", "5", "2 + 3 = 5"),
        ("Please subtract 2 from 5.", "calculator", "5 - 2", "3", "5 - 2 = 3"),
        ("multiply 6 by 7", "calculator", "6 * 7", "42", "6 * 7 = 42"),
        ("What is the product of 6 and 7?", "calculator", "6 * 7", "42", "6 * 7 = 42"),
        ("divide 1 by 4", "calculator", "1 / 4", "0.25", "1 / 4 = 0.25"),
        (
            "What time is it?",
            "current_time",
            "UTC",
            NOON,
            "In UTC it is 12:00, a Sunday. Ask for a time zone by its name, such as Europe/Berlin.",
        ),
        (
            "what time is it in Europe/Berlin",
            "current_time",
            "Europe/Berlin",
            NOON,
            "In Europe/Berlin it is 12:00, a Sunday.",
        ),
    ],
)
async def test_arithmetic_and_time_are_answered_with_a_tools_result(
    default: Script, task: str, name: str, arguments: str, result: str, answer: str
) -> None:
    first = await ask(default, user(task))
    argument = "expression" if name == "calculator" else "timezone"
    assert calls_of(first) == [("call_1", name, f'{{"{argument}":"{arguments}"}}')]
    assert (first.text, first.finish_reason) == ("", FinishReason.FINISH_REASON_TOOL_CALLS)

    second = await ask(default, user(task), said(first), tool(result, name))
    assert (second.text, second.tool_calls) == (answer, [])
    assert (second.finish_reason, second.provider_model) == (FinishReason.FINISH_REASON_STOP, "scripted")


@pytest.mark.parametrize("task", ["Hello!", "Who are you?", "Write a poem about the sea", "add 2 and 3 and 4", ""])
async def test_everything_else_is_answered_by_saying_what_the_model_is(default: Script, task: str) -> None:
    reply = await ask(default, user(task))
    assert "scripted model" in reply.text
    assert not reply.tool_calls


async def test_the_answer_of_last_resort_says_how_to_set_a_real_model(default: Script) -> None:
    assert "OPENAI_API_KEY" in (await ask(default, user("Write a poem"))).text


async def test_every_tool_can_be_called_by_its_name(default: Script) -> None:
    task = user('call f {"order": "A-17 of 5% of 10"}')
    reply = await ask(default, task)
    assert calls_of(reply) == [("call_1", "f", '{"order": "A-17 of 5% of 10"}')]
    assert (await ask(default, task, said(reply), tool('{"state":"sent"}', "f"))).text == '{"state":"sent"}'
    assert "I would call stock, which is not among my tools" in (await ask(default, user("call stock {}"))).text


async def test_a_tool_that_is_not_there_is_named(default: Script) -> None:
    reply = await ask(default, user("What is 17.5% of 2340?"), tools=[])
    assert reply.text == "For this I would call calculator, which is not among my tools."
    assert (reply.tool_calls, reply.finish_reason) == ([], FinishReason.FINISH_REASON_STOP)


async def test_a_failed_tool_is_not_passed_off_as_an_answer(default: Script) -> None:
    first = await ask(default, user("divide 1 by 0"))
    failed = tool('{"error":{"reason":"TOOL_FAILED","message":"division by zero"}}')
    reply = await ask(default, user("divide 1 by 0"), said(first), failed)
    assert reply.text == "The tool calculator failed: division by zero"


@pytest.mark.parametrize("text", ["1" * 60_000, "(" * 60_000, "what is " * 8_000, " " * 60_000 + "1", "1+" * 30_000])
@pytest.mark.timeout(2)
async def test_no_task_makes_its_patterns_slow(default: Script, text: str) -> None:
    assert (await ask(default, user(text))).text


# Turns.

CONVERSATION = """
- match: '^go (?P<who>\\w+)'
  turns:
    - text: "Wait."
      tool_calls: [{name: f, arguments: {who: "{who}", list: ["{who}", 1, {deep: "{who}{{x}}"}]}}, {name: g}]
    - tool_calls: [{name: f, arguments: "{not json {result}"}]
    - text: "{who}: {results[0]}, {results[1].n}, {result}, {result.n}, {result.m}, {results[9]}"
"""


async def test_the_turn_is_the_number_of_replies_since_the_last_user_message() -> None:
    conversation = [user("other"), Message(Role.ASSISTANT, "hm"), user("go Ann")]
    first = await ask(CONVERSATION, *conversation)
    assert first.text == "Wait."
    assert calls_of(first) == [
        ("call_1", "f", '{"who":"Ann","list":["Ann",1,{"deep":"Ann{x}"}]}'),
        ("call_2", "g", "{}"),
    ]
    conversation += [said(first), tool("one"), tool("two")]
    second = await ask(CONVERSATION, *conversation)
    assert calls_of(second) == [("call_3", "f", "{not json two")]
    third = await ask(CONVERSATION, *conversation, said(second), tool('{"n": 3}'))
    assert third.text == 'Ann: one, two, {"n": 3}, 3, {"n": 3}, (no result)'


async def test_the_same_conversation_gets_the_same_reply_from_another_model() -> None:
    conversation = [user("go Ann"), Message(Role.ASSISTANT, "Wait."), tool("one")]
    assert await ask(CONVERSATION, *conversation) == await ask(CONVERSATION, *conversation)


async def test_text_is_shown_in_groups_of_words() -> None:
    observer = RecordingObserver()
    reply = await ask("[{match: '', turns: [{text: 'a b c d e f'}]}]", user(""), observer=observer)
    assert observer.texts == ["a b c d", " e f"]
    assert reply.text == "a b c d e f"


@given(st.text())
def test_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


def test_a_reply_without_delays_never_suspends(default: Script) -> None:
    reply = ScriptedModel(default).generate(ModelRequest([user("hello")]), RecordingObserver())
    with pytest.raises(StopIteration):
        reply.send(None)
    assert getcoroutinestate(reply) == "CORO_CLOSED"


async def test_usage_is_an_estimate_that_does_not_change() -> None:
    reply = await ask("[{match: '', turns: [{text: 'x y z'}]}]", user("123456"))
    assert reply.usage == Usage(input_tokens=2, output_tokens=2, estimated=True)


async def test_delays_come_before_the_text_and_between_its_pieces() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    text = "[{match: '', turns: [{text: 'a b c d e f g h i', delay_s: 2, chunk_delay_s: 0.5}]}]"
    model = ScriptedModel(Script.parse(text, "script.yaml"), sleep=sleep)
    await model.generate(ModelRequest([user("")]), RecordingObserver())
    assert slept == [2, 0.5, 0.5]


async def test_a_turn_can_reason_before_its_text_which_has_nothing_of_it() -> None:
    observer = RecordingObserver()
    turn = "{reasoning: 'I am to say {what}, it seems', text: '{what}'}"
    reply = await ask(f"[{{match: 'say (?P<what>.+)', turns: [{turn}]}}]", user("say abc"), observer=observer)
    assert observer.told == [("reasoning", "I am to say"), ("reasoning", " abc, it seems"), ("text", "abc")]
    assert reply.text == "abc"
    assert reply.usage == Usage(input_tokens=3, output_tokens=10, reasoning_tokens=9, estimated=True)


async def test_delays_come_between_reasoning_and_text_too() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    text = "[{match: '', turns: [{reasoning: hm, text: a, delay_s: 2, chunk_delay_s: 0.5}]}]"
    await ScriptedModel(Script.parse(text, "script.yaml"), sleep=sleep).generate(
        ModelRequest([user("")]), RecordingObserver()
    )
    assert slept == [2, 0.5]


async def test_a_turn_can_break_off_after_its_text() -> None:
    fail = "{reason: LLM_RATE_LIMITED, retryable: true, retry_after_s: 2}"
    observer = RecordingObserver()
    with pytest.raises(LLMError) as raised:
        await ask(f"[{{match: '', turns: [{{text: abc, fail: {fail}}}]}}]", user("abc"), observer=observer)
    error = raised.value
    assert (error.reason_name, error.retryable, error.retry_after_s) == ("LLM_RATE_LIMITED", True, 2)
    assert error.usage == Usage(input_tokens=1, output_tokens=1, estimated=True)
    assert observer.texts == ["abc"]


async def test_a_turn_can_name_its_finish() -> None:
    reply = await ask("[{match: '', turns: [{text: a, finish: length}]}]", user(""))
    assert reply.finish_reason == FinishReason.FINISH_REASON_LENGTH


async def test_turns_that_repeat_begin_again_and_others_run_out() -> None:
    turns = "[{match: '', repeat: %s, turns: [{text: a}, {text: b}]}]"
    conversation = [user(""), Message(Role.ASSISTANT, "a"), Message(Role.ASSISTANT, "b")]
    assert (await ask(turns % "true", *conversation)).text == "a"
    with pytest.raises(LLMError, match="no turn 3") as raised:
        await ask(turns % "false", *conversation)
    assert (raised.value.reason_name, raised.value.retryable) == ("LLM_REJECTED", False)


async def test_a_text_that_no_entry_matches_is_refused() -> None:
    with pytest.raises(LLMError, match="no entry"):
        await ask("[{match: a, turns: [{text: a}]}]", user("b"))


# Scripts that are none.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "script.yaml:1: is not valid YAML: "),
        ("", "script.yaml: is empty"),
        ("[{match: a}]", "script.yaml:1 [0].turns: is missing"),
        ("[{match: a, turns: []}]", "script.yaml:1 [0].turns: must not be empty"),
        ("[{match: a, turns: [{}]}]", "script.yaml:1 [0].turns[0]: a turn needs text, tool_calls"),
        ("[{match: a, turns: [{text: a, fial: {}}]}]", "script.yaml:1 [0].turns[0].fial: is not known"),
        ("[{match: a, turns: [{text: a, delay_s: -1}]}]", "script.yaml:1 [0].turns[0].delay_s: must be at least 0"),
        ("- match: a\n  match: b\n  turns: [{text: a}]", "script.yaml:2 [0].match: is a duplicate of line 1"),
        ("[{match: '(', turns: [{text: a}]}]", "script.yaml:1 [0].match: is not a regular expression"),
        ("[{match: a, turns: [{text: '{b}'}]}]", "script.yaml:1 [0].turns[0].text: '{b}' is neither a named group"),
        (
            "[{match: a, turns: [{tool_calls: [{name: f, arguments: {x: ['{result[0]}']}}]}]}]",
            "script.yaml:1 [0].turns[0].tool_calls[0].arguments.x[0]: '{result[0]}' is neither",
        ),
    ],
)
def test_a_problem_of_a_script_is_told_with_its_file_and_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Script.parse(text, "script.yaml")
    assert [told for told in raised.value.problems if told.startswith(problem)]


def test_all_problems_of_a_script_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Script.parse("[{match: '(', turns: [{text: a}]}, {match: a, turns: [{text: '{b} {c}'}]}]", "script.yaml")
    assert len(raised.value.problems) == 3


# Answers that must fit a schema.

TOTAL = '{"type":"object","properties":{"total":{"type":"number"},"told":{"type":"string"}},"required":["total"]}'


async def bound(script: str | Script, *messages: Message, schema: str = TOTAL) -> tuple[ModelReply, RecordingObserver]:
    script = Script.parse(script, "script.yaml") if isinstance(script, str) else script
    observer = RecordingObserver()
    return await ScriptedModel(script).generate(ModelRequest(messages, TOOLS, None, schema), observer), observer


async def test_a_text_becomes_a_document_by_the_schema_and_is_streamed_as_that(default: Script) -> None:
    first, _ = await bound(default, user("What is 17.5% of 2340?"))
    assert [call.name for call in first.tool_calls] == ["calculator"]
    reply, observer = await bound(default, user("What is 17.5% of 2340?"), said(first), tool("409.5"))
    assert reply.text == '{"total":409.5,"told":"17.5% of 2340 is 409.5."}'
    assert "".join(observer.texts) == reply.text


async def test_a_script_that_has_a_document_says_it_as_it_is() -> None:
    reply, _ = await bound("[{match: '', turns: [{text: '{{\"total\": null}}'}]}]", user("go"))
    assert reply.text == '{"total": null}'


@given(
    schema=st.from_type(type(None))
    | st.recursive(
        st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]),
        lambda inner: (
            st.fixed_dictionaries({"type": st.just("array"), "items": inner, "minItems": st.integers(0, 3)})
            | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3).map(
                lambda properties: {"type": "object", "properties": properties, "required": list(properties)}
            )
            | st.lists(inner, min_size=1, max_size=3).map(lambda alternatives: {"anyOf": alternatives})
        ),
        max_leaves=8,
    )
)
def test_what_it_makes_up_fits_usual_schemas(schema: dict[str, object] | None) -> None:
    whole = {"type": "object", "properties": {"x": schema or {}}, "required": ["x"]}
    answer = answer_of(OutputSchema.of(whole).text, "about 12 and 3.5")
    assert OutputSchema.of(whole).violations(answer) == []


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "- match: '\\q\n",
        "[" * 5000,
        "- !!int 9" + "9" * 5000,
    ],
    ids=["aliases", "quote", "depth", "digits"],
)
def test_a_text_that_is_no_yaml_or_would_grow_is_no_script(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^script.yaml:[12].*: (is not valid YAML|is too long)"):
        Script.parse(text, "script.yaml")
