"""The spans of a task: one for each attempt, and within it one for each request to a model and each tool call.

All attempts belong to the trace of the call that submitted the task. The journal holds its context, so an attempt an
hour later or in another process continues the trace (docs/adr/0014). Tasks that are not traced build no spans.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.engine.attempt import span_content as content
from agent_service.engine.runtime import ModelRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import reason_name
from agent_service.llm.base import Message, ModelReply
from agent_service.observe import semconv
from agent_service.observe.trace import NO_SPAN, Kind, Span, Tracer, Value, current_span
from agent_service.text.enum_names import short_name
from agent_service.v1.task_event_pb2 import FinishReason, ToolFinished
from agent_service.v1.task_pb2 import TASK_KIND_TOOL, TaskState, Usage
from agent_service.v1.tool_pb2 import ToolCall


def begin_attempt(tracer: Tracer, folded: FoldedTask) -> Span:
    """Begin the span of an attempt."""
    submitted, task = folded.submitted, folded.task
    if not submitted.traceparent:
        return NO_SPAN
    attributes: dict[str, Value] = {
        semconv.TASK_ID: task.id,
        semconv.TENANT: submitted.tenant,
        semconv.ATTEMPT: task.attempt + 1,
    }
    if submitted.session_id:
        attributes[semconv.CONVERSATION_ID] = submitted.session_id
    if submitted.kind == TASK_KIND_TOOL:
        return tracer.within(submitted.traceparent, f"invoke_tool {submitted.agent}", attributes)
    attributes |= {semconv.OPERATION: semconv.INVOKE_AGENT, semconv.AGENT_NAME: submitted.agent}
    return tracer.within(submitted.traceparent, f"{semconv.INVOKE_AGENT} {submitted.agent}", attributes)


def end_attempt(span: Span, folded: FoldedTask) -> None:
    """End the span of an attempt, with the state of its task."""
    if not span.is_recorded:
        return
    task = folded.task
    span.set({semconv.TASK_STATE: short_name(TaskState, task.state), **_used(task.usage)})
    span.end(reason_name(task.failure.reason) if task.HasField("failure") else "")


def begin_chat(
    model: ModelRuntime, turn: int, try_number: int, messages: Sequence[Message], *, shows_content: bool
) -> Span:
    """Begin the span of a request to a model's provider, within the current one, which is recorded."""
    attributes: dict[str, Value] = {
        semconv.OPERATION: semconv.CHAT,
        semconv.PROVIDER: PROVIDERS.get(model.provider, model.provider),
        semconv.REQUEST_MODEL: model.model_id,
        semconv.REQUEST_MAX_TOKENS: model.tokens_max,
        semconv.MODEL: model.key,
        semconv.TURN: turn,
        semconv.TRY: try_number,
    }
    if shows_content:
        attributes |= content.of_request(messages)
    return current_span().child(f"{semconv.CHAT} {model.model_id}", Kind.CLIENT, attributes)


def end_chat(
    span: Span, outcome: str, usage: Usage, reply: ModelReply | None, first_text_s: float, *, shows_content: bool
) -> None:
    """End the span of a request, with its reply or the reason `outcome`."""
    if not span.is_recorded:
        return
    attributes = _used(usage)
    if first_text_s:
        attributes[semconv.FIRST_CHUNK_S] = first_text_s
    if reply is None:
        span.set(attributes)
        span.end(outcome)
        return
    finish = short_name(FinishReason, reply.finish_reason).lower()
    attributes |= {semconv.RESPONSE_MODEL: reply.provider_model, semconv.FINISH_REASONS: [finish]}
    if shows_content:
        attributes |= content.of_reply(reply, finish)
    span.set(attributes)
    span.end()


def begin_tool(call: ToolCall, *, shows_content: bool) -> Span:
    """Begin the span of a tool call, within the current one, which is recorded."""
    attributes: dict[str, Value] = {
        semconv.OPERATION: semconv.EXECUTE_TOOL,
        semconv.TOOL_NAME: call.name,
        semconv.TOOL_TYPE: "function",
        semconv.TOOL_CALL_ID: call.id,
    }
    if shows_content:
        attributes |= content.of_arguments(call)
    return current_span().child(f"{semconv.EXECUTE_TOOL} {call.name}", Kind.INTERNAL, attributes)


def end_tool(span: Span, finished: ToolFinished, *, shows_content: bool) -> None:
    """End the span of a tool call, which is recorded, with its result or error."""
    if shows_content:
        span.set(content.of_result(finished))
    span.end(reason_name(finished.error.reason) if finished.HasField("error") else "")


# Names of providers in the semantic conventions.
PROVIDERS = {"azure": "azure.ai.openai"}


def _used(usage: Usage) -> dict[str, Value]:
    used: dict[str, Value] = {
        semconv.INPUT_TOKENS: usage.input_tokens,
        semconv.OUTPUT_TOKENS: usage.output_tokens,
    }
    if usage.cached_input_tokens:
        used[semconv.CACHED_TOKENS] = usage.cached_input_tokens
    if usage.cost_nanos:
        used[semconv.COST] = usage.cost_nanos / 1e9
    return used
