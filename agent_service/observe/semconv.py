"""The names of span attributes. All names of OpenTelemetry's semantic conventions are in this module.

Generative AI as of the semantic conventions 1.41 (development status: names may still change); RPC (release
candidate). https://github.com/open-telemetry/semantic-conventions-genai
"""

from __future__ import annotations

from typing import Final

ERROR_TYPE: Final = "error.type"

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"

OPERATION: Final = "gen_ai.operation.name"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"

AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"

PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"

# Content, recorded only if that is configured.
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"

# Ours.
TENANT: Final = "agent_service.tenant"
REQUEST_ID: Final = "agent_service.request.id"
TASK_ID: Final = "agent_service.task.id"
TASK_STATE: Final = "agent_service.task.state"
ATTEMPT: Final = "agent_service.task.attempt"
TURN: Final = "agent_service.turn"
TRY: Final = "agent_service.try"
MODEL: Final = "agent_service.model"
COST: Final = "agent_service.cost"
