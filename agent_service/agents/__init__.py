"""Decisions: from the folded state of a task to its next action. Pure; they know no store, no model and no clock.

- `base`: the agent port, its view of a task and the actions that it may answer
- `tool_agent`: the default agent: ask the model, run the tools that it asks for, until it answers in text
- `direct_tool`: the agent behind `ToolInvoke`
- `config_changed`: fails a task whose agent is no longer configured
"""
