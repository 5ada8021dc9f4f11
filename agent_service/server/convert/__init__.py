"""Between the wire's messages and plain values, both ways.

- `tasks`: what RunTask and ToolInvoke ask, and what they and the streams answer; helpers that the others share
- `commands`: ListTasks and ResumeTask
- `usage`: GetUsage
"""
