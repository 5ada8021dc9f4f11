"""Follows a task: first its journal, then live events; each journaled event once.

- `watcher`: reads the store and the feed
- `position`: the position of a watcher, and the selection of new events: pure
"""
