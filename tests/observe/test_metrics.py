"""The metrics as Prometheus reads them."""

from __future__ import annotations

import platform

import pytest
from grpc import aio
from prometheus_client import generate_latest

from agent_service.observe.metrics import RPC_SECONDS, Metrics, split_method
from agent_service.v1 import task_pb2
from tests.harness import Parts, started

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
