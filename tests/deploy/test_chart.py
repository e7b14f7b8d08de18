"""The Helm chart: what is checked in is what it renders, and that keeps what docs and pages promise.

That it is valid for each Kubernetes is seen when it is rendered (`make charts`): only then the hash is written.
"""

import importlib.util
import re
import subprocess
from types import ModuleType
from typing import Any

import pytest
import yaml

from muse_stream.environment import CONNECTION, PROCESS, REGISTRY, STORE
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


@pytest.mark.parametrize("values", MANIFESTS)
def test_helm_renders_what_is_checked_in(values: str) -> None:
    assert rendering().render(helm(), values) == MANIFESTS[values].read_text(encoding="utf-8"), "make charts"


@pytest.mark.parametrize(
    "wrong",
    [
        "replica=3",
        "roles.live.replicas=-1",
        "roles.calibrate.maxMemory=1G",
        "kafka.bootstrapServers=kafka",
        "drainSeconds=5",
        "store=redis://user:secret@redis:6379",
        "registry.url=https://user:secret@registry:8081",
        "registry.url=registry:8081",
        "registry.password=secret",
        "autoscaling.enabled=true,autoscaling.minReplicas=9",
    ],
)
def test_helm_refuses_values_that_cannot_work(wrong: str) -> None:
    ended = subprocess.run(
        [helm(), "template", str(CHART), "--set", wrong], capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0


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
        assert given.keys() <= {*CONNECTION, *STORE, *REGISTRY, *PROCESS}
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
        {"protocol": "TCP", "port": port} for port in (9093, 6380, 8081)
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
