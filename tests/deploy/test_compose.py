"""compose.yaml, as the library that Docker Compose itself reads it with understands it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_service.config.loader import load_settings
from tests.deploy.rendered import ROOT
from tests.plugins.toolchain import find

KEY = "k" * 32
CLEANUP_S = 5

pytestmark = pytest.mark.needs("compose-spec")


def compose(**environment: str) -> subprocess.CompletedProcess[str]:
    tool = find("compose-spec")
    assert tool is not None
    return subprocess.run(
        [tool, "-format", "json", "compose.yaml"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def services() -> dict[str, Any]:
    read = compose(API_KEY=KEY)
    assert read.returncode == 0, read.stderr
    found: dict[str, Any] = json.loads(read.stdout)["services"]
    return found


def test_it_does_not_start_without_a_key_and_says_so() -> None:
    refused = compose()

    assert refused.returncode != 0
    assert "it needs a key of 32 characters or more" in refused.stdout + refused.stderr


def test_the_service_starts_on_what_it_is_given() -> None:
    given = {name: value for name, value in services()["agents"]["environment"].items() if value is not None}
    loaded = load_settings(given | {"AGENT_SERVICE_ENV": "production"}, dotenv_path=None)

    assert loaded.llm_provider == "scripted"


def test_the_service_may_do_no_more_than_in_kubernetes() -> None:
    service = services()["agents"]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_it_is_not_killed_before_it_has_drained() -> None:
    loaded = load_settings({}, dotenv_path=None)
    (seconds,) = re.findall(r"^(\d+)s$", services()["agents"]["stop_grace_period"])

    assert int(seconds) >= loaded.drain_delay_s + loaded.drain_grace_s + CLEANUP_S


def test_nothing_is_reachable_from_other_machines() -> None:
    ports = [port for service in services().values() for port in service["ports"]]

    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_file_that_is_mounted_is_there_and_read_only() -> None:
    mounts = [mount for service in services().values() for mount in service["volumes"] if mount["type"] == "bind"]

    assert [mount["source"] for mount in mounts if not Path(mount["source"]).is_file()] == []
    assert [mount["source"] for mount in mounts if not mount.get("read_only")] == []


def test_images_are_of_a_named_version() -> None:
    tags = {name: service["image"].rpartition(":")[2] for name, service in services().items()}

    assert [name for name, tag in tags.items() if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag)] == []


def test_prometheus_scrapes_the_service_and_grafana_asks_prometheus() -> None:
    def configuration(service: str, target: str) -> dict[str, Any]:
        (source,) = (mount["source"] for mount in services()[service]["volumes"] if mount["target"] == target)
        read: dict[str, Any] = yaml.safe_load(Path(source).read_text("utf-8"))
        return read

    prometheus = configuration("prometheus", "/etc/prometheus/prometheus.yaml")
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"agents:{load_settings({}, dotenv_path=None).metrics_port}"]}]
    assert set(prometheus["rule_files"]) <= {mount["target"] for mount in services()["prometheus"]["volumes"]}

    (source,) = configuration("grafana", "/etc/grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = configuration("grafana", "/etc/grafana/provisioning/dashboards/files.yaml")["providers"]
    assert any(mount["target"].startswith(provider["options"]["path"]) for mount in services()["grafana"]["volumes"])
