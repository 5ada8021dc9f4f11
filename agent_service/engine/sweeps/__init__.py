"""Periodic work: heartbeat, orphans, deadlines, retention, following of journals, reports of waits.

- `periodic`: runs a round again and again, with one policy for errors
- `housekeeping`: adopts orphaned tasks and counts what waits; `deadlines`, `retention`: end and erase tasks
- `heartbeat`: keeps this process alive in the eyes of the others
- `journal_follower`: what is appended to the store, by any process
- `waits`: reports tasks that stand still
"""
