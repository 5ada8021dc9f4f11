"""The syntax of ids."""

from __future__ import annotations

import re

_CHARACTERS = "A-Za-z0-9._:-"

ID_PATTERN = rf"^[{_CHARACTERS}]{{1,128}}$"
ID_OR_EMPTY_PATTERN = rf"^[{_CHARACTERS}]{{0,128}}$"
# Model names of providers contain slashes.
MODEL_PATTERN = r"^[A-Za-z0-9._:/-]{1,128}$"
MODEL_OR_EMPTY_PATTERN = r"^[A-Za-z0-9._:/-]{0,128}$"

_ID = re.compile(ID_PATTERN)


def is_id(text: str) -> bool:
    """Return whether a caller or a file may use the text as an id."""
    return _ID.fullmatch(text) is not None
