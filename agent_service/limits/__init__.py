"""Rate limits: `base` has the port and its rules, `memory` the adapter with the sliding windows of `window`.

`refusal` makes the errors of charges that do not fit; `fair` wraps a limiter with first-come-first-served waiting.
"""
