"""The openai package reading the typed stream of a reply, in process.

python openai_sdk.py BASE_URL
"""

from __future__ import annotations

import sys
from functools import partial

from openai import AsyncOpenAI
from worker import serve

client = AsyncOpenAI(api_key="k", base_url=sys.argv[1], max_retries=0)


async def read(task: str) -> str:
    """Read a whole reply, whose task is "COUNT MICROSECONDS"; what is wrong with it."""
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": task}], stream=True, stream_options={"include_usage": True}
    )
    deltas = 0
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            deltas += 1
    return "" if deltas == int(task.split()[0]) else f"{deltas} deltas for {task!r}"


if __name__ == "__main__":
    serve({task: partial(read, task) for task in ("20 10000", "100 10000")})
