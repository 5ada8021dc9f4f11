"""What stands in deploy/mesh: valid by the definitions of those who read it, and right about our methods."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_service.v1.agent_service_pb2 import DESCRIPTOR
from tests.deploy.definitions import problems
from tests.deploy.rendered import EVERYTHING, ROOT, Manifest, documents, render

MESH = ROOT / "deploy" / "mesh"
SERVICE = DESCRIPTOR.services_by_name["AgentService"]
METHODS = {f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods} | {"/grpc.health.v1.Health/Watch"}

START_WORK = {f"/{SERVICE.full_name}/{name}" for name in ("RunTask", "StreamTask", "SubmitTask", "ToolInvoke")}
LAST = (START_WORK - {f"/{SERVICE.full_name}/SubmitTask"}) | {f"/{SERVICE.full_name}/WatchTask"}


def read(name: str) -> list[Manifest]:
    return documents((MESH / name).read_text("utf-8"))


@pytest.mark.needs("gateway-api", "istio-api")
@pytest.mark.parametrize("name", ["gateway.yaml", "istio.yaml", "linkerd.yaml"])
def test_they_are_valid_by_their_definitions(name: str) -> None:
    for manifest in read(name):
        assert problems(manifest) == []


@pytest.mark.needs("helm", "prometheus-operator")
def test_what_prometheus_reads_is_valid_by_its_definitions() -> None:
    ours = [manifest for manifest in render(*EVERYTHING) if manifest["apiVersion"].startswith("monitoring.coreos.com")]

    assert {manifest["kind"] for manifest in ours} == {"ServiceMonitor", "PrometheusRule"}
    for manifest in ours:
        assert problems(manifest) == []


@pytest.mark.needs("gateway-api")
def test_a_misspelt_field_or_a_wrong_type_is_found() -> None:
    (route, *_) = read("linkerd.yaml")
    misspelt, wrong = copy.deepcopy(route), copy.deepcopy(route)
    misspelt["spec"]["rulez"] = []
    wrong["spec"]["rules"][0]["backendRefs"][0]["port"] = "9000"

    assert "rulez" in problems(misspelt)[0]
    assert "integer" in problems(wrong)[0]


def istio() -> dict[str, Manifest]:
    """The rule for each path."""
    virtual = next(manifest for manifest in read("istio.yaml") if manifest["kind"] == "VirtualService")
    return {match["uri"]["exact"]: rule for rule in virtual["spec"]["http"] for match in rule.get("match", [])}


def test_istio_repeats_no_call_that_starts_work_and_cuts_none_that_lasts() -> None:
    rules = istio()

    assert rules.keys() <= METHODS
    assert {path: rules[path]["retries"]["attempts"] for path in START_WORK} == dict.fromkeys(START_WORK, 0)
    assert {path: rules[path]["timeout"] for path in LAST} == dict.fromkeys(LAST, "0s")


def test_linkerd_repeats_no_call_that_starts_work_and_cuts_none_that_lasts() -> None:
    described = {}
    for route in read("linkerd.yaml"):
        for rule in route["spec"]["rules"]:
            for match in rule.get("matches", []):
                method = match["method"]
                described[f"/{method['service']}/{method['method']}"] = route["metadata"].get("annotations", {})

    assert described.keys() <= METHODS
    assert {path: described[path] for path in START_WORK | LAST} == {path: {} for path in START_WORK | LAST}


def envoy() -> dict[str, dict[str, Any]]:
    config = yaml.safe_load((MESH / "envoy.yaml").read_text("utf-8"))
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    return {route["match"].get("path", ""): route["route"] for route in routes}


def test_envoy_repeats_no_call_that_starts_work_and_cuts_none_that_lasts() -> None:
    routes = envoy()

    assert routes.keys() - {""} <= METHODS
    assert [path for path in START_WORK if "retry_policy" in routes[path]] == []
    assert {path: routes[path]["timeout"] for path in LAST} == dict.fromkeys(LAST, "0s")


@pytest.mark.parametrize("path", sorted(MESH.glob("*.yaml")), ids=lambda path: Path(path).name)
def test_each_says_what_a_service_behind_it_must_be_told(path: Path) -> None:
    text = path.read_text("utf-8")

    assert all(name in text for name in ("CALLS_PER_PEER_MAX", "OPEN_CALLS_PER_PEER_MAX", "PUBLIC_CALLS_PER_PEER_MAX"))
