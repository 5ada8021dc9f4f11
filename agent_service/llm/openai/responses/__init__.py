"""The Responses API.

- `request`: a request as its JSON body
- `reply`: from events, or one document, to a reply
- `output_items`: the items of a reply that arrive in pieces
"""
