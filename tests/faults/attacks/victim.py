"""The server as its attackers see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from tests.server.http2 import Http2, http2, message

SERVICE = "/agent_service.v1.AgentService"
# Linux has all of 127.0.0.0/8; the innocent is 127.0.0.1.
ATTACKER = "127.0.0.2"
AT_ONCE = 20
# Part of whatever is secret or private and is sent. With its space it is no id, which would be logged.
CANARY = "canary 4711"
ATTACK_S = 3.0


@dataclass
class Victim:
    """Where the server is, what the attackers have, and how much of each attack there is to be: 1 is all of it.

    `told` is all that was answered, to be searched for what must not be told.
    """

    target: str
    key: str
    task_id: str
    token: str
    keys: tuple[str, ...] = ()
    part: float = 1.0
    told: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def lasts_s(self) -> float:
        """Seconds of what has no number."""
        return ATTACK_S * self.part

    def times(self, number: int) -> int:
        """So many, of as much of the attack as there is to be."""
        return max(1, round(number * self.part))

    def connection(self, *, window: int = 65_535, source: str = ATTACKER) -> AbstractAsyncContextManager[Http2]:
        """A connection of the attackers' own."""
        return http2(self.target, window=window, source=source)

    async def answers(self, connection: Http2, calls: Iterable[Call]) -> list[Mapping[str, str]]:
        """Make all of the calls, AT_ONCE at a time; their headers and trailers."""
        rest = list(calls)
        answers: list[Mapping[str, str]] = []
        for start in range(0, len(rest), AT_ONCE):
            streams = [call.begin(connection, self.key) for call in rest[start : start + AT_ONCE]]
            answers += [await connection.answer(stream) for stream in streams]
        self.told += answers
        return answers


@dataclass(frozen=True, slots=True)
class Call:
    """A whole call as it goes over the wire: the path, the bytes of the one request, what goes with them."""

    path: str | bytes
    body: bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/grpc"
    # In place of the attackers' own.
    key: str | None = None
    # Whatever a message is.
    is_framed: bool = True

    def begin(self, connection: Http2, key: str) -> int:
        """Send all of it; its stream."""
        key = self.key if self.key is not None else key
        with_key = (("x-api-key", key),) if key else ()
        stream = connection.begin(self.path, *with_key, *self.metadata, content_type=self.content_type)
        connection.send(stream, message(self.body) if self.is_framed else self.body, end=True)
        return stream


def check(answers: Iterable[Mapping[str, str]], *codes: str) -> None:
    """All of them have one of these codes; `none` is that of a call that ended without."""
    others = [answer for answer in answers if answer.get("grpc-status", "none") not in codes]
    assert not others, f"{len(others)} are not {codes}, such as {others[0]}"
