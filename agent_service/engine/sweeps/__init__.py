"""Periodic work: heartbeat, orphans, deadlines, retention, following of journals, reports of waits."""
