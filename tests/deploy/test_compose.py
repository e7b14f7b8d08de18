"""The image and the stack around it: what deploy/Dockerfile and deploy/compose.yaml promise, read and not run."""

import re
from typing import Any

import pytest
import yaml

from muse_stream.environment import CONNECTION, PROCESS, REGISTRY, STORE
from tests.deploy.test_alerts import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "muse-stream"}
WORKERS = {name: one for name, one in OURS.items() if one["command"][0] == "run"}


def test_the_image_is_built_in_stages_from_tags_and_runs_as_nobody_special() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert re.search(r"^ARG PYTHON_IMAGE=[\w./-]+:[\w.-]+$", DOCKERFILE, re.MULTILINE), "a tag, no digest"
    assert not re.search(r"^#\s*syntax", DOCKERFILE, re.MULTILINE)
    assert "<<" not in DOCKERFILE
    assert re.search(r"^USER \d+:\d+$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*healthcheck.py", DOCKERFILE, re.MULTILINE)
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", DOCKERFILE))
    assert {"title", "version", "revision", "licenses"} <= labels


def test_the_stack_has_all_parts() -> None:
    assert {"kafka", "redis", "registry", "prometheus", "grafana", "traffic", "promotion"} <= SERVICES.keys()
    roles = [one["command"][one["command"].index("--role") + 1] for one in WORKERS.values()]
    assert sorted(roles) == ["calibrate", "live", "live", "shadow"]
    names = [one["command"][one["command"].index("--name") + 1] for one in WORKERS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_little(name: str) -> None:
    one = OURS[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["environment"].keys() <= {*CONNECTION, *STORE, *REGISTRY, *PROCESS}
    targets = {str(volume).split(":")[1] for volume in one["volumes"]} | {
        str(mount).split(":")[0] for mount in one["tmpfs"]
    }
    assert {"/cache", "/tmp"} <= targets, "what the program writes to"  # noqa: S108


def test_prometheus_asks_the_runs_and_knows_the_alerts() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    (static,) = job["static_configs"]
    assert sorted(static["targets"]) == sorted(
        f"{name}:{one['environment']['MUSE_METRICS_PORT']}" for name, one in WORKERS.items()
    )
    assert [(DEPLOY / "prometheus" / rules.rsplit("/", 1)[1]).exists() for rules in config["rule_files"]] == [True]


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "muse.yaml").read_text(encoding="utf-8"))["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./grafana"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
