"""The Helm chart: what is checked in is what it renders, is valid for each Kubernetes, and keeps what docs promise.

Without helm the hash of all that a rendering is made of says whether it is of this chart, and values are held against
their schema by the library that validates JSON everywhere else.
"""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from muse_stream.environment import CONNECTION, PROCESS, REGISTRY, STORE, TRACING
from muse_stream.runtime.supervisor import DRAIN_S
from tests.deploy.test_alerts import ROOT, documented, rules, series

CHART = ROOT / "deploy" / "helm" / "muse-stream"
MANIFESTS = {name: (ROOT / "deploy" / "helm" / "rendered" / f"{name}.yaml") for name in ("default", "full")}
ROLES = ("live", "shadow", "calibrate")


def rendering() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", ROOT / "deploy" / "helm" / "render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def helm() -> str:
    found: str | None = rendering().helm()
    if found is None:
        pytest.skip("there is no helm: `make charts` gets it where Go is")
    return found


def kinds(name: str, kind: str) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all(MANIFESTS[name].read_text(encoding="utf-8"))
    return [one for one in documents if one is not None and one["kind"] == kind]


def test_what_is_checked_in_was_made_of_this_chart_and_found_valid() -> None:
    made_of = (MANIFESTS["full"].parent / "sources.sha256").read_text(encoding="utf-8").strip()
    assert made_of == rendering().digest(), "make charts"


@pytest.mark.parametrize(
    "kubernetes", ["1.30", "1.34", *(pytest.param(one, marks=pytest.mark.slow) for one in ("1.31", "1.32", "1.33"))]
)
def test_what_is_checked_in_is_valid_for_kubernetes(kubernetes: str) -> None:
    """Those between the first and the last were asked when it was rendered, or there would be no hash."""
    for path in MANIFESTS.values():
        assert list(rendering().problems(path.read_text(encoding="utf-8"), kubernetes)) == []


def test_a_field_that_there_is_not_is_found() -> None:
    (one, *_) = kinds("default", "PodDisruptionBudget")
    one["spec"]["maxUnavailible"] = 1
    (said,) = rendering().problems(yaml.safe_dump(one), "1.34")
    assert said.startswith(f"Kubernetes 1.34: PodDisruptionBudget {one['metadata']['name']}: spec: ")


@pytest.mark.parametrize("values", MANIFESTS)
def test_helm_renders_what_is_checked_in(values: str) -> None:
    assert rendering().render(helm(), values) == MANIFESTS[values].read_text(encoding="utf-8"), "make charts"


WRONG: list[tuple[str, Any]] = [
    ("replica", 3),
    ("roles.live.replicas", -1),
    ("roles.calibrate.maxMemory", "1G"),
    ("kafka.bootstrapServers", "kafka"),
    ("drainSeconds", 5),
    ("store", "redis://user:secret@redis:6379"),
    ("tracing.sampleRatio", "2"),
    ("tracing.endpoint", "collector:4318"),
    ("registry.url", "https://user:secret@registry:8081"),
    ("registry.url", "registry:8081"),
    ("registry.password", "secret"),
]


UNKNOWN = {"replica": "", "registry.password": "registry"}
"""Keys that there are not, and where that is said."""


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return the chart's values with one of them changed."""
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    *folders, name = path.split(".")
    inner = values
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return values


def test_the_schema_refuses_values_that_cannot_work_and_no_others() -> None:
    from jsonschema import Draft7Validator  # noqa: PLC0415 - 3 s of CPU, which every process would pay to collect this

    schema = Draft7Validator(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))
    for path, value in WRONG:
        errors = list(schema.iter_errors(with_value(path, value)))
        assert [".".join(map(str, one.path)) for one in errors] == [UNKNOWN.get(path, path)], path
    assert list(schema.iter_errors(with_value("drainSeconds", 20))) == []


