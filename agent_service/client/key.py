"""The API key in the metadata of calls."""

from __future__ import annotations

from agent_service.client.errors import CallError

HEADER = "x-api-key"
# White space that files and secret stores leave around a key. Any other invalid character is an error.
WHITESPACE = " \t\r\n\v\f"


def key_metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with this key; () for an empty key.

    Raises:
        CallError: API_KEY_INVALID, the key has a character that no header can carry. With such a key, some calls of
            grpc itself would wait without end.
    """
    key = api_key.strip(WHITESPACE)
    if not all("!" <= character <= "~" for character in key):
        message = "the API key has a character that cannot be sent: keys have visible ASCII characters only"
        raise CallError("UNAUTHENTICATED", message, "API_KEY_INVALID")
    return ((HEADER, key),) if key else ()
