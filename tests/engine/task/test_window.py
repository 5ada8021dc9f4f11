"""What of a conversation is sent, so that it fits the model's window."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.engine.runtime import ModelRuntime
from agent_service.engine.task.context_window import CUT, LEFT_OUT, Window
from agent_service.llm.base import Message, Role, ToolSpec
from agent_service.llm.token_counts import ANY, CL100K, O200K, Estimate
from agent_service.v1.tool_pb2 import ToolCall
from tests.harness import FakeModel

REPLY = 100
SYSTEM = Message(Role.SYSTEM, "Be brief.")
TASK = Message(Role.USER, "Do all of it.", pinned=True)
TOOL = ToolSpec("look", "Looks.", '{"type":"object"}')
TOOL_TOKENS = ANY.tools_tokens([TOOL])


def window(context_tokens: int, estimate: Estimate = ANY) -> Window:
    return Window(ModelRuntime("fake", FakeModel(), REPLY, context_tokens, estimate))


def asks(*call_ids: str) -> Message:
    return Message(Role.ASSISTANT, "", [ToolCall(id=call_id, name="look", arguments_json="{}") for call_id in call_ids])


def gives(call_id: str, text: str) -> Message:
    return Message(Role.TOOL, text, tool_call_id=call_id, tool_name="look")


def turn(number: int, text: str) -> list[Message]:
    return [asks(f"c{number}"), gives(f"c{number}", text)]


TEXTS = st.builds(lambda text, times: text * times, st.text(max_size=12), st.sampled_from([0, 1, 3, 40, 400]))


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """As a fold makes them: instructions, earlier tasks, the task, its turns."""
    number = 0

    def turns(most: int) -> list[Message]:
        nonlocal number
        said: list[Message] = []
        for results in draw(st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=most)):
            ids = [f"c{number + index}" for index in range(len(results))]
            number += len(ids)
            said += [asks(*ids), *map(gives, ids, results)]
        return said

    messages = [SYSTEM] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 4))):
        messages += [Message(Role.USER, draw(TEXTS)), *turns(2), Message(Role.ASSISTANT, draw(TEXTS))]
    messages += [TASK, *turns(6)]
    if draw(st.booleans()):
        messages += [Message(Role.ASSISTANT, draw(TEXTS)), Message(Role.USER, "Answer again.")]
    return messages


def tokens(messages: Sequence[Message], estimate: Estimate) -> int:
    return window(1, estimate).tokens(messages)


def follows_its_call(messages: Sequence[Message]) -> bool:
    """Whether each result stands behind its call, and each call has its results."""
    open_calls: list[str] = []
    for message in messages:
        if message.role is Role.TOOL:
            if not open_calls or message.tool_call_id != open_calls.pop(0):
                return False
        elif open_calls:
            return False
        open_calls += [call.id for call in message.tool_calls]
    return not open_calls


@given(conversations(), st.sampled_from([400, 700, 1500, 8192]), st.sampled_from([ANY, CL100K, O200K]))
def test_whatever_the_history_what_is_sent_fits_and_is_whole(
    messages: list[Message], context_tokens: int, estimate: Estimate
) -> None:
    fitted = window(context_tokens, estimate).fit(messages, TOOL_TOKENS, '{"type":"object"}')
    sent = fitted.messages
    assert follows_its_call(sent)
    last_text = next((message for message in reversed(messages) if message.role is not Role.TOOL), TASK)
    # What a model or a user has said is never cut: the newest of it may be too long by itself.
    can_be_cut = tokens([SYSTEM, TASK, last_text], estimate) + REPLY + 100 < context_tokens and not (
        messages[-1].text == "Answer again." and tokens(messages[-2:], estimate) + REPLY + 150 > context_tokens
    )
    if can_be_cut:
        assert fitted.tokens + REPLY <= context_tokens
    assert fitted.tokens >= tokens(sent, estimate)
    assert [message for message in sent if message.role is Role.SYSTEM] == messages[: messages[0].role is Role.SYSTEM]
    assert [message.text.removesuffix(LEFT_OUT) for message in sent if message.pinned] == [TASK.text]
    if messages[-1].text == "Answer again.":
        assert sent[-2] is messages[-2]
    # In order, nothing new, nothing twice, the newest there.
    place = 0
    for message in sent:
        place = 1 + next(index for index in range(place, len(messages)) if is_same(message, messages[index]))
    assert place == len(messages)
    assert window(context_tokens, estimate).fit(messages, TOOL_TOKENS, '{"type":"object"}') == fitted


@given(conversations())
def test_a_conversation_that_grows_is_cut_as_one_that_was_there_before(messages: list[Message]) -> None:
    growing: list[Message] = []
    kept = window(700)
    for message in messages:
        growing.append(message)
        assert kept.fit(growing, TOOL_TOKENS) == window(700).fit(list(growing), TOOL_TOKENS)


def is_same(sent: Message, said: Message) -> bool:
    if sent.role is Role.TOOL:
        return sent.tool_call_id == said.tool_call_id and said.text.startswith(sent.text.removesuffix(CUT))
    return sent.text.removesuffix(LEFT_OUT) == said.text and sent.tool_calls == said.tool_calls


def test_a_conversation_that_fits_is_sent_as_it_is() -> None:
    messages = [SYSTEM, TASK, *turn(1, "short")]
    assert window(8192).fit(messages, TOOL_TOKENS).messages is messages


def test_earlier_tasks_go_first_and_whole() -> None:
    earlier = [Message(Role.USER, "Hello."), *turn(1, "x" * 300), Message(Role.ASSISTANT, "Hi.")]
    later = [Message(Role.USER, "And?"), Message(Role.ASSISTANT, "So.")]
    sent = window(340).fit([SYSTEM, *earlier, *later, TASK, *turn(2, "y" * 300)], 0).messages
    assert sent == [SYSTEM, *later, TASK, *turn(2, "y" * 300)]


def test_what_was_said_to_an_answer_stays_with_it() -> None:
    answer, said = Message(Role.ASSISTANT, "x" * 400), Message(Role.USER, "Answer again.")
    sent = window(320).fit([TASK, *turn(1, "y" * 300), answer, said], 0).messages
    assert list(sent[1:]) == [answer, said]


def test_then_the_oldest_turns_of_the_task_and_the_model_is_told_so() -> None:
    turns = [turn(number, "x" * 100) for number in range(12)]
    sent = window(600).fit([SYSTEM, TASK, *chain(*turns)], 0).messages
    assert (sent[0], sent[1].text) == (SYSTEM, TASK.text + LEFT_OUT)
    assert 2 <= len(sent[2:]) // 2 < 12
    assert list(sent[2:]) == list(chain(*turns[-(len(sent[2:]) // 2) :]))


def test_the_beginning_of_what_is_sent_stays_the_same_for_several_turns() -> None:
    """Providers charge less for what a request has in common with the one before."""
    first_turns = []
    for length in range(10, 60):
        messages = [TASK, *(message for number in range(length) for message in turn(number, "x" * 60))]
        first_turns.append(window(1000).fit(messages, 0).messages[1].tool_calls[0].id)
    changes = sum(before != after for before, after in pairwise(first_turns))
    assert 0 < changes < 15


@pytest.mark.parametrize("sizes", [[20_000], [20_000, 10], [20_000, 15_000, 10]])
def test_results_of_the_newest_turn_are_cut_where_they_are_too_long_by_themselves(sizes: list[int]) -> None:
    ids = [f"c{index}" for index in range(len(sizes))]
    results = [gives(call_id, "word " * (size // 5)) for call_id, size in zip(ids, sizes, strict=True)]
    fitted = window(1000).fit([SYSTEM, TASK, *turn(9, "old"), asks(*ids), *results], TOOL_TOKENS)
    assert 1000 - REPLY - 100 < fitted.tokens <= 1000 - REPLY
    cut = [message.text.endswith(CUT) for message in fitted.messages if message.role is Role.TOOL]
    assert cut == [size > 10 for size in sizes]


def test_the_least_is_sent_where_even_that_is_too_much() -> None:
    task = Message(Role.USER, "word " * 1000, pinned=True)
    fitted = window(500).fit([SYSTEM, *turn(1, "x"), task], 0)
    assert list(fitted.messages) == [SYSTEM, task]
    assert fitted.tokens > 500
