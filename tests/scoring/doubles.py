"""Models, documents and tables for the tests of scoring: small, seeded, and without any vendor.

They keep the protocols of the product, and count. The models answer each row from that row alone, elementwise, so any
difference in bits is the product's.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from muse_stream.calibration import FittedMap
from muse_stream.config import Document, Role, pre_map_hash
from muse_stream.config.maps import read_map
from muse_stream.scoring import Categorical, Column, EventTable, ModelInput
from muse_stream.scoring.snapshot import Snapshot, compile_snapshot

Floats = NDArray[np.float64]
POISON = -77.0
CHANNELS = ("pos", "ecom", "atm")
REGIONS = ("eu", "us", "br")


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Linear:
    """A logistic model over all its columns, NaN counting as 0.3; counts calls and rows."""

    float_error = 0.0

    def __init__(self, name: str, widths: Mapping[str, int], dtype: type[np.generic] = np.float32) -> None:
        self.sha256 = sha(name)
        self.inputs = tuple(ModelInput(key, width, np.dtype(dtype)) for key, width in widths.items())
        rng = np.random.default_rng(int(self.sha256[:8], 16))
        self._weights = rng.normal(size=sum(widths.values()))
        self.calls = 0
        self.rows = 0
        self.seen: list[tuple[NDArray[Any], ...]] = []

    def predict(self, inputs: Sequence[NDArray[Any]]) -> Floats:
        self.calls += 1
        self.rows += len(inputs[0])
        self.seen.append(tuple(inputs))
        for wanted, given in zip(self.inputs, inputs, strict=True):
            assert given.shape[1] == wanted.width
            assert given.dtype == wanted.dtype
            assert given.flags.c_contiguous
        columns = [one[:, place].astype(np.float64) for one in inputs for place in range(one.shape[1])]
        total = np.full(len(inputs[0]), -0.5)
        for weight, column in zip(self._weights, columns, strict=True):
            total = total + weight * np.where(np.isnan(column), 0.3, column)
        return np.asarray(expit(total), dtype=np.float64)


class Poisoned(Linear):
    """Raises whenever one of its rows begins with POISON."""

    def predict(self, inputs: Sequence[NDArray[Any]]) -> Floats:
        answers = super().predict(inputs)
        if bool((inputs[0][:, 0] == POISON).any()):
            raise RuntimeError("cannot digest this row\nand more lines")
        return answers


class Broken(Linear):
    """Raises always."""

    def predict(self, inputs: Sequence[NDArray[Any]]) -> Floats:
        super().predict(inputs)
        raise MemoryError("no session")


class Odd(Linear):
    """Answers `value` where its rows begin with POISON."""

    def __init__(self, name: str, widths: Mapping[str, int], value: float = float("nan")) -> None:
        super().__init__(name, widths)
        self._value = value

    def predict(self, inputs: Sequence[NDArray[Any]]) -> Floats:
        answers = super().predict(inputs)
        return np.where(inputs[0][:, 0] == POISON, self._value, answers)


class Misshapen(Linear):
    """Answers one row too many."""

    def predict(self, inputs: Sequence[NDArray[Any]]) -> Floats:
        return np.append(super().predict(inputs), 0.5)


def model_spec(name: str, inputs: Mapping[str, Sequence[object]]) -> dict[str, object]:
    return {"uri": f"{name}.onnx", "sha256": sha(name), "inputs": dict(inputs), "output": {"name": "p"}}


FEATURES: list[object] = [
    "amount",
    {"field": "risk", "default": 0.25},
    {"field": "channel", "categories": "channels"},
]
MODELS: dict[str, dict[str, object]] = {
    "a": model_spec("a", {"x": FEATURES}),
    "b": model_spec("b", {"x": FEATURES, "y": [{"field": "age", "required": True}]}),
    "c": model_spec("c", {"x": ["amount", "age"]}),
    "meta": model_spec("meta", {"x": ["first", "second"]}),
}
REFERENCES = {
    "standard": {"alert_rates": {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}},
    "smooth": {"beta_mixture": [{"weight": 0.9, "a": 1.0, "b": 9.0}, {"weight": 0.1, "a": 4.0, "b": 2.0}]},
}
PREDICTORS: dict[str, dict[str, object]] = {
    "one": {"version": 3, "experts": [{"model": "a", "beta": 0.1}], "quantile_map": {"reference": "standard"}},
    "two": {
        "version": 1,
        "experts": [{"model": "a", "beta": 0.1}, {"model": "b", "beta": 0.2, "weight": 2.0}],
        "quantile_map": {"reference": "smooth"},
    },
    "three": {"version": 7, "experts": [{"model": "a"}, {"model": "c"}, {"model": "b"}], "aggregate": "median"},
    "meta": {"version": 2, "experts": [{"model": "a"}, {"model": "c"}], "aggregate": {"model": "meta"}},
}


def document(
    routes: Sequence[Mapping[str, object]],
    *,
    predictors: Mapping[str, Mapping[str, object]] | None = None,
    models: Mapping[str, Mapping[str, object]] | None = None,
    tenants: Sequence[str] = ("acme", "globex", "initech"),
    own_maps: bool = True,
) -> Document:
    """Return a document whose quantile maps are fitted for what it says; acme has maps of its own."""
    plain: dict[str, Any] = {
        "version": 1,
        "categories": {"channels": {"pos": 0.0, "ecom": 1.0}},
        "models": dict(models or MODELS),
        "references": REFERENCES,
        "predictors": {name: dict(one) for name, one in (predictors or PREDICTORS).items()},
        "events": {
            "card": {
                "schema": "card.avsc",
                "id": "id",
                "intent": {"channel": {"field": "channel"}, "region": {"header": "region"}},
            }
        },
        "routes": list(routes),
        "tenants": {name: {"event": "card"} for name in tenants},
    }
    _fit_maps(plain, own_maps=own_maps)
    return Document.model_validate(plain)


def _fit_maps(plain: dict[str, Any], *, own_maps: bool) -> None:
    bare = {
        name: {key: value for key, value in one.items() if key != "quantile_map"}
        for name, one in plain["predictors"].items()
    }
    unmapped = Document.model_validate({**plain, "predictors": bare})
    maps = plain["maps"] = {}
    for place, (name, one) in enumerate(plain["predictors"].items()):
        if "quantile_map" not in one:
            continue
        fitted_for = pre_map_hash(unmapped, name)
        for seed, owner in enumerate(("default", "acme") if own_maps else ("default",)):
            knots = np.sort(np.random.default_rng([seed, place]).random(17)).tolist()
            maps[f"{name}-{owner}"] = {
                "fitted_for": fitted_for,
                "levels": np.linspace(0.0, 1.0, 17).tolist(),
                "values": knots,
                "samples": 1000,
            }
        tenants = {"acme": f"{name}-acme"} if own_maps else {}
        one["quantile_map"] = {**one["quantile_map"], "default": f"{name}-default", "tenants": tenants}


def loaded(spec: Document, **special: Linear) -> dict[str, Linear]:
    """Return a model for every one of the document; `special` ones stand in by name."""
    made = {
        name: Linear(name, {key: len(features) for key, features in one.inputs.items()})
        for name, one in spec.models.items()
    }
    return {**made, **special}


def snapshot(spec: Document, models: Mapping[str, Linear] | None = None, role: Role = "live") -> Snapshot:
    return compile_snapshot(spec, models or loaded(spec), maps_of(spec), number=1, role=role)


def maps_of(spec: Document) -> dict[str, FittedMap]:
    """The maps that a document holds itself, as they are loaded."""
    return {name: read_map(Path(), one) for name, one in spec.maps.items()}


def table(rows: int, seed: int = 0, **columns: Column) -> EventTable:
    """Return a random batch: nulls in every nullable place, unknown tenants and channels among the known."""
    rng = np.random.default_rng(seed)

    def codes(values: Sequence[str]) -> Categorical:
        return Categorical(tuple(values), rng.integers(-1, len(values), rows).astype(np.int32))

    def numbers() -> Floats:
        return np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))

    channel = codes(CHANNELS)
    features: dict[str, Column] = {
        "amount": rng.normal(size=rows),
        "risk": numbers(),
        "channel": channel,
        "age": rng.integers(18, 90, rows),
        **columns,
    }
    ids = np.array([f"{seed}-{row}" for row in range(rows)], dtype=np.bytes_)
    tenant = Categorical(("globex", "acme", "initech", "nobody"), rng.integers(0, 4, rows).astype(np.int32))
    return EventTable(rows, tenant, {"channel": channel, "region": codes(REGIONS)}, features, ids)


def part(whole: EventTable, rows: NDArray[np.int64]) -> EventTable:
    """Return some rows of a batch, as the batch they might have come in."""

    def cut(column: Column) -> Any:
        return Categorical(column.values, column.codes[rows]) if isinstance(column, Categorical) else column[rows]

    return EventTable(
        len(rows),
        cut(whole.tenant),
        {name: cut(column) for name, column in whole.intent.items()},
        {name: cut(column) for name, column in whole.features.items()},
        None if whole.ids is None else whole.ids[rows],
    )
