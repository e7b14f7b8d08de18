"""Lint the chart, render it, validate that for each Kubernetes, and write it: `make charts` has what that needs.

Beside the manifests stands the hash of all that they were made of, so that a test without helm sees when they are old.
What other projects define (KEDA, the Prometheus operator) has no schema in Kubernetes and is not validated here.
"""

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHART = HERE / "muse-stream"
RENDERED = HERE / "rendered"
SOURCES = RENDERED / "sources.sha256"
FULL = HERE / "full-values.yaml"
VALUES: dict[str, tuple[str, ...]] = {"default": (), "full": ("--values", str(FULL))}
OWN = HERE.parents[1] / ".cache" / "charts" / "bin" / "helm"
KUBERNETES = ("1.30", "1.31", "1.32", "1.33", "1.34")
FOREIGN = {"ScaledObject", "PodMonitor", "PrometheusRule"}


def helm() -> str | None:
    """Return the helm to use."""
    return shutil.which("helm") or (str(OWN) if OWN.exists() else None)


def render(tool: str, values: str, kubernetes: str = KUBERNETES[0]) -> str:
    """Return the manifests for one of `VALUES`."""
    options = ["--namespace", "fraud", "--kube-version", f"{kubernetes}.0", *VALUES[values]]
    command = [tool, "template", "muse", str(CHART), *options]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def digest() -> str:
    """Return the hash of everything that manifests are made of, linked files included."""
    found = hashlib.sha256()
    files = [Path(folder) / name for folder, _, names in os.walk(CHART) for name in names]
    for path in sorted([*files, FULL]):
        found.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def problems(manifests: str, kubernetes: str) -> Iterator[str]:
    """Yield what Kubernetes would refuse."""
    yaml: Any = importlib.import_module("yaml")
    validator: Any = importlib.import_module("kubernetes_validate")
    for one in yaml.safe_load_all(manifests):
        if one is not None and one["kind"] not in FOREIGN:
            try:
                validator.validate(one, kubernetes, strict=True)
            except validator.ValidationError as error:
                path = ".".join(map(str, error.path))
                yield f"Kubernetes {kubernetes}: {one['kind']} {one['metadata']['name']}: {path}: {error.message}"


def main() -> int:
    """Write the manifests where nothing is wrong with them."""
    tool = helm()
    if tool is None:
        print("there is no helm: `make charts` gets it where Go is", file=sys.stderr)
        return 1
    for options in VALUES.values():
        subprocess.run([tool, "lint", "--strict", "--quiet", str(CHART), *options], check=True)
    wrong = [
        one for values in VALUES for version in KUBERNETES for one in problems(render(tool, values, version), version)
    ]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    for values in VALUES:
        (RENDERED / f"{values}.yaml").write_text(render(tool, values), encoding="utf-8")
    SOURCES.write_text(digest() + "\n", encoding="utf-8")
    print(f"rendered, and valid for Kubernetes {', '.join(KUBERNETES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
