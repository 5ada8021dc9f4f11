"""OpenAI's two APIs, and the many servers that speak one of them.

`model` sends one request and reads its reply; what the request and the reply look like is a dialect's business.
"""
