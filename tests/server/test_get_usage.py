"""What of its usage a caller may ask for, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_service.client import CallError
from agent_service.keys.base import Principal, Scope
from agent_service.service import usage as usage_service
from agent_service.v1 import agent_service_pb2 as pb
from tests import harness
from tests.e2e.tasks.test_usage import double, only_row
from tests.harness import Parts, started


async def test_each_tenant_sees_its_own() -> None:
    async with started() as running:
        for client, runs in ((running.client, 2), (running.other_tenant, 1)):
            for _ in range(runs):
                await client.run("hi")
        assert (await only_row(running.client)).tasks == 2
        assert (await only_row(running.other_tenant)).tasks == 1
        (row,) = await running.client.get_usage(by=["tenant"])
        assert row.tenant == "acme"


@pytest.mark.parametrize("tenant", ["globex", "*"])
async def test_another_tenants_takes_the_scope_admin(tenant: str) -> None:
    async with started() as running:
        with pytest.raises(CallError) as refused:
            await running.client.get_usage(tenant=tenant)
        assert (refused.value.reason, refused.value.metadata["scope"]) == ("SCOPE_MISSING", "admin")


def keys_with(monkeypatch: pytest.MonkeyPatch, scopes: Callable[[frozenset[Scope]], frozenset[Scope]]) -> None:
    """Let the test's keys have other scopes."""
    authenticate = harness.TestKeys.authenticate

    def changed(self: harness.TestKeys, secret: str) -> Principal:
        principal = authenticate(self, secret)
        return replace(principal, scopes=scopes(principal.scopes))

    monkeypatch.setattr(harness.TestKeys, "authenticate", changed)


async def test_a_key_with_the_scope_admin_sees_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    keys_with(monkeypatch, lambda scopes: scopes | {Scope.ADMIN})
    async with started() as running:
        await running.client.run("hi")
        await running.other_tenant.run("hi")

        rows = await running.client.get_usage(tenant="*", by=["tenant"])
        assert [(row.tenant, row.tasks) for row in rows] == [("acme", 1), ("globex", 1)]
        assert [row.tasks for row in await running.client.get_usage(tenant="*")] == [2]
        assert [row.tasks for row in await running.client.get_usage(tenant="globex")] == [1]


async def test_it_takes_the_scope_usage_read(monkeypatch: pytest.MonkeyPatch) -> None:
    keys_with(monkeypatch, lambda scopes: scopes - {Scope.USAGE_READ})
    async with started() as running:
        with pytest.raises(CallError) as refused:
            await running.client.get_usage()
        assert (refused.value.code, refused.value.metadata["scope"]) == ("PERMISSION_DENIED", "usage.read")


async def test_some_of_it_can_be_asked_for_by_agent_model_and_time() -> None:
    async with started() as running:
        await running.client.run("hi")
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        around = {"since": hour - timedelta(hours=1), "until": hour + timedelta(hours=2)}

        async def count(**wanted: Any) -> int:
            return sum(row.tasks for row in await running.client.get_usage(**wanted))

        assert await count(**around) == 1
        assert await count(until=around["since"]) == 0
        assert await count(since=around["until"]) == 0
        assert await count(agent="assistant", model="fake") == 1
        assert await count(agent="nobody") == 0
        assert await count(model="nothing") == 0


async def test_buckets_begin_at_whole_hours_and_days() -> None:
    async with started() as running:
        await running.client.run("hi")

        (hourly,) = await running.client.get_usage(bucket="hour")
        (daily,) = await running.client.get_usage(bucket="day")
        assert hourly.start_time.seconds % 3600 == daily.start_time.seconds % 86_400 == 0
        assert daily.start_time.seconds <= hourly.start_time.seconds
        assert not (await only_row(running.client)).HasField("start_time")


Request = Callable[[pb.GetUsageRequest], object]


def at(seconds: int, nanos: int = 0) -> Request:
    def change(request: pb.GetUsageRequest) -> None:
        request.start_time.seconds, request.start_time.nanos = seconds, nanos
        request.end_time.seconds, request.end_time.nanos = seconds, nanos

    return change


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (at(3601), {"start_time", "end_time"}),
        (at(3600, 1), {"start_time", "end_time"}),
        (lambda request: request.group_by.extend([1, 0, 9]), {"group_by[1]", "group_by[2]"}),
        (lambda request: setattr(request, "bucket", 7), {"bucket"}),
        (lambda request: setattr(request, "agent", "no agent"), {"agent"}),
        (lambda request: setattr(request, "model", "x" * 129), {"model"}),
        (lambda request: setattr(request, "tenant", "x" * 129), {"tenant"}),
    ],
)
async def test_a_broken_bound_names_its_field(change: Request, fields: set[str]) -> None:
    request = pb.GetUsageRequest()
    change(request)
    async with started() as running:
        with pytest.raises(CallError) as refused:
            await running.client._call(running.client._stub.GetUsage, request, 10.0)
        assert refused.value.reason == "FIELD_INVALID"
        assert {field for field, _ in refused.value.violations} == fields


async def test_more_rows_than_one_answer_may_have_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_service, "ROWS_MAX", 1)
    async with started(Parts(tools=[double])) as running:
        await running.client.run("hi")
        assert len(await running.client.get_usage(by=["agent"])) == 1
        await running.client.invoke_tool("double", {"number": 1})

        with pytest.raises(CallError) as refused:
            await running.client.get_usage(by=["agent"])
        ((field, told),) = refused.value.violations
        assert field == "group_by"
        assert "shorter time" in told
        assert len(await running.client.get_usage()) == 1


def test_an_answer_of_the_longest_rows_is_what_clients_take() -> None:
    row = pb.UsageRow(tenant="ü" * 64, agent="a" * 128, model="m" * 128)
    row.start_time.seconds = 2**35
    for field in pb.UsageRow.DESCRIPTOR.fields:
        if field.number >= 5:
            setattr(row, field.name, 2**62)
    answer = pb.GetUsageResponse(rows=[row] * usage_service.ROWS_MAX)
    assert answer.ByteSize() < 3 * 1024 * 1024
