"""Runs tasks: the only writer of journals.

- `task/`: the state of a task, computed from its events: pure
- `attempt/`: one attempt of a task, from its start to its end
- `dispatch/`: which task runs next in this process
- `sweeps/`: periodic work
- `journal_writer`, `journal_reading`: journals written and read back
- `outcomes`: the events that end tasks and attempts, and the report of an end
- `idle_tasks`: changes tasks that this process does not drive
- `tenant_budgets`: budgets over days and months; `limit_replay`: charges from before the process began
- `runtime`: the configured agents and the ports, as constructor arguments
- `latch`: an event that happens once; `timing`: the intervals, in seconds

Depends on the ports of store, feed, models, tools and limits, not on their adapters, and not on gRPC.
"""
