"""The scripted model: answers out of a script, deterministically and without a network.

It stands in where no provider is configured, and in tests; it never stands in for a model that failed. Which turn it
plays follows from the conversation alone: the number of assistant messages since the last user message. So it keeps no
state, and replays identically after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib.resources import files

import orjson

from agent_service.errors import LLMError
from agent_service.llm.base import Message, ModelObserver, ModelReply, ModelRequest, Role
from agent_service.llm.script import Script, ScriptedFailure, Turn, pieces_of
from agent_service.llm.scripted_answer import answer_of
from agent_service.llm.tokens import tokens_in
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_event_pb2 import FINISH_REASON_STOP, FinishReason
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall

PROVIDER_MODEL = "scripted"


def default_script() -> Script:
    """The script that ships with the service: arithmetic, the time, small talk."""
    name = "default_script.yaml"
    return Script.parse((files("agent_service.llm") / name).read_text("utf-8"), name)


class ScriptedModel:
    """A Model that plays a Script. Suspends only where a turn has delays. `sleep` is for tests.

    An answer that is to fit a schema is made of the script's text by that schema; a text that is a JSON document stays
    as it is. Usage is estimated, from the characters of all messages, of the reasoning and of the reply. A turn whose
    tools the request lacks, and one that follows a failed tool call, is replaced by an answer that says so.
    """

    def __init__(self, script: Script, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._script = script
        self._sleep = sleep

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Play the turn that the conversation has come to.

        Raises:
            LLMError: the turn says so; or no entry matches, or its turns are used up (LLM_REJECTED).
        """
        messages = request.messages
        asked, since = _since_last_user(messages)
        found = self._script.find(asked)
        if found is None:
            raise LLMError(ERROR_REASON_LLM_REJECTED, "the script has no entry that matches")
        entry, groups = found
        results = [message.text for message in since if message.role is Role.TOOL]
        played = sum(message.role is Role.ASSISTANT for message in since)
        if played >= len(entry.turns) and not entry.repeat:
            raise LLMError(ERROR_REASON_LLM_REJECTED, f"the script has no turn {played + 1} for this")
        turn = entry.turns[played % len(entry.turns)]
        input_tokens = tokens_in(sum(len(message.text) for message in messages))

        excuse = _failures(since) if since else ""
        if not excuse and turn.calls:
            excuse = _missing(turn.names(groups, results), request)
        if excuse:
            excuse = _as_asked(excuse, request)
            await self._say("", pieces_of(excuse), turn, observer)
            return _reply(excuse, [], FINISH_REASON_STOP, _usage("", excuse, [], input_tokens))

        reasoning = turn.reasoning.render(groups, results)
        text, pieces = turn.text, turn.pieces
        if turn.template is not None:
            text = turn.template.render(groups, results)
            pieces = pieces_of(text)
        if request.output_schema_json and not turn.calls and turn.failure is None:
            text = _as_asked(text, request)
            pieces = pieces_of(text)
        await self._say(reasoning, pieces, turn, observer)
        if turn.failure is not None:
            raise _error(turn.failure, _usage(reasoning, text, [], input_tokens) if text or reasoning else None)
        calls: list[ToolCall] = []
        if turn.calls:
            first = 1 + sum(len(message.tool_calls) for message in messages)
            calls = [
                ToolCall(id=f"call_{number}", name=name, arguments_json=call.arguments_json(groups, results))
                for number, (name, call) in enumerate(zip(turn.names(groups, results), turn.calls, strict=True), first)
            ]
        return _reply(text, calls, turn.finish, _usage(reasoning, text, calls, input_tokens))

    async def _say(self, reasoning: str, pieces: Iterable[str], turn: Turn, observer: ModelObserver) -> None:
        if turn.delay_s:
            await self._sleep(turn.delay_s)
        is_first = True
        for write, written in ((observer.reasoning, pieces_of(reasoning)), (observer.text, pieces)):
            for piece in written:
                if turn.chunk_delay_s and not is_first:
                    await self._sleep(turn.chunk_delay_s)
                is_first = False
                write(piece)


def _as_asked(text: str, request: ModelRequest) -> str:
    """An answer by the schema that it is to fit, if there is one."""
    return answer_of(request.output_schema_json, text) if request.output_schema_json else text


def _since_last_user(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """The last user text, empty if there is none, and the messages after it."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role is Role.USER:
            return messages[index].text, messages[index + 1 :]
    return "", [message for message in messages if message.role is not Role.SYSTEM]


def _failures(since: Sequence[Message]) -> str:
    """Return what the results since the last reply say of failures; empty if there is none."""
    told = []
    for message in reversed(since):
        if message.role is not Role.TOOL:
            break
        # What a failed call looks like to a model; everything else is a result.
        if message.text.startswith('{"error":'):
            told.append(f"The tool {message.tool_name} failed: {_message_of(message.text)}")
    return "\n".join(reversed(told))


def _message_of(error_json: str) -> str:
    try:
        return str(orjson.loads(error_json)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return error_json


def _missing(names: Iterable[str], request: ModelRequest) -> str:
    """Return which of these tools the request lacks; empty if none."""
    offered = {spec.name for spec in request.tools}
    missing = sorted(set(names) - offered)
    return f"For this I would call {', '.join(missing)}, which is not among my tools." if missing else ""


def _reply(text: str, calls: list[ToolCall], finish: FinishReason.ValueType, usage: Usage) -> ModelReply:
    return ModelReply(text, calls, finish, usage, PROVIDER_MODEL)


def _usage(reasoning: str, text: str, calls: Sequence[ToolCall], input_tokens: int) -> Usage:
    written = len(text) + sum(len(call.name) + len(call.arguments_json) for call in calls)
    reasoned = tokens_in(len(reasoning))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=reasoned + tokens_in(written),
        reasoning_tokens=reasoned,
        estimated=True,
    )


def _error(failure: ScriptedFailure, usage: Usage | None) -> LLMError:
    return LLMError(
        failure.reason,
        "the script says that this request fails",
        retryable=failure.retryable,
        retry_after_s=failure.retry_after_s,
        usage=usage,
    )
