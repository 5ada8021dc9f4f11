"""What several modules look at."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.observed import Recorded, record


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One task with two tools and one retry, as telemetry shows it."""
    return asyncio.run(record(tmp_path_factory.mktemp("recorded")))
