"""The soak in short; `make soak` is the long form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.soak import METHODS, Soak, soak
from tests.faults.vitals import Vitals

SOAK_S = float(os.environ.get("SOAK_S", "60"))


@pytest.mark.timeout(120 + 2 * SOAK_S)
async def test_a_server_that_is_used_and_left_all_the_time_holds_no_more_and_no_more(tmp_path: Path) -> None:
    found = await soak(tmp_path, SOAK_S)

    assert found.wrong == []
    assert found.grown() == [], "\n".join(map(str, found.looks))
    assert all(found.calls[name] > SOAK_S / 5 for name in METHODS), found.calls
    assert found.calls["left"] > 0.2 * sum(found.calls[name] for name in METHODS)


def test_what_would_grow_is_told() -> None:
    def of(*tasks: int) -> Soak:
        return Soak(looks=[Vitals(100.0, 100.0, count, 28) for count in tasks])

    assert of(30, 40, 10, 10, 10, 10).grown() == []
    assert of(10, 10, 10, 10, 12, 12).grown() == ["asyncio_tasks: 10.0 and then 12.0"]
