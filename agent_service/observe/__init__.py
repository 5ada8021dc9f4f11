"""The log, the metrics, the traces, and dumps. Knows no tasks: callers give names and numbers.

- `log`: events with fields; `sink`: the thread that writes them
- `metrics`, `instruments`: the metrics, and counters that need no lock; `scraping`: serves them over HTTP
- `trace`: spans without a vendor; `otel`: spans for OpenTelemetry; `semconv`: the names in spans
- `loop_lag`: how late an event loop is
- `stacks`, `dumps`: where every asyncio task stands, and the file that shows it
"""
