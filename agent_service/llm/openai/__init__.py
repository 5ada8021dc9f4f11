"""Adapter for OpenAI's two APIs and the many servers that implement one of them.

`model` sends one request and reads its reply; `chat` and `responses` know the format of each API, and `body` reads what
both share.
"""
