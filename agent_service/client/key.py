"""The API key as calls carry it."""

from __future__ import annotations

from agent_service.client.errors import CallError

HEADER = "x-api-key"
# What files and secret stores leave around a key. Any other character may be part of a mistake, and is refused.
WHITESPACE = " \t\r\n\v\f"


def key_metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with this key; none without one.

    Raises:
        CallError: API_KEY_INVALID, the key has a character that no header can carry. grpc itself would refuse it in
            a way that leaves some calls waiting without end.
    """
    key = api_key.strip(WHITESPACE)
    if not all("!" <= character <= "~" for character in key):
        message = "the API key has a character that cannot be sent: keys have visible ASCII characters only"
        raise CallError("UNAUTHENTICATED", message, "API_KEY_INVALID")
    return ((HEADER, key),) if key else ()
