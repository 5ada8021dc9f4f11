"""What the chart makes of values, and the manifests that are kept: as Kubernetes would read them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.plugins.toolchain import find

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "agent-service"
PLAIN = ROOT / "deploy" / "k8s" / "agent-service.yaml"
KUBERNETES = "1.37"

# All that is off by default, switched on.
EVERYTHING = (
    "--set=secret.existing=,secret.values.API_KEY=not-a-real-key",
    "--set=tls.secret=agent-service-tls,tls.verifyClients=true",
    "--set=monitoring.serviceMonitor=true,monitoring.rules=true,monitoring.dashboard=true",
    "--set=monitoring.labels.release=prometheus",
    "--set-string=env.RATE_LIMIT_CALLS=500,extraEnv.PYTHONPATH=/opt/tools",
    "--set=extraEnvFrom[0].secretRef.name=shop-tools",
    "--set=extraVolumes[0].name=tools,extraVolumes[0].configMap.name=shop-tools",
    "--set=extraVolumeMounts[0].name=tools,extraVolumeMounts[0].mountPath=/opt/tools,extraVolumeMounts[0].readOnly=true",
    "--set-file=keys.content=tests/deploy/keys.yaml",
    "--set-file=config=docs/config.example.yaml",
    "--set=podAnnotations.example=yes,podLabels.example=yes,nodeSelector.disk=ssd,priorityClassName=high",
    "--set=tolerations[0].operator=Exists,affinity.nodeAffinity=null,imagePullSecrets[0].name=registry",
    "--set=persistence.storageClass=fast,persistence.accessMode=ReadWriteOncePod,service.type=LoadBalancer",
    "--set=networkPolicy.egress[0].ports[0].port=11434",
)

Manifest = dict[str, Any]


def run(tool: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """A tool that `make tools` brings, run in the checkout."""
    path = find(tool)
    assert path is not None
    return subprocess.run([path, *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)


@cache
def template(*values: str) -> subprocess.CompletedProcess[str]:
    """`helm template` with these options."""
    return run("helm", "template", "agent-service", str(CHART), "--kube-version", KUBERNETES, *values)


def render(*values: str) -> list[Manifest]:
    """What the chart makes of these options."""
    rendered = template(*values)
    assert rendered.returncode == 0, rendered.stderr
    return documents(rendered.stdout)


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


def plain() -> list[Manifest]:
    """The manifests for those who do not use Helm."""
    return documents(PLAIN.read_text("utf-8"))


def the(manifests: Sequence[Manifest], kind: str, suffix: str = "") -> Manifest:
    """The one manifest of that kind whose name ends like that."""
    (found,) = (one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == f"agent-service{suffix}")
    return found


def pod(manifests: Sequence[Manifest]) -> Manifest:
    """The specification of the one pod."""
    specification: Manifest = the(manifests, "Deployment")["spec"]["template"]["spec"]
    return specification


def container(manifests: Sequence[Manifest]) -> Manifest:
    (found,) = pod(manifests)["containers"]
    assert isinstance(found, dict)
    return found


def environment(manifests: Sequence[Manifest]) -> dict[str, str]:
    """The variables that the container is given by name."""
    return {variable["name"]: variable["value"] for variable in container(manifests)["env"]}
