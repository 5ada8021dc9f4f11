"""Ids that the service gives."""

from __future__ import annotations

import os
import re
import time

# What a caller may send as an id of anything.
ID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
ID = re.compile(ID_PATTERN)


def new_task_id() -> str:
    """32 hex digits: 48 bits of milliseconds, so that ids sort by age and rows lie together, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
