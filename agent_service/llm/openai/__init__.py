"""The adapter for OpenAI's two APIs, and for other servers with one of them.

- `model`: sends one request and reads its reply, over either API
- `chat/`, `responses/`: requests and replies of each API; `body/`: code shared by both
- `conversation`: makes a conversation valid for any provider; `strict`: schemas that OpenAI accepts as strict
- `provider_state`: state that a provider expects back with the next request
- `endpoint`: a provider's address and headers; `request_settings`: the settings in every request of a model
- `http_client`: the `openai` package, below its typed layer; `patience`: the timeouts of a reply
- `http1/`: HTTP/1.1 below that package, for direct connections
- `errors`: the one table from a provider's errors to ours
"""
