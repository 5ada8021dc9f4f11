"""Rewrites a conversation for a model with fewer capabilities than the one that had it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent_service.llm.base import Capabilities, Message, Role


def readable(messages: Sequence[Message], capabilities: Capabilities) -> Sequence[Message]:
    """Return the messages for a model with these capabilities: unchanged if it has all of them."""
    if not capabilities.tools:
        return list(_without_calls(messages))
    if not capabilities.parallel_tools:
        return list(_one_by_one(messages))
    return messages


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield every call in a message of its own, followed by its result: templates of such models reject several at
    once. Calls of two tasks of a session may have the same id: a result belongs to the message that it follows.
    """
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if len(message.tool_calls) < 2:
            yield message
            continue
        results: dict[str, Message] = {}
        while index < len(messages) and messages[index].role is Role.TOOL:
            results[messages[index].tool_call_id] = messages[index]
            index += 1
        for position, call in enumerate(message.tool_calls):
            yield message._replace(text="" if position else message.text, tool_calls=(call,), provider_state=b"")
            if call.id in results:
                yield results[call.id]


def _without_calls(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield calls and results as text. The results of a turn become one message: templates reject two user messages in
    a row.
    """
    results: list[str] = []
    for message in messages:
        if message.role is Role.TOOL:
            results.append(f"The tool {message.tool_name} returned: {message.text}")
            continue
        if results:
            yield Message(Role.USER, "\n\n".join(results))
            results = []
        if message.tool_calls:
            calls = [f"I call the tool {call.name} with {call.arguments_json}" for call in message.tool_calls]
            yield Message(message.role, "\n\n".join(filter(None, (message.text, *calls))))
        else:
            yield message
    if results:
        yield Message(Role.USER, "\n\n".join(results))
