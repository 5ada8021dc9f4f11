"""The dashboard, the alerts and the manual speak of what a server really exports, and of all of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.observed import Recorded
from tests.plugins.toolchain import find

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "agent-service.json"
RULES = ROOT / "deploy" / "prometheus" / "agent-service.rules.yaml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "agent-service.rules.test.yaml"
DOCS = ROOT / "docs"
MANUAL = DOCS / "operations.md"

METRIC = re.compile(r"\b(?:agent_service|grpc_server|process|python)_[a-z_]+\b")
# What Prometheus adds to whatever it scrapes.
OF_THE_TARGET = {"job", "instance"}


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row")


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


EXPRESSIONS = {
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]},
    **{name: rule["expr"] for name, rule in alerts().items()},
}


@pytest.fixture(scope="session")
def exported(recorded: Recorded) -> dict[str, set[str]]:
    """The names of all series of the scrape, with the labels that they have."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(recorded.metrics):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_what_an_expression_names_is_in_a_scrape(where: str, exported: dict[str, set[str]]) -> None:
    expression = EXPRESSIONS[where]
    names = METRIC.findall(re.sub(r'"[^"]*"', '""', expression))
    assert names or expression.startswith(("up{", "absent(up{"))
    assert [name for name in names if name not in exported] == []
    for name, matchers in re.findall(rf"({METRIC.pattern})\{{([^}}]*)\}}", expression):
        labels = set(re.findall(r"([a-z_]+)\s*[=!]~?", matchers))
        assert labels <= exported[name] | OF_THE_TARGET, name
    known = set().union(*(exported[name] for name in names)) | OF_THE_TARGET
    for by in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in by.split(",")} <= known


def test_a_legend_names_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            left = {label.strip() for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in by.split(",")}
            assert wanted <= left | OF_THE_TARGET, panel["title"]


def test_states_and_causes_that_alerts_ask_for_are_those_that_there_are(recorded: Recorded) -> None:
    asked = {
        (label, value)
        for expression in EXPRESSIONS.values()
        for label, value in re.findall(r'(state|cause|outcome|grpc_method)!?="([^"]*)"', expression)
    }
    assert asked == {
        ("state", "FAILED"),
        ("state", "abandoned"),
        ("cause", "LOST"),
        ("cause", "limit"),
        ("outcome", "reply"),
        ("grpc_method", "RunTask"),
    }
    assert 'outcome="reply"' in recorded.metrics
    assert 'cause="LOST"' in recorded.metrics
    assert 'cause="limit",rule="default"' in recorded.metrics
    assert 'state="abandoned"' in recorded.metrics


def test_every_metric_is_in_the_manual_and_no_other(exported: dict[str, set[str]]) -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}
    ours = {name for name in families if name.startswith(("agent_service_", "grpc_server_"))}
    told = set(re.findall(r"^\| `((?:agent_service|grpc_server)_\w+)", MANUAL.read_text(), re.MULTILINE))
    assert told == ours


def test_the_manual_gives_every_metric_its_labels(exported: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| `((?:agent_service|grpc_server)_\w+)(?:\{([^}]*)\})?`", MANUAL.read_text(), re.MULTILINE)
    for name, labels in rows:
        told = {label.strip() for label in labels.split(",") if label}
        have = exported[name if name in exported else f"{name}_count"]
        assert told == have - {"le"}, name


def test_every_alert_is_in_the_manual_and_says_what_has_happened() -> None:
    told = re.findall(r"^### (AgentService\w+)$", MANUAL.read_text(), re.MULTILINE)
    assert told == list(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}", name
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name


def anchors(page: Path) -> set[str]:
    """The places of a page that links can lead to, as GitHub names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_panel_says_what_it_shows_and_leads_to_a_place_in_the_manual() -> None:
    for panel in panels():
        assert panel["description"], panel["title"]
        (link,) = panel["links"]
        page, _, place = link["url"].removeprefix("${manual}/").partition("#")
        assert not place or place in anchors(DOCS / page), link["url"]
    (manual,) = (each for each in json.loads(DASHBOARD.read_text())["templating"]["list"] if each["name"] == "manual")
    assert (manual["query"], manual["type"]) == ("docs", "constant")


def test_every_link_of_the_manual_and_of_the_runbooks_leads_to_a_place_there_is() -> None:
    for page in (MANUAL, DOCS / "runbooks.md"):
        for target, place in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text("utf-8")):
            assert place in anchors(DOCS / target if target else page), f"{page.name}: {target}#{place}"


def test_every_alert_is_seen_to_fire_in_a_test() -> None:
    groups = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    fired = {case["alertname"] for group in groups for case in group["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == set(alerts())


def test_the_dashboard_shows_every_metric(exported: dict[str, set[str]]) -> None:
    shown = set(METRIC.findall(DASHBOARD.read_text()))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported if name.startswith("agent_service_")}
    assert {name for name in families if not any(each.startswith(name) for each in shown)} == set()


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
    promtool = find("promtool")
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", str(RULE_TESTS)]):
        checked = subprocess.run([str(promtool), *arguments], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.needs("promtool")
def test_prometheus_takes_what_is_exported(recorded: Recorded) -> None:
    command = [str(find("promtool")), "check", "metrics"]
    checked = subprocess.run(command, input=recorded.metrics, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
