"""Chat Completions.

- `request`: a request as its JSON body
- `reply`: from chunks, or one document, to a reply
- `call_pieces`: tool calls that arrive in pieces

`responses/` takes from here how names and texts are bounded.
"""
