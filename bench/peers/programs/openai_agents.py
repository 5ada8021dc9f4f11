"""An agent of openai-agents with a calculator and a model that answers at once, in process; no tracing."""

from __future__ import annotations

from functools import partial
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from worker import serve

ANSWER = "an answer of a peer, as fast as it can"


@function_tool
def calculator(expression: str) -> str:
    """Computes."""
    return str(17.5 * 2340 / 100)


class Script(Model):
    """Asks for the calculator as often as the task says, then answers."""

    async def get_response(
        self, system_instructions: str | None, input: Any, *arguments: Any, **more: Any
    ) -> ModelResponse:
        items = [] if isinstance(input, str) else input
        task = input if isinstance(input, str) else items[0]["content"]
        done = sum(item.get("type") == "function_call_output" for item in items)
        output: Any
        if done < int(task):
            arguments_json = '{"expression": "17.5 * 2340 / 100"}'
            output = ResponseFunctionToolCall(
                arguments=arguments_json, call_id=f"call_{done}", name="calculator", type="function_call"
            )
        else:
            text = ResponseOutputText(annotations=[], text=f"{ANSWER} {done}", type="output_text")
            output = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *arguments: Any, **more: Any) -> Any:
        raise NotImplementedError


agent = Agent(name="bench", instructions="You are a helpful assistant.", model=Script(), tools=[calculator])


async def run(calls: int) -> str:
    """Run the agent with so many tool calls; what is wrong with its answer."""
    result = await Runner.run(agent, str(calls))
    return "" if result.final_output == f"{ANSWER} {calls}" else repr(result.final_output)


if __name__ == "__main__":
    set_tracing_disabled(True)
    serve({str(calls): partial(run, calls) for calls in (0, 1, 5)})
