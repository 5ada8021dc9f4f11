from agent_service.tools.base import ToolContext
from agent_service.tools.builtin import BUILTIN_TOOLS
from agent_service.tools.builtin.echo import echo
from agent_service.tools.runner import ToolRunner
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_READ_ONLY


async def test_echo_gives_its_text_back(runner: ToolRunner, context: ToolContext) -> None:
    result = await runner.run(echo, '{"text": "hello \\u00e9"}', context, timeout_s=30)
    assert result.output_json == '"hello é"'


def test_all_builtin_tools_only_read() -> None:
    assert [tool.name for tool in BUILTIN_TOOLS] == ["calculator", "current_time", "echo", "json_query"]
    assert {tool.side_effect for tool in BUILTIN_TOOLS} == {TOOL_SIDE_EFFECT_READ_ONLY}
