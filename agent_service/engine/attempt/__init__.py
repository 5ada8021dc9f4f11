"""One attempt of a task: the loop that drives it, its requests to models and its tool calls.

- `driver`: fold, ask the agent, perform its action, journal the result, until the task ends
- `model_turn`: one reply of a model; `live_text`: its text while it is written
- `tool_calls`: the tool calls of one reply
- `stop`: the request that the attempt stops before it ends by itself
- `task_budget`: what the task may still use
- `spans`, `span_content`: the attempt as spans of a trace

Knows neither the queue nor the other attempts of the process.
"""
