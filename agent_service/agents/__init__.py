"""Decisions: from the folded state of a task to its next action. Pure: independent of store, models and clock.

- `base`: the agent port, its view of a task and the actions that it may return
- `tool_agent`: the default agent: calls the model and runs the requested tools, until the model answers in text
- `direct_tool`: the agent behind `ToolInvoke`
- `config_changed`: fails a task whose agent is no longer configured
"""
