"""Custom resources, checked by the definitions that their own projects publish."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.deploy.rendered import Manifest
from tests.plugins.toolchain import find

# Where the sources that `make tools` brings keep them.
DEFINED_IN = {
    "gateway.networking.k8s.io": ("gateway-api", "config/crd/standard/*.yaml"),
    "istio.io": ("istio-api", "kubernetes/customresourcedefinitions.gen.yaml"),
    "monitoring.coreos.com": ("prometheus-operator", "jsonnet/prometheus-operator/*-crd.json"),
}


def problems(manifest: Manifest) -> list[str]:
    """What its definition says against it; nothing that the API server would drop in silence is let pass."""
    group, _, version = manifest["apiVersion"].partition("/")
    schema = _schemas(next(known for known in DEFINED_IN if group.endswith(known)))[manifest["kind"], version]
    errors = jsonschema_rs.validator_for(schema).iter_errors(json.loads(json.dumps(manifest)))  # keys are texts
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in errors]


@cache
def _schemas(group: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The schemas of a group, by kind and version."""
    source, pattern = DEFINED_IN[group]
    root = find(source)
    assert root is not None
    found = {}
    for path in Path(root).glob(pattern):
        for definition in yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader):
            if definition and definition["kind"] == "CustomResourceDefinition":
                for version in definition["spec"]["versions"]:
                    schema = version["schema"]["openAPIV3Schema"]
                    schema.setdefault("properties", {})["metadata"] = {"x-kubernetes-preserve-unknown-fields": True}
                    schema["properties"] |= {"apiVersion": {}, "kind": {}}
                    for part in _parts(schema):
                        _make_strict(part)
                    found[definition["spec"]["names"]["kind"], version["name"]] = schema
    return found


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for key, part in schema.items():
            if key not in ("default", "enum", "example"):
                yield from _parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts(part)


def _make_strict(schema: dict[str, Any]) -> None:
    """What Kubernetes means and JSON Schema has other words for."""
    if not isinstance(schema.get("type"), str):
        return
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "properties" not in schema
    if schema["type"] == "object" and not is_open:
        schema.setdefault("additionalProperties", False)
    if schema.get("nullable"):
        schema["type"] = [schema["type"], "null"]
