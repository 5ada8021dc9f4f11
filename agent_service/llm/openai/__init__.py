"""OpenAI's two APIs, and the many servers that speak one of them.

- `model`: sends one request and reads its reply, over either API
- `chat/`, `responses/`: the form of requests and replies in each API; `body/`: what both have in common
- `conversation`: a conversation made valid for any provider; `strict`: schemas that OpenAI takes as strict
- `provider_state`: what a provider wants back with the next request
- `endpoint`: where a provider listens, and its headers; `request_settings`: what every request of one model says
- `http_client`: the `openai` package, below its typed layer; `patience`: how long a reply may take
- `errors`: the one table from a provider's errors to ours
"""
