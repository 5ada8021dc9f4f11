"""The bodies of replies, as far as both APIs have them in common. No network, no clock.

- `events`: a body cut into server-sent events, or read as one document
- `text_pieces`: text that arrives in pieces
- `finish`: the one table of reasons for the end of a reply
- `in_band`: errors inside a reply that began as a success
- `usage`: tokens used
"""