@pytest.mark.parametrize(("path", "value"), [*WRONG, ("autoscaling", {"enabled": True, "minReplicas": 9})], ids=str)
def test_helm_refuses_values_that_cannot_work(path: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(with_value(path, value)), encoding="utf-8")
    command = [helm(), "template", str(CHART), "--kube-version", "1.30.0", "--values", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert ("minReplicas is more" if path == "autoscaling" else "values don't meet the spec") in ended.stderr


@pytest.mark.parametrize("values", MANIFESTS)
def test_each_role_is_a_stateful_set_whose_pods_are_what_a_worker_needs(values: str) -> None:
    found = {one["spec"]["template"]["spec"]["containers"][0]["name"]: one for one in kinds(values, "StatefulSet")}
    assert set(found) == set(ROLES)
    for role, one in found.items():
        pod = one["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert container["args"][:3] == ["run", "--role", role]
        assert "--name" not in container["args"], "the pod's host name is stable"
        assert pod["terminationGracePeriodSeconds"] > DRAIN_S
        assert not pod["enableServiceLinks"] and not pod["automountServiceAccountToken"]
        probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
        assert probes == {"startup": "/started", "readiness": "/ready", "liveness": "/live"}
        assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"] and "cpu" not in container["resources"]["limits"]
        assert {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]} == {
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        }


@pytest.mark.parametrize("values", MANIFESTS)
def test_every_variable_is_one_of_ours_and_every_secret_is_a_file(values: str) -> None:
    for one in kinds(values, "StatefulSet"):
        given = {pair["name"]: pair["value"] for pair in one["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert given.keys() <= {*CONNECTION, *STORE, *REGISTRY, *TRACING, *PROCESS, "OTEL_EXPORTER_OTLP_ENDPOINT"}
        assert not {name for name in given if re.search(r"(PASSWORD|SECRET)$", name)}


@pytest.mark.parametrize(("values", "given"), [("default", False), ("full", True)])
def test_every_file_of_a_variable_is_mounted_and_a_registry_is_named_where_it_is_given(
    values: str, given: bool
) -> None:
    for one in kinds(values, "StatefulSet"):
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        secrets = {volume["name"] for volume in pod["volumes"] if "secret" in volume}
        env = {pair["name"]: pair["value"] for pair in container["env"]}
        for name, value in env.items():
            if re.search(r"_(FILE|LOCATION)$", name):
                assert mounts[value.rpartition("/")[0]] in secrets, name
        of_registry = {name for name in env if name.startswith("MUSE_REGISTRY_")}
        wanted = {f"MUSE_REGISTRY_{name}" for name in ("URL", "USERNAME", "PASSWORD_FILE", "SSL_CA_LOCATION")}
        assert of_registry == (wanted if given else set())


def test_every_role_has_a_budget_and_all_pods_a_network_policy() -> None:
    budgets = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for one in kinds("default", "PodDisruptionBudget")
    }
    assert budgets == set(ROLES)
    (policy,) = kinds("full", "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"] for rule in policy["spec"]["egress"]][1] == [
        {"protocol": "TCP", "port": port} for port in (9093, 6380, 8081, 4318)
    ]


def test_pods_are_scaled_by_metrics_that_there_are() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    scaled = kinds("full", "ScaledObject")
    assert len(scaled) == 2
    for one in scaled:
        queries = [trigger["metadata"]["query"] for trigger in one["spec"]["triggers"]]
        assert {name for query in queries for name in series(query)} == {
            "muse:tenant_lag_events:sum",
            "muse:tenant_oldest_unscored_age_seconds:max",
        }
        assert {name for query in queries for name in series(query)} <= recorded | documented()
    sets = {one["metadata"]["name"]: one for one in kinds("full", "StatefulSet")}
    assert [("replicas" in sets[one["spec"]["scaleTargetRef"]["name"]]["spec"]) for one in scaled] == [False, False]


def test_the_rules_of_the_chart_are_those_that_are_tested() -> None:
    (rule,) = kinds("full", "PrometheusRule")
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))
    assert rule["spec"] == alerts
