"""Log, metrics and traces.

Log: `log` renders events, `sink` writes them. Metrics: `metrics` has all of them, of `instruments`; `scraping` serves
them; `loop_lag` measures the event loop. Traces: `trace` has the spans, `otel` records them, `semconv` names their
attributes. `stacks` and `dumps` show what a server does now.
"""
