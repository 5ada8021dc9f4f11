"""Converts between protobuf messages and plain values.

- `tasks`: requests and responses of RunTask and ToolInvoke, and shared helpers
- `commands`: ListTasks and ResumeTask
- `usage`: GetUsage
"""
