"""Each test of the contract runs on each transport."""

from __future__ import annotations

import pytest

from tests.server.transport.serving import TRANSPORTS, Serve, Server


@pytest.fixture(params=TRANSPORTS)
def serve(request: pytest.FixtureRequest) -> Serve:
    return Server(request.param)
