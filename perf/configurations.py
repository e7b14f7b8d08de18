"""What scenarios score beside the usual workload: many intents, shadows, wide events, deep ensembles.

Seeded, as all of the workload. Each writes a configuration into a folder and returns its path; maps are fitted, where
there are hundreds, to made-up scores: which map it is costs a worker nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from muse_stream import Reference
from muse_stream.calibration import FittedMap
from muse_stream.config import load_document, pre_map_hash
from muse_stream.demo.training import Expert, train_experts
from perf import workload
from perf.workload import Data

INTENTS, PREDICTORS, SHARED_MODELS = 5, 500, 5
WIDE, EXPERTS = 200, 4
SAMPLE = 20_000
MANY, OF_MANY = 50, 100
"""Maps are fitted to fewer scores where there are so many: 500 large ones pass the limits of a document."""


@lru_cache(maxsize=1)
def with_intents(data: Data) -> Data:
    """Return the events with a segment of five, by which they are routed."""
    segments = np.random.default_rng(5).integers(INTENTS, size=data.rows)
    return Data(data.name, data.features, data.label, {"segment": [f"w{number}" for number in segments.tolist()]})


def widened(data: Data, features: int = WIDE, rows: int = 200_000) -> Data:
    """Return events of so many features: the usual ones, and mixtures of two of them."""
    random, names = np.random.default_rng(7), list(data.features)
    columns = {name: column[:rows] for name, column in data.features.items()}
    while len(columns) < features:
        one, other = random.choice(names, 2)
        columns[f"mixed_{len(columns):03}"] = columns[one] * random.random() + columns[other] * random.random()
    return Data(data.name, columns, data.label[:rows])


def tenants(
    folder: Path, data: Data, count: int, *, predictors: int = PREDICTORS, trees: int = 100, prefix: str = "t"
) -> Path:
    """Write `predictors` predictors over 5 models; `count` tenants, a predictor for each of their 5 intents."""
    experts = _experts(folder, data, SHARED_MODELS, trees, 31)
    document = _document(count, experts, prefix)
    names = list(experts)
    document["events"]["event"]["intent"] = {"segment": {"field": "segment"}}
    document["predictors"] = {
        f"p{number:03}": {
            "version": 1 + number,
            "experts": [
                {"model": names[number % len(names)], "beta": experts[names[number % len(names)]].beta, "weight": 1.0}
            ],
        }
        for number in range(predictors)
    }
    document["routes"] = [
        {
            "when": {"tenant": f"{prefix}{tenant:03}", "segment": f"w{intent}"},
            "live": f"p{tenant * INTENTS + intent:03}",
        }
        for tenant in range(count)
        for intent in range(INTENTS)
    ]
    document["topics"] = {"scores": "muse.scores.{lane}", "dlq": "muse.dlq.{lane}"}
    return _mapped(folder, data, document)


def with_own_outputs(path: Path) -> Path:
    """Write the same configuration with output topics for each tenant beside it; returns its path."""
    document = YAML(typ="safe").load(path)
    del document["topics"]
    other = path.with_name("own.yaml")
    workload.write_document(other, document)
    return other


def shadows(folder: Path, data: Data, *, trees: int = 100) -> Path:
    """Write one live predictor of two models and three shadows: two on these models, one on a model of its own."""
    experts = _experts(folder, data, 3, trees, 31)
    document = _document(1, experts)
    members = {"live": ("m0", "m1"), "first": ("m0",), "second": ("m1",), "third": ("m2",)}
    document["predictors"] = {
        name: {"version": 1, "experts": [{"model": one, "beta": experts[one].beta} for one in models]}
        for name, models in members.items()
    }
    document["routes"] = [{"live": "live", "shadow": ["first", "second", "third"]}]
    return _mapped(folder, data, document)


def with_shared_shadows(path: Path) -> Path:
    """Write the configuration of `shadows` with its third shadow on the live predictor's models beside it."""
    document = YAML(typ="safe").load(path)
    third = document["predictors"]["third"]
    del third["quantile_map"]  # pinned to the models
    document["predictors"]["third"] = third | {"experts": document["predictors"]["live"]["experts"][::-1]}
    other = path.with_name("shared.yaml")
    workload.write_document(other, document)
    return other


def wide(folder: Path, data: Data, *, trees: int = 100) -> Path:
    """Write one predictor over all features of wide events."""
    experts = _experts(folder, data, 1, trees, 31)
    document = _document(1, experts)
    document["predictors"] = {"cards": {"version": 1, "experts": [{"model": "m0", "beta": experts["m0"].beta}]}}
    document["routes"] = [{"live": "cards"}]
    return _mapped(folder, data, document)


def deep(folder: Path, data: Data, *, trees: int = 400, leaves: int = 63) -> Path:
    """Write four experts of 400 trees with 63 leaves, and a meta-model over them."""
    experts = _experts(folder, data, EXPERTS, trees, leaves)
    names = list(experts)
    random = np.random.default_rng(3)
    scores = {name: random.random(SAMPLE) for name in names}
    blend = train_experts(scores, np.mean(list(scores.values()), axis=0) > 0.6, trees=1)["linear"]
    (folder / "blend.onnx").write_bytes(blend.onnx)
    document = _document(1, experts)
    document["models"]["blend"] = workload.model_entry("blend.onnx", blend)
    document["predictors"] = {
        "cards": {
            "version": 1,
            "experts": [{"model": name, "beta": experts[name].beta} for name in names],
            "aggregate": {"model": "blend"},
        }
    }
    document["routes"] = [{"live": "cards"}]
    return _mapped(folder, data, document)


def _experts(folder: Path, data: Data, count: int, trees: int, leaves: int) -> dict[str, Expert]:
    workload.write_schema(folder, data)
    found = {f"m{number}": _expert(data, number, trees, leaves) for number in range(count)}
    for name, expert in found.items():
        (folder / f"{name}.onnx").write_bytes(expert.onnx)
    return found


@lru_cache(maxsize=8)
def _expert(data: Data, number: int, trees: int, leaves: int) -> Expert:
    """Train one; a scenario's contenders have the same models."""
    size = min(data.rows, workload.TRAIN_ROWS) // 4
    rows = slice(number * size // 2, number * size // 2 + size)
    columns = {name: column[rows] for name, column in data.features.items()}
    return train_experts(columns, data.label[rows], seed=number, trees=trees, leaves=leaves)["trees"]


def _document(count: int, experts: dict[str, Expert], prefix: str = "t") -> dict[str, Any]:
    models = {name: workload.model_entry(f"{name}.onnx", expert) for name, expert in experts.items()}
    return workload.base_document(count, prefix) | {"models": models}


def _mapped(folder: Path, data: Data, document: dict[str, Any]) -> Path:
    """Give every predictor a quantile map of its own, and write the document."""
    path = folder / "muse.yaml"
    workload.write_document(path, document)
    loaded, reference = load_document(path).document, Reference.from_alert_rates(workload.ALERT_RATES)
    document["maps"] = {}
    for number, (name, predictor) in enumerate(document["predictors"].items()):
        size = OF_MANY if len(document["predictors"]) > MANY else SAMPLE
        scores: Sequence[float] = np.random.default_rng(number).beta(1.0, 8.0, size)  # type: ignore[assignment]
        fitted = FittedMap.fit(scores, reference, pre_map_hash(loaded, name))
        document["maps"][name] = fitted.to_json()
        predictor["quantile_map"] = {"reference": "standard", "default": name}
    workload.write_document(path, document)
    return path
