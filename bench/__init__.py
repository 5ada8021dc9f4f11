"""Benchmarks: this service beside others in one run, and small ones of single parts.

- `contenders/`: what is measured, each a process of its own.
- `load/`: the load generator.
- `peers/`: other projects, which a run can have beside it.
- `machine`: cores, and counters of processes.
- `readings/`: what is measured without calls in flight.
- `plan`: what a run measures.
- `rounds`: interleaved rounds of a group of cases.
- `results`: rows, medians, spread and ratios.
- `targets`: the figures that the project holds itself to.
- `report`: the table and the JSON of a run.
- `breadth`: entries into own functions for a task and a delta.
- `limiter`: time and memory of the limiter.
- `long_task`: what long tasks and many tasks add to each call.
- `retention`: waits of appends while old tasks are erased.
- `stream_chunk`: CPU of reading a chunk of a model's stream.
"""
