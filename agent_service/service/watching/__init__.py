"""Following a task: its journal first, then what happens, each journaled event once.

- `watcher`: reads the store and the feed
- `position`: what a watcher has seen, and what is new to it: pure
"""
