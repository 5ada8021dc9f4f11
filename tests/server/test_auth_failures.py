"""Callers without a valid key are told to slow down; those with one never notice."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from agent_service.client import CallError
from agent_service.server.interceptors.auth_failures import host_of
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.harness import KEY, Parts, started

GOOD, BAD = (("x-api-key", KEY),), (("x-api-key", "wrong"),)


async def failed(call: Any) -> CallError:
    with pytest.raises(grpc.RpcError) as refused:
        await call
    return CallError.of(refused.value)


async def failures(stub: Any, count: int) -> list[CallError]:
    return [await failed(stub.RunTask(pb.RunTaskRequest(task="hi"), metadata=BAD)) for _ in range(count)]


async def test_too_many_failures_of_one_address_are_answered_as_rate_limited_with_the_time_to_wait() -> None:
    async with started(Parts(auth_failures_max=3)) as running, running.channel() as channel:
        stub = AgentServiceStub(channel)
        errors = await failures(stub, 5)
        told = [(error.code, error.reason) for error in errors]
        assert told[:3] == [("UNAUTHENTICATED", "API_KEY_INVALID")] * 3
        assert told[3:] == [("RESOURCE_EXHAUSTED", "RATE_LIMITED_CALLS")] * 2
        assert errors[3].metadata["rule"] == "auth_failures"
        assert 50 < (errors[3].retry_after_s or 0) <= 60
        logged = [line for line in running.log if line["event"] == "rpc"]
        assert [line["reason"] for line in logged[-2:]] == ["RATE_LIMITED_CALLS"] * 2


async def test_a_valid_key_of_the_same_address_passes_whatever_others_did_there() -> None:
    async with started(Parts(auth_failures_max=2)) as running, running.channel() as channel:
        stub = AgentServiceStub(channel)
        await failures(stub, 10)
        for _ in range(3):
            await stub.RunTask(pb.RunTaskRequest(task="hi"), metadata=GOOD)
        assert (await failures(stub, 1))[0].code == "RESOURCE_EXHAUSTED"


async def test_another_connection_of_the_address_has_no_counter_of_its_own() -> None:
    async with started(Parts(auth_failures_max=2)) as running:
        told = []
        for _ in range(4):
            async with running.channel() as channel:
                told += [error.code for error in await failures(AgentServiceStub(channel), 1)]
        assert told == ["UNAUTHENTICATED"] * 2 + ["RESOURCE_EXHAUSTED"] * 2


async def test_what_else_goes_wrong_is_not_counted() -> None:
    async with started(Parts(auth_failures_max=1)) as running, running.channel() as channel:
        stub = AgentServiceStub(channel)
        for _ in range(5):
            assert (await failed(stub.RunTask(pb.RunTaskRequest(), metadata=GOOD))).code == "INVALID_ARGUMENT"
        assert (await failures(stub, 1))[0].code == "UNAUTHENTICATED"


async def test_without_a_maximum_every_failure_is_answered_as_such() -> None:
    async with started(Parts(auth_failures_max=0)) as running, running.channel() as channel:
        assert {error.code for error in await failures(AgentServiceStub(channel), 100)} == {"UNAUTHENTICATED"}


async def test_of_64_that_fail_at_once_exactly_as_many_as_may_are_told_so() -> None:
    async with started(Parts(auth_failures_max=17)) as running, running.channel() as channel:
        stub = AgentServiceStub(channel)
        told = await asyncio.gather(*(failures(stub, 1) for _ in range(64)))
        assert sum(errors[0].code == "UNAUTHENTICATED" for errors in told) == 17


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50412", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:50412", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:50412", "2001:db8::1"),
        ("unix:/run/agent.sock", "unix:/run/agent.sock"),
        ("", ""),
    ],
)
def test_the_host_of_a_peer_is_its_address_without_the_port(peer: str, host: str) -> None:
    assert host_of(peer) == host
