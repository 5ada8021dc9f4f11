"""Language models: the port, its adapters and the wrappers of the same port.

`base` has the port, `openai` and `scripted` (with `script`, `scripted_answer`) the adapters. Wrappers: `retry`,
`breaker`, `fallback`; `degraded` rewrites conversations for models with fewer capabilities. `token_counts` estimates
counts, `price` computes costs, and `provider_check` checks the providers periodically.
"""
