"""The checks of `agent-service doctor`. They change nothing.

- `examination`: all checks in their order, and the findings
- `token_limits`: limits that no request of a model can fit; `config check` and the start report them too
- `running_server`: the reasons why a server that runs here accepts no work

Uses the parts that bootstrap builds; prints nothing.
"""
