"""The metrics as Prometheus reads them."""

from __future__ import annotations

import platform
from contextlib import aclosing

import pytest
from grpc import aio
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from agent_service.client import CallError
from agent_service.limits.base import Rule
from agent_service.observe.metrics import RPC_SECONDS, Metrics, split_method
from agent_service.tools.builtin.echo import echo
from agent_service.v1 import task_pb2
from tests.harness import FakeModel, Parts, calls, says, started

RUN_TASK = "/agent_service.v1.AgentService/RunTask"


def exposed(metrics: Metrics) -> list[str]:
    """The samples, one a line."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "_created" not in line]


def test_every_metric_is_named_with_its_labels_as_dashboards_know_it() -> None:
    metrics = Metrics("1.2.3")
    metrics.rpc_started(RUN_TASK).inc()
    metrics.rpc_handled(RUN_TASK, "OK").inc()
    metrics.rpc_seconds(RUN_TASK).observe(0.02)
    metrics.tasks_ended("AGENT", "FAILED", "LLM_TIMEOUT").inc()
    metrics.tasks_running.set(3)
    metrics.tokens("smart", "input").inc(12)
    metrics.ready("store").set(1)

    method = 'grpc_method="RunTask",grpc_service="agent_service.v1.AgentService"'
    samples = exposed(metrics)
    for sample in (
        f'agent_service_build_info{{python="{platform.python_version()}",version="1.2.3"}} 1.0',
        f"grpc_server_started_total{{{method}}} 1.0",
        f'grpc_server_handled_total{{grpc_code="OK",{method}}} 1.0',
        f"grpc_server_handling_seconds_count{{{method}}} 1.0",
        'agent_service_tasks_total{kind="AGENT",reason="LLM_TIMEOUT",state="FAILED"} 1.0',
        "agent_service_tasks_running 3.0",
        'agent_service_tokens_total{direction="input",model="smart"} 12.0',
        'agent_service_ready{check="store"} 1.0',
    ):
        assert sample in samples


def test_the_buckets_reach_from_a_quick_call_to_a_long_task() -> None:
    assert list(RPC_SECONDS) == sorted(RPC_SECONDS)
    assert RPC_SECONDS[0] <= 0.005
    assert RPC_SECONDS[-1] >= 300


def test_a_child_is_made_once_and_kept() -> None:
    metrics = Metrics("1")
    assert metrics.rpc_handled(RUN_TASK, "OK") is metrics.rpc_handled(RUN_TASK, "OK")
    assert metrics.rpc_handled(RUN_TASK, "OK") is not metrics.rpc_handled(RUN_TASK, "INTERNAL")
    assert metrics.tokens("smart", "input") is metrics.tokens("smart", "input")


def test_two_services_in_one_process_count_for_themselves() -> None:
    one, other = Metrics("1"), Metrics("1")
    one.tasks_running.set(5)
    assert "agent_service_tasks_running 0.0" in exposed(other)


@pytest.mark.parametrize(
    ("method", "service", "name"),
    [
        (RUN_TASK, "agent_service.v1.AgentService", "RunTask"),
        ("unknown/unknown", "unknown", "unknown"),
        ("nothing", "", "nothing"),
        ("", "", ""),
    ],
)
def test_a_method_is_told_as_service_and_name(method: str, service: str, name: str) -> None:
    assert split_method(method) == (service, name)


async def test_a_task_is_counted_when_it_has_ended_with_its_tokens_and_its_call() -> None:
    async with started(Parts()) as running:
        task = await running.client.run("hi")
        samples = exposed(running.metrics)

    assert task.state == task_pb2.TASK_STATE_COMPLETED
    method = 'grpc_method="RunTask",grpc_service="agent_service.v1.AgentService"'
    assert 'agent_service_tasks_total{kind="AGENT",reason="",state="COMPLETED"} 1.0' in samples
    assert 'agent_service_tokens_total{direction="input",model="fake"} 10.0' in samples
    assert 'agent_service_tokens_total{direction="output",model="fake"} 5.0' in samples
    assert f'grpc_server_handled_total{{grpc_code="OK",{method}}} 1.0' in samples
    assert f"grpc_server_handling_seconds_count{{{method}}} 1.0" in samples


async def test_what_callers_make_up_makes_no_new_series() -> None:
    sizes = []
    async with started(Parts()) as running, running.channel() as channel:
        for name in ("First", "Second", "Third"):
            with pytest.raises(aio.AioRpcError):
                await channel.unary_unary(f"/made.up.{name}/{name}")(b"")
            samples = exposed(running.metrics)
            sizes.append(len(samples))

    assert len(set(sizes)) == 1
    assert not [sample for sample in samples if "made.up" in sample]
    assert 'grpc_server_started_total{grpc_method="unknown",grpc_service="unknown"} 3.0' in samples


def test_breakers_are_read_when_the_metrics_are_and_those_that_are_gone_are_not_shown() -> None:
    metrics = Metrics("test")
    state = 0.0
    metrics.watch_breakers({("a", "openai"): lambda: state, ("b", "azure"): lambda: 2.0})
    state = 1.0
    name = "agent_service_model_breaker"
    assert metrics.registry.get_sample_value(name, {"model": "a", "provider": "openai"}) == 1.0
    metrics.watch_breakers({("b", "azure"): lambda: 2.0})
    assert metrics.registry.get_sample_value(name, {"model": "a", "provider": "openai"}) is None
    assert metrics.registry.get_sample_value(name, {"model": "b", "provider": "azure"}) == 2.0


async def test_a_failed_call_is_counted_by_its_reason_and_a_full_limit_by_its_rule() -> None:
    rule = Rule("few", calls_max=1, window_s=60.0)
    async with started(Parts(rules=[rule])) as running:
        await running.client.run("hi")
        with pytest.raises(CallError):
            await running.client.run("hi")
        samples = exposed(running.metrics)

    assert 'agent_service_limit_denials_total{rule="few"} 1.0' in samples
    assert 'agent_service_rpc_errors_total{reason="RATE_LIMITED_CALLS"} 1.0' in samples


async def test_a_tool_is_counted_by_what_came_of_it_and_one_that_the_model_made_up_has_no_name() -> None:
    model = FakeModel(calls(("echo", {"text": "a"}), ("m4de_up", {}), ("echo", {"wrong": 1})), says("done"))
    async with started(Parts(model=model, tools=[echo])) as running:
        await running.client.run("go")
        samples = exposed(running.metrics)

    assert 'agent_service_tool_calls_total{outcome="result",tool="echo"} 1.0' in samples
    assert 'agent_service_tool_calls_total{outcome="TOOL_FAILED",tool="echo"} 1.0' in samples
    assert 'agent_service_tool_calls_total{outcome="TOOL_FAILED",tool="unknown"} 1.0' in samples
    assert 'agent_service_tool_seconds_count{tool="echo"} 1.0' in samples
    assert not [sample for sample in samples if "m4de_up" in sample]


async def test_a_task_that_waits_for_its_turn_is_timed() -> None:
    async with started(Parts()) as running:
        await running.client.run("hi", session_id="s1")
        samples = exposed(running.metrics)

    assert "agent_service_task_queue_seconds_count 1.0" in samples


async def test_calls_that_are_open_are_told_until_they_end() -> None:
    open_now = 'agent_service_rpcs_open{grpc_method="StreamTask",grpc_service="agent_service.v1.AgentService"} 1.0'
    async with started(Parts()) as running:
        async with aclosing(running.client.stream("hi")) as events:
            await anext(events)
            assert open_now in exposed(running.metrics)
            async for _ in events:
                """To its end."""
        await running.is_quiet()
        assert open_now not in exposed(running.metrics)


def test_the_first_tenants_are_named_and_the_rest_share_a_name() -> None:
    metrics = Metrics("1", tenants_max=2)
    for tenant in ("a", "b", "c", "d", "a"):
        metrics.tenant_used(tenant, 10, 0.5)

    samples = exposed(metrics)
    assert [sample for sample in samples if "tenant_tokens" in sample] == [
        'agent_service_tenant_tokens_total{tenant="a"} 20.0',
        'agent_service_tenant_tokens_total{tenant="b"} 10.0',
        'agent_service_tenant_tokens_total{tenant="other"} 20.0',
    ]


def test_without_named_tenants_there_is_one_series() -> None:
    metrics = Metrics("1", tenants_max=0)
    metrics.tenant_task_ended("acme", "COMPLETED")
    assert 'agent_service_tenant_tasks_total{state="COMPLETED",tenant="other"} 1.0' in exposed(metrics)


def test_a_histogram_counts_what_is_at_most_as_large_as_each_bound() -> None:
    metrics = Metrics("1")
    for seconds in (0.0, 0.001, 0.0011, 7.0):
        metrics.loop_lag.observe(seconds)

    samples = exposed(metrics)
    assert 'agent_service_loop_lag_seconds_bucket{le="0.001"} 2.0' in samples
    assert 'agent_service_loop_lag_seconds_bucket{le="0.0025"} 3.0' in samples
    assert 'agent_service_loop_lag_seconds_bucket{le="5.0"} 3.0' in samples
    assert 'agent_service_loop_lag_seconds_bucket{le="+Inf"} 4.0' in samples
    assert "agent_service_loop_lag_seconds_count 4.0" in samples
    assert metrics.registry.get_sample_value("agent_service_loop_lag_seconds_sum") == pytest.approx(7.0021)


def test_a_bucket_shows_the_trace_of_the_last_value_in_it_to_those_who_read_openmetrics() -> None:
    metrics = Metrics("1")
    metrics.rpc_seconds(RUN_TASK).observe(0.02, {"trace_id": "a" * 32, "span_id": "b" * 16})

    text = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    (line,) = [line for line in text.splitlines() if "# {" in line]
    assert f'trace_id="{"a" * 32}"' in line
    assert line.endswith(" 0.02")


def test_a_child_with_other_labels_than_its_metric_has_is_a_fault() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Metrics("1").tokens("smart")
