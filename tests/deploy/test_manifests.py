"""The manifests: every pod has time to drain, may do nothing it need not, and is asked for its health as it answers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from agent_service.config.loader import load_settings
from agent_service.config.settings import variables
from tests.deploy.rendered import EVERYTHING, Manifest, container, environment, plain, pod, render, the

# From the end of the grace to the end of the process: calls that are told to end do so, and the store is closed.
CLEANUP_S = 5
SPARE_S = 5

OPTIONS = {
    "defaults": (),
    "everything": EVERYTHING,
    "long drain": ('--set-json=drain={"delay": 12.5, "grace": 3600}',),
    "no drain": ("--set=drain.delay=0,drain.grace=0",),
}

rendered = pytest.mark.needs("helm")


@pytest.fixture(params=["plain", *(pytest.param(name, marks=rendered) for name in OPTIONS)])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return plain() if request.param == "plain" else render(*OPTIONS[request.param])


def seconds_to_spare(manifests: list[Manifest]) -> float:
    """What Kubernetes waits beyond the longest drain before it kills."""
    hook = container(manifests).get("lifecycle", {}).get("preStop", {})
    asleep: float = hook.get("sleep", {}).get("seconds", 0)
    assert bool(hook) == bool(asleep), "how long another hook takes cannot be told"
    given = load_settings(environment(manifests) | {"API_KEY": "k" * 32}, dotenv_path=None)
    drain_s = asleep + given.drain_delay_s + given.drain_grace_s
    return float(pod(manifests)["terminationGracePeriodSeconds"]) - drain_s - CLEANUP_S


def test_kubernetes_waits_for_the_longest_drain_before_it_kills(manifests: list[Manifest]) -> None:
    assert SPARE_S <= seconds_to_spare(manifests) < SPARE_S + 1


def set_variable(name: str, value: str) -> Callable[[list[Manifest]], None]:
    def change(manifests: list[Manifest]) -> None:
        next(one for one in container(manifests)["env"] if one["name"] == name)["value"] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_variable("DRAIN_DELAY", "6"),
        set_variable("DRAIN_GRACE", "21"),
        lambda manifests: pod(manifests).update(terminationGracePeriodSeconds=34),
        lambda manifests: container(manifests).update(lifecycle={"preStop": {"sleep": {"seconds": 1}}}),
    ],
    ids=["delay", "grace", "termination", "preStop"],
)
def test_the_sum_no_longer_holds_when_one_of_its_terms_is_changed(change: Callable[[list[Manifest]], None]) -> None:
    changed = deepcopy(plain())
    change(changed)

    assert seconds_to_spare(changed) < SPARE_S


def test_every_variable_is_a_setting_and_all_of_them_are_valid(manifests: list[Manifest]) -> None:
    given = environment(manifests)
    assert given.keys() - {"PYTHONPATH"} <= variables().keys()  # in EVERYTHING, as an extraEnv

    loaded = load_settings(given | {"API_KEY": "k" * 32}, dotenv_path=None)

    assert (loaded.api_port, loaded.metrics_port) == (9000, 9464)


def test_the_variables_of_services_stay_out_of_a_service_that_has_variables_of_its_own(
    manifests: list[Manifest],
) -> None:
    assert pod(manifests)["enableServiceLinks"] is False


def test_the_pod_may_do_nothing_that_it_need_not(manifests: list[Manifest]) -> None:
    account = the(manifests, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert pod(manifests)["automountServiceAccountToken"] is False
    assert pod(manifests)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_it_writes_to_its_volume_and_to_a_bounded_tmp_alone(manifests: list[Manifest]) -> None:
    volumes = {volume["name"]: volume for volume in pod(manifests)["volumes"]}
    mounts = container(manifests)["volumeMounts"]

    assert {mount["mountPath"] for mount in mounts if not mount.get("readOnly")} == {"/data", "/tmp"}
    assert volumes["tmp"]["emptyDir"]["sizeLimit"]
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "agent-service"
    assert [mount["name"] for mount in mounts if "subPath" in mount] == []  # such a file never changes


def test_probes_ask_for_three_different_things_at_the_port_that_speaks_no_tls(manifests: list[Manifest]) -> None:
    probed = container(manifests)
    asked = {kind: probed[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}

    assert {kind: probe["grpc"]["service"] for kind, probe in asked.items()} == {kind: kind for kind in asked}
    assert {probe["grpc"]["port"] for probe in asked.values()} == {int(environment(manifests)["HEALTH_PORT"])}
    assert all(probe["timeoutSeconds"] > 1 for probe in asked.values())  # a throttled process may take a second
    patience = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in asked.items()}
    assert patience["readiness"] < patience["liveness"] < patience["startup"]


def test_one_pod_at_a_time_writes_to_the_volume(manifests: list[Manifest]) -> None:
    deployment = the(manifests, "Deployment")["spec"]

    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}


def test_both_services_find_the_pod_and_say_that_they_speak_grpc(manifests: list[Manifest]) -> None:
    labels = the(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in container(manifests)["ports"]}
    for service in (the(manifests, "Service"), the(manifests, "Service", "-headless")):
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        protocols = {port["name"]: port["appProtocol"] for port in service["spec"]["ports"]}
        assert protocols["grpc"] == "grpc"
    assert the(manifests, "Service", "-headless")["spec"]["clusterIP"] == "None"


def test_the_network_policy_is_about_this_pod_and_its_ports(manifests: list[Manifest]) -> None:
    policy = the(manifests, "NetworkPolicy")["spec"]
    labels = the(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    allowed = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]

    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert allowed == ["grpc", "metrics"]
    assert all(rule["from"] for rule in policy["ingress"])
    outside = [to["ipBlock"] for rule in policy["egress"] for to in rule.get("to", []) if "ipBlock" in to]
    assert "169.254.0.0/16" in outside[0]["except"]  # where clouds hand out credentials
