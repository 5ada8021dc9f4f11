"""Periodic work: heartbeat, orphans, deadlines, retention, following of journals, reports of waits.

- `periodic`: runs a step at an interval, with one policy for errors
- `housekeeping`: adopts orphaned tasks, counts tasks that wait for input; `deadlines`, `retention`: end and erase tasks
- `heartbeat`: proves to other processes that this one is alive
- `journal_follower`: reads the appends of all processes
- `waits`: reports waiting tasks
"""
