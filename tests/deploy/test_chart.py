"""The Helm chart: what it makes, what it refuses, and what validators say of it."""

from __future__ import annotations

import json
import re
from hashlib import sha256

import pytest
import yaml

from agent_service.config.schema import File
from agent_service.config.settings import Settings, variables
from tests.deploy.rendered import (
    CHART,
    EVERYTHING,
    KUBERNETES,
    PLAIN,
    ROOT,
    container,
    environment,
    pod,
    render,
    run,
    template,
    the,
)

pytestmark = pytest.mark.needs("helm")

# Of kube-score: what is as it is on purpose.
IGNORED = (
    "deployment-replicas",  # one writer to one file
    "deployment-strategy",
    "container-image-pull-policy",  # a version's image does not change
)


def test_helm_finds_nothing_to_say() -> None:
    for values in ((), EVERYTHING):
        linted = run("helm", "lint", "--strict", "--quiet", "--kube-version", KUBERNETES, str(CHART), *values)
        assert linted.returncode == 0, linted.stdout


def test_the_manifests_for_those_without_helm_are_what_the_chart_makes() -> None:
    checked = run("sh", "scripts/manifests", "--check")
    assert checked.returncode == 0, checked.stderr


def test_the_chart_is_of_the_version_that_the_image_is_of() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), flags=re.MULTILINE)

    assert version is not None
    assert chart["appVersion"] == version[1]
    assert container(render())["image"] == f"agent-service:{version[1]}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("--set=replicas=2",), "replicas is 2, but only 1 is possible: tasks are kept in a SQLite file"),
        (("--set=replica=1",), "additional properties 'replica' not allowed"),
        (("--set=drain.grace=-1",), "/drain/grace"),
        (("--set-string=env.DRAIN_GRACE=60",), "env.DRAIN_GRACE is set by the chart itself"),
        (("--set-string=extraEnv.API_PORT=1",), "extraEnv.API_PORT is set by the chart itself"),
        (("--set=env.RATE_LIMIT_CALLS=1000000",), "env.RATE_LIMIT_CALLS must be text: use --set-string, or quotation"),
        (("--set=extraEnv.VERBOSE=true",), "extraEnv.VERBOSE must be text: use --set-string"),
        (("--set=env.LLM_MODLE=x",), "env.LLM_MODLE is not a setting of the service: there are LLM_API, LLM_BASE_URL,"),
        (("--set=env.HTTPS_PROXY=x",), "variables of libraries and of your own tools go into extraEnv"),
        (("--set=env.API_KEY=abc",), "env.API_KEY is a secret"),
        (("--set=env.OTEL_EXPORTER_OTLP_HEADERS=a",), "put it into the Secret that secret.existing names"),
        (("--set=extraEnv.PRICES_TOKEN=abc",), "extraEnv.PRICES_TOKEN is a secret"),
        (("--set=config=models: [",), "config is not the text of a config.yaml (--set-file config=config.yaml)"),
        (("--set=config=config.yaml",), "config is not the text of a config.yaml"),
        (("--set=config=agnets: {}",), "config has the section agnets, which there is not; there are models, agents,"),
        (("--set=persistence.size=abc",), "/persistence/size"),
        (("--set=extraVolumes[0].configMap.name=x",), "/extraVolumes/0"),
        (("--set=secret.values.API_KEY=x",), "secret.values would be ignored"),
        (("--set=keys.existing=x,keys.content=y",), "keys.content would be ignored"),
        (("--set=tls.verifyClients=true",), "tls.verifyClients needs tls.secret"),
        (("--set=persistence.accessMode=ReadWriteMany",), "/persistence/accessMode"),
        (("--kube-version=1.26",), "chart requires kubeVersion"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_it_refuses_what_cannot_work_and_says_why(values: tuple[str, ...], said: str) -> None:
    refused = template(*values)

    assert refused.returncode != 0
    assert said in refused.stderr


def test_every_value_is_in_the_schema_and_nothing_else() -> None:
    def keys(schema: dict[str, object]) -> object:
        properties = schema.get("properties")
        return {key: keys(value) for key, value in properties.items()} if isinstance(properties, dict) else None

    def shape(schema: object, values: object) -> None:
        if isinstance(schema, dict):
            assert isinstance(values, dict)
            assert values.keys() == schema.keys()
            for key, inner in schema.items():
                shape(inner, values[key])

    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    del schema["properties"]["global"]  # Helm's own
    del schema["properties"]["resources"]["properties"]["claims"]
    shape(keys(schema), yaml.safe_load((CHART / "values.yaml").read_text("utf-8")))


def test_the_chart_knows_the_settings_and_sections_that_the_service_knows() -> None:
    secret = {name for name, field in variables().items() if "Secret" in str(Settings.model_fields[field].annotation)}
    lines = [f"{name}*" if name in secret else name for name in sorted(variables())]
    assert (CHART / "files" / "settings.txt").read_text("utf-8").splitlines() == lines, "run make manifests"
    assert [name for name in variables() if re.search("(^|_)(API_KEY|TOKEN|SECRET|PASSWORD)$", name)] == [
        "API_KEY",
        "OPENAI_API_KEY",
    ]
    for section in File.model_fields:
        assert f'"{section}"' in (CHART / "templates" / "_helpers.tpl").read_text("utf-8")


def test_own_tools_reach_the_container_with_their_variables() -> None:
    manifests = render(*EVERYTHING)

    assert {"name": "tools", "configMap": {"name": "shop-tools"}} in pod(manifests)["volumes"]
    assert {"name": "tools", "mountPath": "/opt/tools", "readOnly": True} in container(manifests)["volumeMounts"]
    assert {"secretRef": {"name": "shop-tools"}} in container(manifests)["envFrom"]
    assert environment(manifests)["PYTHONPATH"] == "/opt/tools"
    first = {"name": "fetch", "image": "registry.example/fetch:1"}
    values = ("--set=initContainers[0].name=fetch,initContainers[0].image=registry.example/fetch:1",)
    assert pod(render(*values))["initContainers"] == [first]


def test_the_manual_shows_values_that_the_chart_takes() -> None:
    manual = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    for values in re.findall(r"--values - <<'EOF'\n(.*?)^EOF$", manual, flags=re.DOTALL | re.MULTILINE):
        rendered = run(
            "helm", "template", "agent-service", str(CHART), "--kube-version", KUBERNETES, "--values", "-", stdin=values
        )
        assert rendered.returncode == 0, rendered.stderr
        assert "/opt/tools" in rendered.stdout


def test_a_changed_variable_restarts_and_a_changed_file_does_not() -> None:
    def restarted_by(*values: str) -> str:
        deployment = the(
            render("--set=secret.existing=", "--set=config=agents: a", "--set=keys.content=a", *values), "Deployment"
        )
        return sha256(json.dumps(deployment["spec"]["template"]).encode()).hexdigest()

    before = restarted_by()

    assert restarted_by("--set=config=agents: b") == before
    assert restarted_by("--set=keys.content=b") == before
    assert restarted_by("--set=secret.values.API_KEY=b") != before
    assert restarted_by("--set=env.LLM_MODEL=b") != before


def test_the_configuration_arrives_as_it_was_written() -> None:
    written = (ROOT / "docs" / "config.example.yaml").read_text("utf-8")

    assert the(render(*EVERYTHING), "ConfigMap")["data"]["config.yaml"].strip() == written.strip()


def test_a_platform_may_choose_the_user() -> None:
    assert pod(render("--set=user=null"))["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod(render("--set=user=1000650000"))["securityContext"]["runAsUser"] == 1000650000


@pytest.mark.needs("kubernetes-validate")
@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_knows_every_field(version: str) -> None:
    known = template(*EVERYTHING, "--set=monitoring.serviceMonitor=false,monitoring.rules=false").stdout

    for text in (PLAIN.read_text("utf-8"), known):
        validated = run("kubernetes-validate", "--strict", "-k", version, "-", stdin=text)
        assert validated.returncode == 0, validated.stdout


@pytest.mark.needs("kube-score")
def test_kube_score_has_no_advice_left() -> None:
    for text in (PLAIN.read_text("utf-8"), template(*EVERYTHING).stdout):
        ignored = [f"--ignore-test={name}" for name in IGNORED]
        scored = run(
            "kube-score", "score", "-", "--ignore-container-cpu-limit", "--exit-one-on-warning", *ignored, stdin=text
        )
        assert scored.returncode == 0, scored.stdout


def test_alerts_and_panels_lead_to_where_the_manual_is_published() -> None:
    manual = "https://example.com/agent-service/docs"
    on = ("--set=monitoring.rules=true,monitoring.dashboard=true",)
    for values, begins in ((on, "docs"), ((*on, f"--set=monitoring.manualUrl={manual}/"), manual)):
        manifests = render(*values)
        rules = [rule for group in the(manifests, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
        assert {rule["annotations"]["runbook_url"].partition("/operations.md#")[0] for rule in rules} == {begins}
        dashboard = json.loads(the(manifests, "ConfigMap", "-dashboard")["data"]["agent-service.json"])
        (variable,) = (each for each in dashboard["templating"]["list"] if each["name"] == "manual")
        assert variable["query"] == begins
