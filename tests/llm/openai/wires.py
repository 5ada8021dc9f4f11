"""What a provider says over each of the two APIs, by what it means: pieces of streams, and whole replies."""

from __future__ import annotations

from agent_service.llm.openai.request_settings import Api
from tests.fakes import provider, responses
from tests.fakes.provider import Json, Reply


class ChatWire:
    """Chat Completions."""

    api = Api.CHAT

    def text(self, content: str) -> list[Json]:
        """A piece of a text."""
        return [provider.text(content)]

    def call_begun(self, name: str, arguments: str) -> list[Json]:
        """A call whose arguments have not all come yet."""
        return [provider.tool_call(0, "c", name, arguments)]

    def whole(self, content: str, usage: tuple[int, int] | None = None, *, finish: str = "stop") -> list[Json]:
        """A whole reply in text."""
        counted = [provider.usage(*usage)] if usage else []
        return [provider.text(content), provider.finish(finish), *counted]

    def error(self, code: str) -> list[Json]:
        """An error in place of what is to come."""
        return [{"error": {"message": "words of the provider", "type": "server_error", "code": code}}]

    def stream(self, *pieces: Json | bytes) -> Reply:
        return provider.stream(*pieces)

    def document(self, content: str, usage: tuple[int, int]) -> Reply:
        choice = {"message": {"content": content}, "finish_reason": "stop"}
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        return provider.document({"choices": [choice], "usage": counts})


class ResponsesWire:
    """The Responses API."""

    api = Api.RESPONSES

    def text(self, content: str) -> list[Json]:
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        return [{"type": "response.output_text.delta", **place, "delta": content, "logprobs": []}]

    def call_begun(self, name: str, arguments: str) -> list[Json]:
        place = {"item_id": "fc_1", "output_index": 0}
        return [{"type": "response.function_call_arguments.delta", **place, "delta": f"{name}{arguments}"}]

    def whole(self, content: str, usage: tuple[int, int] | None = None, *, finish: str = "stop") -> list[Json]:
        ended: Json = {} if finish == "stop" else {"status": "incomplete", **responses.incomplete(finish)}
        return responses.events(
            responses.message(text=content), usage=responses.usage(*usage) if usage else None, **ended
        )

    def error(self, code: str) -> list[Json]:
        return [responses.error(code)]

    def stream(self, *pieces: Json | bytes) -> Reply:
        return responses.stream(*pieces)

    def document(self, content: str, usage: tuple[int, int]) -> Reply:
        whole = responses.document(responses.message(text=content), usage=responses.usage(*usage))
        return provider.document(whole)


Wire = ChatWire | ResponsesWire
WIRES: tuple[Wire, ...] = (ChatWire(), ResponsesWire())
