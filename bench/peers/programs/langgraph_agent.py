"""The same agent on LangGraph: a node for the model, a node for its tools, in process; no checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from worker import serve

ANSWER = "an answer of a peer, as fast as it can"


@tool
def calculator(expression: str) -> str:
    """Computes."""
    return str(17.5 * 2340 / 100)


async def model(state: MessagesState) -> dict[str, Any]:
    """Ask for the calculator as often as the task says, then answer."""
    messages = state["messages"]
    done = sum(isinstance(message, ToolMessage) for message in messages)
    if done < int(messages[0].content):
        call = {"name": "calculator", "args": {"expression": "17.5 * 2340 / 100"}, "id": f"call_{done}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}
    return {"messages": [AIMessage(f"{ANSWER} {done}")]}


graph = StateGraph(MessagesState)
graph.add_node("model", model)
graph.add_node("tools", ToolNode([calculator]))
graph.add_edge(START, "model")
graph.add_conditional_edges("model", tools_condition)
graph.add_edge("tools", "model")
agent = graph.compile()


async def run(calls: int) -> str:
    """Run the agent with so many tool calls; what is wrong with its answer."""
    result = await agent.ainvoke({"messages": [HumanMessage(str(calls))]})
    answer = result["messages"][-1].content
    return "" if answer == f"{ANSWER} {calls}" else repr(answer)


if __name__ == "__main__":
    serve({str(calls): partial(run, calls) for calls in (0, 1, 5)})
