"""Language models: the port, the wrappers around every model, and the adapters.

- `base`: the model port: a request, a reply, and the observer of what happens between them
- `retry`, `breaker`, `fallback`: models around a model: tries, circuit breaker, other models
- `degraded`: a conversation for a model that can do less
- `token_counts`, `price`: what a request is estimated to use, and what it costs
- `provider_check`: whether the providers can be used, for readiness
- `scripted`, `script`, `scripted_answer`: the model that answers from a script
- `openai/`: the adapter for OpenAI's two APIs

Adapters ask once. Only `retry` repeats a request.
"""
