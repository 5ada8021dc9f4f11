"""HTTP/1.1 below the `openai` package, on asyncio's transports: a chunk of a reply costs one callback, and no task.

Import it only where `httpx2` may be imported.

- `pool`: the connections of a client, as a transport of `httpx2`
- `exchange`: one connection: a request, the head of its response (parsed by h11), and its body
- `framing`: where a body ends, and what of its bytes is content
- `dialing`: opens a socket to the first address of a host that answers
"""
