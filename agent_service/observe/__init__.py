"""Log, metrics, traces and dumps. Independent of tasks: callers pass names and numbers.

- `log`: events with fields; `sink`: the thread that writes them
- `metrics`, `instruments`: the metrics, and counters that need no lock; `scraping`: serves them over HTTP
- `trace`: spans without a vendor; `otel`: spans for OpenTelemetry; `semconv`: the names in spans
- `loop_lag`: the delay of an event loop
- `stacks`, `dumps`: the stacks of all asyncio tasks, and the file that they are written to
"""
