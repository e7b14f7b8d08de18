"""The generations of a guided run, each a small change of the one before.

A base document (plain data) and fitted maps become YAML files that `muse-stream check` accepts.

    1 serve      OLD answers, on maps fitted to events of the past
    2 shadow     NEW scores the same events; only the audit topics know
    3 calibrate  maps of both, fitted to the same audit records; still OLD answers

The fourth is made by `promote`, as for any operator: NEW answers and OLD shadows it. It changes `routes` and nothing
else, so whatever happens to alert rates there is the promotion's doing.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from muse_stream.calibration import FittedMap, Reference
from muse_stream.commands.fit import Fitting, fit_maps
from muse_stream.commands.fit_samples import FileColumns
from muse_stream.demo.scenario import BARE_NEW, BARE_OLD, NEW, OLD

Tree = dict[str, Any]
Maps = Mapping[str, FittedMap]
"""Tenant -> its map."""
Samples = Mapping[str, NDArray[np.float64]]
"""Tenant -> a predictor's values before its map."""


def with_bare(base: Mapping[str, Any]) -> Tree:
    """Add the two predictors without MUSE: the experts of OLD and NEW, uncorrected and unmapped."""
    tree = deepcopy(dict(base))
    for name, bare in ((OLD, BARE_OLD), (NEW, BARE_NEW)):
        experts = [{**expert, "beta": 1.0} for expert in tree["predictors"][name]["experts"]]
        tree["predictors"][bare] = {**tree["predictors"][name], "experts": experts}
    return tree


def served(base: Mapping[str, Any], folder: Path, old: Maps) -> Tree:
    """Generation 1: OLD, mapped; what its tenants would see without MUSE is written to the audit topics."""
    tree = _mapped(with_bare(base), folder, OLD, old, "g1-first")
    return {**tree, "routes": [{"live": OLD, "shadow": [BARE_OLD]}]}


def shadowed(generation: Tree) -> Tree:
    """Generation 2: NEW, which has no maps yet, shadows too."""
    return {**generation, "routes": [{"live": OLD, "shadow": [NEW, BARE_OLD]}]}


def calibrated(generation: Tree, folder: Path, old: Maps, new: Maps) -> Tree:
    """Generation 3: maps of both predictors, fitted to the same events; what tenants would see of NEW without MUSE."""
    tree = _mapped(deepcopy(generation), folder, OLD, old, "g1")
    tree = _mapped(tree, folder, NEW, new, "g2")
    return {**tree, "routes": [{"live": OLD, "shadow": [NEW, BARE_NEW]}]}


def named(base: Mapping[str, Any], prefix: str, lane: str) -> Tree:
    """Return the base with topics and a lane of this run's own, so that two runs can share a cluster."""
    templates = {kind: f"{prefix}.{kind}.{{tenant}}" for kind in ("events", "scores", "audit", "dlq")}
    tenants = {name: {**entry, "lane": lane} for name, entry in base["tenants"].items()}
    return {**base, "topics": {**templates, "unknown": f"{prefix}.dlq.{{lane}}"}, "tenants": tenants}


def fitted(tree: Tree, folder: Path, predictor: str, aggregates: Samples) -> dict[str, FittedMap]:
    """Fit a map for each tenant to a predictor's aggregates, as `muse-stream fit --from FILE --scores` does.

    Raises FitError for aggregates that no map can be fitted to.
    """
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        scores = Path(aside) / f"{predictor}.parquet"
        tenants = np.repeat(list(aggregates), [len(sample) for sample in aggregates.values()])
        pq.write_table(pa.table({"tenant": tenants, "aggregate": np.concatenate(list(aggregates.values()))}), scores)
        document = write(tree, folder / "fitted-for.yaml")
        fitting = Fitting(FileColumns(scores="aggregate", tenant="tenant"), policy="own")
        found = fit_maps(document, predictor, scores, tenants=list(aggregates), fitting=fitting)
    return {tenant: found.tenants[tenant].map for tenant in aggregates}


def reference(base: Mapping[str, Any]) -> Reference:
    """The score distribution promised to the tenants: the base's one reference, given by alert rates."""
    promise: Mapping[str, Mapping[float, float]]
    (promise,) = base["references"].values()
    return Reference.from_alert_rates(promise["alert_rates"])


def _mapped(tree: Tree, folder: Path, predictor: str, maps: Maps, label: str) -> Tree:
    """Give a predictor the maps of its tenants, in files whose hashes the document pins."""
    prefix = f"{predictor}-"
    kept = {name: entry for name, entry in tree.get("maps", {}).items() if not name.startswith(prefix)}
    names: dict[str, str] = {}
    (folder / "maps").mkdir(exist_ok=True)
    for tenant, one in maps.items():
        names[tenant] = f"{prefix}{tenant}"
        file = f"maps/{label}-{tenant}.json"
        data = json.dumps(one.to_json()).encode()
        (folder / file).write_bytes(data)
        kept[names[tenant]] = {"file": file, "sha256": hashlib.sha256(data).hexdigest()}
    (standard,) = tree["references"]
    entry = {**tree["predictors"][predictor], "quantile_map": {"reference": standard, "tenants": names}}
    return {**tree, "maps": kept, "predictors": {**tree["predictors"], predictor: entry}}


def write(tree: Mapping[str, Any], path: Path) -> Path:
    """Write a document as YAML: two levels of blocks for people to read, the rest in one line each."""
    lines: list[str] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            lines.append(f"{key}:")
            lines += [f"  {_flow(name)}: {_flow(entry)}" for name, entry in value.items()]
        elif isinstance(value, list) and value:
            lines.append(f"{key}:")
            lines += [f"  - {_flow(entry)}" for entry in value]
        else:
            lines.append(f"{key}: {_flow(value)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _flow(value: Any) -> str:
    """One value in YAML's flow style; unlike JSON's, its keys may be numbers."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
