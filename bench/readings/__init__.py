"""Measurements without calls in flight, each a part of a run.

- `cold_start`: from exec to the first answer.
- `history`: what an event costs in a long task beside short ones.
- `open_streams`: memory of a stream that stays open.
"""
