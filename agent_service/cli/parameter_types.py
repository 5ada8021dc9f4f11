"""Parameter types of the command line: text, and a number of seconds."""

from __future__ import annotations

import math
from typing import Any

import click

# Neither the wire nor a clock can represent more.
SECONDS_MAX = 1e9


class Text(click.types.StringParamType):
    """Text that can be sent and shown. Arguments in another encoding than the system's contain half surrogates."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("is not valid UTF-8", param, ctx)
        return text


class Seconds(click.types.FloatParamType):
    """A number of seconds; rejects `nan`, `inf` and `1e400`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds) or not 0 <= seconds <= SECONDS_MAX:
            self.fail(f"{value!r} is not a number of seconds from 0 to {SECONDS_MAX:g}", param, ctx)
        return seconds


def refuse_other_encodings(command: click.Command) -> click.Command:
    """Set the type of all text options and arguments of the command and its subcommands to `Text`."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = Text()
    for below in getattr(command, "commands", {}).values():
        refuse_other_encodings(below)
    return command
