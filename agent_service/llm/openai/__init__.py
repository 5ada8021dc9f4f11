"""Adapter for OpenAI's two APIs and the many servers that implement one of them.

`model` sends one request and reads its reply; the modules `chat_*` and `responses_*` know the format of each API.
"""
