"""Whoever fails to authenticate too often is told to wait; whoever has a key passes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from agent_service.client import CallError
from agent_service.server.peer import address
from agent_service.v1 import agent_service_pb2 as pb
from tests.harness import KEY, Parts, Running, started
from tests.service.worlds import stub


async def refused(running: Running, key: str) -> aio.AioRpcError:
    async with stub(running, key) as (methods, metadata):
        with pytest.raises(aio.AioRpcError) as error:
            await methods.ListAgents(pb.ListAgentsRequest(), metadata=metadata)
        return error.value


def details(error: aio.AioRpcError, kind: Any) -> Any:
    (encoded,) = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert isinstance(encoded, bytes)
    (found,) = [detail for detail in Status.FromString(encoded).details if detail.Is(kind.DESCRIPTOR)]
    return kind.FromString(found.value)


async def test_one_too_many_is_told_to_wait_and_exactly_how_long() -> None:
    async with started(Parts(auth_failures_max=3)) as running:
        reasons = [CallError.of(await refused(running, f"wrong{number}")).reason for number in range(3)]
        assert reasons == 3 * ["API_KEY_INVALID"]
        error = await refused(running, "wrong again")
        told = CallError.of(error)
        assert (told.code, told.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED_CALLS")
        assert 3500 < details(error, RetryInfo).retry_delay.seconds <= 3600
        (violation,) = details(error, QuotaFailure).violations
        assert violation.description == "rule auth_failures"
        trailers = dict(error.trailing_metadata() or ())
        assert int(trailers["grpc-retry-pushback-ms"]) > 3_500_000
        last = [line for line in running.log if line["event"] == "rpc"][-1]
        assert (last["code"], last["reason"]) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED_CALLS")


async def test_a_valid_key_of_the_same_address_passes() -> None:
    async with started(Parts(auth_failures_max=1)) as running:
        for _ in range(5):
            await refused(running, "wrong")
        async with stub(running, KEY) as (methods, metadata):
            await methods.ListAgents(pb.ListAgentsRequest(), metadata=metadata)
        assert await running.client.health() == "SERVING"


async def test_64_at_once_get_exactly_as_many_refusals_of_their_key_as_there_may_be() -> None:
    async with started(Parts(auth_failures_max=10)) as running:
        errors = await asyncio.gather(*(refused(running, "wrong") for _ in range(64)))
    assert [CallError.of(error).reason for error in errors].count("API_KEY_INVALID") == 10


async def test_a_key_that_lacks_a_scope_has_authenticated() -> None:
    async with started(Parts(auth_failures_max=1)) as running:
        for _ in range(3):
            with pytest.raises(CallError, match="TASK_NOT_FOUND"):
                await running.client.get_task("nope")


@pytest.mark.parametrize(
    ("peer", "without_port"),
    [
        ("ipv4:127.0.0.1:55918", "ipv4:127.0.0.1"),
        ("ipv6:%5B::1%5D:55918", "ipv6:::/64"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:55918", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:55918", "ipv6:fe80::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:55918", "ipv4:192.0.2.7"),
        ("unix", "unix"),
    ],
)
def test_a_peer_is_known_by_its_address_or_network(peer: str, without_port: str) -> None:
    assert address(peer) == without_port
