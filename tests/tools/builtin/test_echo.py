from agent_service.tools.base import ToolContext
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.builtin.echo import echo
from agent_service.tools.runner import ToolRunner
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_READ_ONLY
from tests.tools.calls import run


async def test_echo_gives_its_text_back(runner: ToolRunner, context: ToolContext) -> None:
    result = await run(runner, echo, '{"text": "hello \\u00e9"}', context)
    assert result.output_json == '"hello é"'


def test_all_builtin_tools_only_read() -> None:
    assert [tool.name for tool in BUILTIN_TOOLS] == ["calculator", "current_time", "echo", "json_query"]
    assert {tool.side_effect for tool in BUILTIN_TOOLS} == {TOOL_SIDE_EFFECT_READ_ONLY}
