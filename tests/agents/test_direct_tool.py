"""The agent behind ToolInvoke: one call, and what came of it."""

from __future__ import annotations

from agent_service.agents.base import AgentState, CallTools, Complete, Fail
from agent_service.agents.config_changed import ConfigChanged
from agent_service.agents.direct_tool import DirectTool
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import ToolFinished
from agent_service.v1.task_pb2 import Failure
from agent_service.v1.tool_pb2 import ToolCall

CALL = ToolCall(id="call_1", name="calculator", arguments_json='{"expression": "2 + 2"}')
FAILURE = Failure(reason=reasons.ERROR_REASON_TOOL_TIMEOUT, message="too slow", retryable=True)


def test_the_call_is_run_first() -> None:
    assert DirectTool().step(AgentState(calls_open=[CALL])) == CallTools([CALL])


def test_its_result_ends_the_task_as_the_json_text_that_it_is() -> None:
    finished = ToolFinished(tool_call_id="call_1", output_json='{"sum": 4}')

    assert DirectTool().step(AgentState(results={"call_1": finished})) == Complete('{"sum": 4}')


def test_its_error_is_the_failure_of_the_task_unchanged() -> None:
    finished = ToolFinished(tool_call_id="call_1", error=FAILURE)

    assert DirectTool().step(AgentState(results={"call_1": finished})) == Fail(FAILURE)


def test_a_task_whose_configuration_is_gone_fails_whatever_it_had_come_to() -> None:
    for state in (AgentState(), AgentState(calls_open=[CALL])):
        action = ConfigChanged().step(state)
        assert isinstance(action, Fail)
        assert action.failure.reason == reasons.ERROR_REASON_CONFIG_CHANGED
        assert not action.failure.retryable
