"""A ModelObserver that writes down what it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent_service.errors import LLMError


@dataclass(slots=True)
class RecordingObserver:
    """`told` is everything in order; `refusal` is what `started` raises. `wrote` is set at the first text."""

    told: list[tuple[object, ...]] = field(default_factory=list)
    refusal: Exception | None = None
    wrote: asyncio.Event = field(default_factory=asyncio.Event)
    trace: str = ""

    async def started(self, model: str, try_number: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.told.append(("started", model, try_number))

    def text(self, text: str) -> None:
        self.told.append(("text", text))
        self.wrote.set()

    def reasoning(self, text: str) -> None:
        self.told.append(("reasoning", text))

    async def failed(self, error: LLMError) -> None:
        self.told.append(("failed", error))

    def traceparent(self) -> str:
        return self.trace

    @property
    def texts(self) -> list[str]:
        return [str(entry[1]) for entry in self.told if entry[0] == "text"]
