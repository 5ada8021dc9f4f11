"""Selects the part of a conversation that fits a model's context window together with the reply.

Sizes are estimates. If even the shortest form is too long, it is sent, and the provider decides. The selection depends
on the conversation alone, so a task that goes on after a crash sends the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent_service.engine.runtime import ModelRuntime
from agent_service.llm.base import Message, Role
from agent_service.llm.token_counts import MESSAGE_TOKENS

# The removed amount is rounded up to a multiple of room / STEP, so that several requests keep the same beginning:
# providers cache common prefixes.
STEP = 4
CUT = "\n… (cut here: the rest does not fit)"
LEFT_OUT = "\n\n(Earlier steps of this task are left out here: they do not fit.)"


class Fitted(NamedTuple):
    """Messages to send, and the estimated tokens of the whole request: messages, tools and schema."""

    messages: Sequence[Message]
    tokens: int


@dataclass(slots=True)
class Turn:
    """Messages that are kept or removed together, from `start` to before `end`, and their estimated tokens.

    Before the task's own message, a turn is an exchange: a user message and everything up to the next one. After it, a
    turn is a reply with the results of its tools and the messages that answer it. Instructions and the task's message
    are turns of their own, and are always kept.
    """

    start: int
    end: int
    tokens: int
    stays: bool
    is_task: bool


class Window:
    """The window of one model, for one task. Caches the last conversation, so that only added messages are read.
    `tools_tokens` are the estimated tokens of the tools that are described beside the messages.
    """

    def __init__(self, model: ModelRuntime) -> None:
        self._estimate = model.estimate
        self._room = model.context_tokens - model.tokens_max
        self._messages: Sequence[Message] = ()
        self._weights: list[int] = []
        self._tokens = 0
        # Only of conversations that do not fit.
        self._turns: list[Turn] = []
        self._is_behind_task = False

    def tokens(self, messages: Iterable[Message]) -> int:
        """Return the estimated tokens of the messages."""
        return sum(map(self._weight, messages))

    def room(self, tools_tokens: int, output_schema_json: str = "") -> int:
        """Return the tokens left for messages, after the reply, the tools and the schema."""
        return self._room - tools_tokens - self._estimate.tokens(output_schema_json)

    def fit(self, messages: Sequence[Message], tools_tokens: int, output_schema_json: str = "") -> Fitted:
        """Return the messages to send: all of them, or the instructions, the task and its newest turns.

        Whole exchanges of earlier tasks are removed first, oldest first, then turns of this task. The newest turn is
        always kept; if it is too long by itself, the results of its tools are cut.
        """
        if messages is not self._messages:
            self._messages, self._weights, self._tokens = messages, [], 0
            self._turns, self._is_behind_task = [], False
        # The fold only appends to its list.
        for index in range(len(self._weights), len(messages)):
            weight = self._weight(messages[index])
            self._weights.append(weight)
            self._tokens += weight
        beside = tools_tokens
        if output_schema_json:
            beside += self._estimate.tokens(output_schema_json)
        if self._tokens + beside <= self._room:
            return Fitted(messages, self._tokens + beside)
        self._split()
        fitted = self._shortened(self._room - beside)
        return Fitted(fitted.messages, fitted.tokens + beside)

    def _weight(self, message: Message) -> int:
        tokens = self._estimate.tokens
        weight = tokens(message.text) + message.state_tokens + MESSAGE_TOKENS
        for call in message.tool_calls:
            weight += tokens(call.name) + tokens(call.arguments_json) + MESSAGE_TOKENS
        return weight

    def _split(self) -> None:
        """Assign the messages that were added to turns."""
        for index in range(self._turns[-1].end if self._turns else 0, len(self._messages)):
            message, weight = self._messages[index], self._weights[index]
            if self._begins_turn(message):
                stays = message.pinned or message.role is Role.SYSTEM
                self._turns.append(Turn(index, index + 1, weight, stays, message.pinned))
            else:
                self._turns[-1].end = index + 1
                self._turns[-1].tokens += weight
            self._is_behind_task = self._is_behind_task or message.pinned

    def _begins_turn(self, message: Message) -> bool:
        if not self._turns or message.pinned or message.role is Role.SYSTEM:
            return True
        match message.role:
            case Role.USER:
                return not self._is_behind_task or self._turns[-1].stays
            case Role.ASSISTANT:
                return self._is_behind_task or self._turns[-1].stays
            case _:
                return False

    def _shortened(self, room: int) -> Fitted:
        step = max(room // STEP, 1)
        too_many = -(-(self._tokens + self._estimate.tokens(LEFT_OUT) - room) // step) * step
        said: list[Message] = []
        tokens, task_at, is_marked = 0, None, False
        *earlier, newest = self._turns
        for turn in earlier:
            if turn.stays or too_many <= 0:
                task_at = len(said) if turn.is_task else task_at
                said += self._messages[turn.start : turn.end]
                tokens += turn.tokens
                continue
            too_many -= turn.tokens
            if task_at is not None and not is_marked:
                tokens -= self._weight(said[task_at])
                said[task_at] = said[task_at]._replace(text=said[task_at].text + LEFT_OUT)
                tokens += self._weight(said[task_at])
                is_marked = True
        last = list(self._messages[newest.start :])
        if newest.tokens > room - tokens:
            last = self._with_cut_results(last, newest.tokens - (room - tokens))
        return Fitted([*said, *last], tokens + self.tokens(last))

    def _with_cut_results(self, messages: list[Message], too_many: int) -> list[Message]:
        """Return the messages with tool results shorter by `too_many` tokens in total, all cut to the same length."""
        weights = {index: self._weight(each) for index, each in enumerate(messages) if each.role is Role.TOOL}
        left = sum(weights.values()) - too_many
        for done, index in enumerate(sorted(weights, key=weights.__getitem__)):
            messages[index] = self._cut(messages[index], left // (len(weights) - done))
            left -= self._weight(messages[index])
        return messages

    def _cut(self, message: Message, tokens: int) -> Message:
        """Return the message cut to `tokens`, if possible: at least CUT remains of its text."""
        text, length, weight = message.text, len(message.text), self._weight(message)
        while weight > tokens and length:
            length = min(length - 1, int(length * max(tokens, 0) / weight * 0.95))
            message = message._replace(text=text[:length] + CUT)
            weight = self._weight(message)
        return message
