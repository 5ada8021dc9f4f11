"""A model's window: what of a conversation is sent, so that it and the reply have room in it.

By the estimate, that is; where even the least is too much, the provider decides. What is left out follows from the
conversation alone, so that a task that goes on after a crash sends the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent_service.engine.runtime import ModelRuntime
from agent_service.llm.base import Message, Role, ToolSpec

# Roles, separators and ids that a provider counts beside the text.
MESSAGE_TOKENS = 6
# More is left out than must be, up to this part of the room: providers keep what the beginnings of requests share.
STEP = 4
CUT = "\n… (cut here: the rest does not fit)"
LEFT_OUT = "\n\n(Earlier steps of this task are left out here: they do not fit.)"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Messages to send, and the tokens that they are taken to be together with what is sent beside them."""

    messages: Sequence[Message]
    tokens: int


class Window:
    """The window of one model, for one task. Remembers what the messages that it saw last weigh, and nothing else."""

    def __init__(self, model: ModelRuntime) -> None:
        self._estimate = model.estimate
        self._room = model.context_tokens - model.tokens_max
        self._known: dict[int, tuple[Message, int]] = {}

    def tokens(self, messages: Iterable[Message]) -> int:
        """What the messages are taken to be."""
        return sum(map(self._weight, messages))

    def room(self, tools: Sequence[ToolSpec], output_schema_json: str = "") -> int:
        """The tokens that are left for messages, beside the reply and what is sent with them."""
        return self._room - self._beside(tools, output_schema_json)

    def fit(self, messages: Sequence[Message], tools: Sequence[ToolSpec], output_schema_json: str = "") -> Fitted:
        """The messages that are sent: all of them, or the instructions, the task, and its newest turns.

        First whole exchanges of earlier tasks are left out, the oldest first, then turns of this task: a reply with all
        results of its tools. The newest turn always stays; where it is too long by itself, its results are cut.
        """
        beside = self._beside(tools, output_schema_json)
        room = self._room - beside
        self._known = {id(message): (message, self._weight(message)) for message in messages}
        tokens = self.tokens(messages)
        if tokens > room:
            messages = self._shortened(messages, tokens, room)
            tokens = self.tokens(messages)
        return Fitted(messages, tokens + beside)

    def _beside(self, tools: Sequence[ToolSpec], output_schema_json: str) -> int:
        tokens = self._estimate.tokens
        described = sum(tokens(spec.description) + tokens(spec.input_schema_json) + MESSAGE_TOKENS for spec in tools)
        return described + tokens(output_schema_json)

    def _weight(self, message: Message) -> int:
        known = self._known.get(id(message))
        return known[1] if known is not None and known[0] is message else self._weigh(message)

    def _weigh(self, message: Message) -> int:
        tokens = self._estimate.tokens
        weight = tokens(message.text) + MESSAGE_TOKENS
        for call in message.tool_calls:
            weight += tokens(call.name) + tokens(call.arguments_json) + MESSAGE_TOKENS
        return weight

    def _shortened(self, messages: Sequence[Message], tokens: int, room: int) -> Sequence[Message]:
        turns = turns_of(messages)
        step = max(room // STEP, 1)
        too_many = -(-(tokens + self._estimate.tokens(LEFT_OUT) - room) // step) * step
        said: list[Message] = []
        task_at: int | None = None
        for turn in turns[:-1]:
            if _stays(turn) or too_many <= 0:
                task_at = len(said) if turn[0].pinned else task_at
                said += turn
                continue
            too_many -= self.tokens(turn)
            if task_at is not None:
                said[task_at] = _marked(said[task_at])
        return self._with_cut_results([*said, *turns[-1]], room)

    def _with_cut_results(self, messages: list[Message], room: int) -> list[Message]:
        """The results of the newest turn, each as long as all can be."""
        too_many = self.tokens(messages) - room
        results = [index for index, message in enumerate(messages) if message.role is Role.TOOL]
        last = turns_of(messages)[-1] if messages else []
        results = [index for index in results if any(messages[index] is message for message in last)]
        if too_many <= 0 or not results:
            return messages
        left = sum(self._weight(messages[index]) for index in results) - too_many
        for done, index in enumerate(sorted(results, key=lambda index: self._weight(messages[index]))):
            share = left // (len(results) - done)
            messages[index] = self._cut(messages[index], share)
            left -= self._weight(messages[index])
        return messages

    def _cut(self, message: Message, tokens: int) -> Message:
        """The message within so many tokens, if it can be: its text may come down to CUT."""
        length, weight = len(message.text), self._weight(message)
        while weight > tokens and length:
            length = min(length - 1, int(length * max(tokens, 0) / weight * 0.95))
            message = replace(message, text=message.text[:length] + CUT)
            weight = self._weight(message)
        return message


def turns_of(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages in parts that are left out whole or not at all.

    Before the task, an exchange: what a user said, and all that came of it. Behind it a turn: a reply with the results
    of its tools, and with what was said to it. Instructions and the task stand alone.
    """
    turns: list[list[Message]] = []
    is_behind_task = not any(message.pinned for message in messages)
    for message in messages:
        is_behind_task = is_behind_task or message.pinned
        match message.role:
            case Role.SYSTEM:
                begins = True
            case Role.USER:
                begins = message.pinned or not is_behind_task or not turns or _stays(turns[-1])
            case Role.ASSISTANT:
                begins = is_behind_task or not turns or _stays(turns[-1])
            case _:
                begins = not turns
        if begins:
            turns.append([message])
        else:
            turns[-1].append(message)
    return turns


def _stays(turn: Sequence[Message]) -> bool:
    return any(message.pinned or message.role is Role.SYSTEM for message in turn)


def _marked(message: Message) -> Message:
    """The task, saying that something is missing behind it."""
    return message if message.text.endswith(LEFT_OUT) else replace(message, text=message.text + LEFT_OUT)
