"""One attempt of a task: the loop that drives it, its requests to models and its tool calls.

- `driver`: folds, gets the agent's decision, performs it and journals the result, until the task ends
- `model_turn`: one reply of a model; `live_text`: its text while it is written
- `tool_calls`: the tool calls of one reply
- `stop`: a request to end the attempt early
- `task_budget`: the remaining budget of the task
- `spans`, `span_content`: the attempt as spans of a trace

Depends neither on the queue nor on other attempts of the process.
"""
