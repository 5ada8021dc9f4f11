"""Tools of one's own, beside the configuration that names them: found, run, and seen to fail by their author."""

from __future__ import annotations

from pathlib import Path

from agent_service.client.aio import AsyncClient
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process

CONFIG = """
agents:
  helper: {model: default, tools: [look]}
tools:
  modules: [my_shop.stock]
"""
TOOLS = '''
from agent_service.tools.decorator import tool


@tool(side_effect="read_only")
def look(shelf: int) -> str:
    """Looks at a shelf."""
    if shelf < 0:
        raise ValueError("the secret detail")
    return "full"
'''


def shop(directory: Path, tools: str = TOOLS) -> Path:
    """A configuration in a directory that no process has on its path, with tools beside it."""
    package = directory / "conf" / "my_shop"
    package.mkdir(parents=True)
    (package / "stock.py").write_text(tools, "utf-8")
    config = directory / "conf" / "config.yaml"
    config.write_text(CONFIG, "utf-8")
    return config


async def failed_look(server: ServerProcess) -> str:
    """What a caller reads of a look that fails."""
    async with AsyncClient(server.target, api_key=KEY) as client:
        seen = await client.invoke_tool("look", {"shelf": 1})
        assert seen.output.string_value == "full"
        return (await client.invoke_tool("look", {"shelf": -1})).error.message


async def test_tools_beside_the_configuration_are_found_and_in_development_seen_to_fail(tmp_path: Path) -> None:
    async with server_process(tmp_path, AGENT_SERVICE_CONFIG_PATH=str(shop(tmp_path))) as server:
        assert await failed_look(server) == "the tool raised ValueError"
        line = await server.logged("tool_raised")
        assert (line["tool"], line["error"]) == ("look", "ValueError")
        await server.told("ValueError: the secret detail")


async def test_in_production_nobody_reads_the_text_of_an_exception(tmp_path: Path) -> None:
    settings = {"AGENT_SERVICE_CONFIG_PATH": str(shop(tmp_path)), "AGENT_SERVICE_ENV": "production"}
    async with server_process(tmp_path, **settings) as server:
        assert await failed_look(server) == "the tool raised ValueError"
        await server.logged("tool_raised")
        server.process.terminate()
        await server.told("(end of the log)")
        assert "secret" not in "".join(server.stderr)


async def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    config = shop(tmp_path)
    config.write_text(CONFIG.replace("my_shop.stock", "my_stop.stock"), "utf-8")
    env = environment(API_KEY=KEY, AGENT_SERVICE_CONFIG_PATH=str(config), LLM_PROVIDER="scripted")
    code, _, told = await command("config", "check", cwd=tmp_path, env=env)
    assert code == 2
    assert f"modules are looked for among the installed packages and in {config.parent}" in told


async def test_config_check_tells_unknown_tools_together_with_all_else_that_is_wrong(tmp_path: Path) -> None:
    config = shop(tmp_path)
    config.write_text(CONFIG.replace("[look]", "[look, calculater], turns: 3"), "utf-8")
    env = environment(API_KEY=KEY, AGENT_SERVICE_CONFIG_PATH=str(config), LLM_PROVIDER="scripted", DRAIN_GRACE="long")
    code, _, told = await command("config", "check", cwd=tmp_path, env=env)
    assert code == 2
    assert told.splitlines() == [
        "environment DRAIN_GRACE: must be a number",
        f"{config}:3 agents.helper.turns: is not a setting",
        f"{config}:3 agents.helper.tools[1]: 'calculater' is not a tool; "
        "tools: calculator, current_time, echo, json_query, look",
    ]


async def test_placeholders_of_an_example_are_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEY=your-secret-key-here\n", "utf-8")
    async with server_process(tmp_path, API_KEY="") as server:
        line = await server.logged("configuration_notice")
        assert line["notice"] == ".env:1 API_KEY: is the placeholder of an example and counts as unset"
