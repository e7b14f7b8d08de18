"""What the benchmarks score: 15 features, one model of 100 trees with 31 leaves, posterior correction, a quantile map.

The events are the Handbook's transactions when they are at hand (MUSE_PERF_EVENTS, or `../shared/data` beside the
project), else those of the demo's generator. Seeded; written to a temporary folder only.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from ruamel.yaml import YAML

from muse_stream import Reference, environment, load
from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.calibration.quantile_map import FittedMap
from muse_stream.config import load_document, pre_map_hash
from muse_stream.demo.generator import FEATURES, feature_table, generate
from muse_stream.demo.training import Expert, train_experts
from muse_stream.runtime.compile import compile_generation

PROJECT = Path(__file__).resolve().parents[1]
HANDBOOK = PROJECT.parent / "shared" / "data" / "handbook_transactions.parquet"
WINDOWS = ("1DAY", "7DAY", "30DAY")
HANDBOOK_FEATURES = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(f"CUSTOMER_ID_{what}_{window}_WINDOW" for window in WINDOWS for what in ("NB_TX", "AVG_AMOUNT")),
    *(f"TERMINAL_ID_{what}_{window}_WINDOW" for window in WINDOWS for what in ("NB_TX", "RISK")),
)
ALERT_RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}
TRAIN_ROWS, FIT_ROWS = 200_000, 50_000
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
PAYMENT: tuple[dict[str, Any], ...] = (
    {"name": "transaction_id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "card_uuid", "type": {"type": "fixed", "name": "Card", "size": 16, "logicalType": "uuid"}},
    {"name": "entry_mode", "type": {"type": "enum", "name": "Channel", "symbols": ["POS", "ECOM", "ATM"]}},
)
"""Fields of an event as banks write them; its amounts are decimals."""


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Columns to train on and to stream."""

    name: str
    features: dict[str, NDArray[np.float64]]
    label: NDArray[np.int64]
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Fields that are no features: what events are routed by."""

    @property
    def rows(self) -> int:
        """How many events there are."""
        return len(self.label)


@cache
def read_data() -> Data:
    """Return the Handbook's transactions, or the generator's when they are not there."""
    path = Path(environment.read("MUSE_PERF_EVENTS") or HANDBOOK)
    if path.exists():
        table = pq.read_table(path, columns=[*HANDBOOK_FEATURES, "TX_FRAUD"])
        columns = {name: table[name].to_numpy().astype(np.float64) for name in HANDBOOK_FEATURES}
        return Data("handbook", columns, table["TX_FRAUD"].to_numpy().astype(np.int64))
    return made_up(600_000)


def made_up(count: int) -> Data:
    """Return events of the demo's generator."""
    made = generate(count)
    columns = feature_table(made)
    return Data("generator", {name: columns[name] for name in FEATURES}, made["label"])


def configure(
    folder: Path,
    data: Data,
    tenants: int,
    *,
    shared_outputs: bool = False,
    backend: str = "onnxruntime",
    decimal: bool = False,
) -> Path:
    """Write a configuration for `tenants` tenants into `folder`; returns its path.

    `backend` runs its model; `decimal`: events of `PAYMENT`, and tenants called d000 and so on instead of t000.
    """
    write_schema(folder, data, decimal=decimal)
    expert = train_experts(
        {name: column[:TRAIN_ROWS] for name, column in data.features.items()},
        data.label[:TRAIN_ROWS],
        trees=100,
        leaves=31,
    )["trees"]
    (folder / "trees.onnx").write_bytes(expert.onnx)
    predictor: dict[str, Any] = {"version": 1, "experts": [{"model": "trees", "beta": expert.beta}]}
    prefix = "d" if decimal else "t"
    document = base_document(tenants, prefix)
    document |= {
        "models": {"trees": model_entry("trees.onnx", expert) | {"backend": backend}},
        "predictors": {"cards": predictor},
        "routes": [{"live": "cards"}],
    }
    if shared_outputs:
        document["topics"] = {"scores": "muse.scores.{lane}", "dlq": "muse.dlq.{lane}"}
    path = folder / "muse.yaml"
    write_document(path, document)
    sample = {name: column[TRAIN_ROWS : TRAIN_ROWS + FIT_ROWS] for name, column in data.features.items()}
    aggregate = load(path).score(sample | {"tenant": f"{prefix}000"})["aggregate"]
    fitted = FittedMap.fit(
        aggregate, Reference.from_alert_rates(ALERT_RATES), pre_map_hash(load_document(path).document, "cards")
    )
    document["maps"] = {"all": fitted.to_json()}
    predictor["quantile_map"] = {"reference": "standard", "default": "all"}
    write_document(path, document)
    return path


def write_schema(folder: Path, data: Data, *, decimal: bool = False) -> None:
    """Write the schema of events with these fields."""
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    fields: list[dict[str, Any]] = [
        {"name": "transaction_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *({"name": name, "type": "string"} for name in data.texts),
        *({"name": name, "type": "double"} for name in data.features),
    ]
    if decimal:
        fields = [{**one, "type": DECIMAL} if _is_amount(one["name"]) else one for one in fields]
        fields = [*PAYMENT, *fields[2:]]
    schema = {"type": "record", "name": "Event", "fields": fields}
    (folder / "schemas" / "event.avsc").write_text(json.dumps(schema), encoding="utf-8")


def model_entry(file: str, expert: Expert) -> dict[str, Any]:
    """Return what a configuration says of a model file."""
    return {
        "uri": file,
        "sha256": expert.sha256,
        "inputs": {"features": list(expert.features)},
        "output": {"name": "probabilities", "positive": 1},
    }


def base_document(tenants: int, prefix: str = "t") -> dict[str, Any]:
    """Return the parts that do not depend on models."""
    return {
        "version": 1,
        "references": {"standard": {"alert_rates": ALERT_RATES}},
        "events": {"event": {"schema": "event.avsc", "id": "transaction_id", "time": "event_time"}},
        "tenants": {f"{prefix}{n:03}": {"event": "event"} for n in range(tenants)},
    }


def _is_amount(name: str) -> bool:
    return "AMOUNT" in name.upper()


def events(path: Path, data: Data, rows: slice) -> Iterator[list[bytes]]:
    """Yield framed events in chunks of 50,000; ids are `e<row>`, or a UUID of it; times one millisecond apart."""
    schema = SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc")
    decimal = is_decimal(path)
    encoder = Encoder(schema)
    for start in range(rows.start, rows.stop, 50_000):
        part = slice(start, min(start + 50_000, rows.stop))
        numbers = np.arange(part.start, part.stop)
        columns: dict[str, Any] = {name: column[part] for name, column in data.features.items()}
        columns |= {name: values[part] for name, values in data.texts.items()}
        columns["transaction_id"] = [event_id(number, decimal=decimal) for number in numbers.tolist()]
        columns["event_time"] = 1_700_000_000_000 + numbers
        if decimal:
            columns |= {name: _cents(column) for name, column in columns.items() if _is_amount(name)}
            columns["event_time"] = columns["event_time"] * 1000
            columns["card_uuid"] = [number.to_bytes(16, "big") for number in numbers.tolist()]
            columns["entry_mode"] = ["ECOM"] * len(numbers)
        yield encoder.encode(columns, len(numbers))


def is_decimal(path: Path) -> bool:
    """Tell whether the events of a configuration are those of `PAYMENT`."""
    schema = SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc")
    return schema.type.field("card_uuid") is not None


def event_id(row: int, *, decimal: bool) -> str:
    """Return the id of an event."""
    return str(UUID(int=row)) if decimal else f"e{row}"


def as_streamed(path: Path, columns: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return features as the events have them: amounts of decimal events in whole cents."""
    if not is_decimal(path):
        return columns
    return {name: np.round(one * 100) / 100 if _is_amount(name) else one for name, one in columns.items()}


def _cents(amounts: NDArray[np.float64]) -> list[bytes]:
    cents = np.round(amounts * 100).astype(np.int64).tolist()
    return [number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True) for number in cents]


def matrix(data: Data, rows: int) -> NDArray[np.float64]:
    """Return the first rows' features as one [rows, F] array, in the model's order."""
    return np.stack([column[:rows] for column in data.features.values()], axis=1)


def rebacked(path: Path, backend: str) -> Path:
    """Write the same configuration with another backend for its models beside it; returns its path."""
    document = YAML(typ="safe").load(path)
    for model in document["models"].values():
        model["backend"] = backend
    other = path.with_name(f"{backend}.yaml")
    write_document(other, document)
    return other


def optimise(path: Path) -> None:
    """Have the faster form of every compiled model made, so that workers find it in the cache."""
    compiled = compile_generation(load_document(path), 1, "live")
    for model in list(compiled.cache._models.values()):  # nobody else's business
        if model.backend.name == "compiled":
            model._session._trees.optimise()  # type: ignore[attr-defined]


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a configuration as YAML."""
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)


def configure_two(folder: Path, data: Data, *, trees: int = 100) -> Path:
    """Write a configuration of one tenant and two predictors, of a model each: `first` is live, `second` its shadow."""
    write_schema(folder, data)
    document = base_document(1) | {"models": {}, "predictors": {}}
    for number, name in enumerate(("first", "second")):
        rows = slice(number * TRAIN_ROWS // 2, (number + 1) * TRAIN_ROWS // 2)
        columns = {key: column[rows] for key, column in data.features.items()}
        expert = train_experts(columns, data.label[rows], seed=number, trees=trees, leaves=31)["trees"]
        (folder / f"{name}.onnx").write_bytes(expert.onnx)
        document["models"][name] = model_entry(f"{name}.onnx", expert)
        document["predictors"][name] = {"version": 1, "experts": [{"model": name, "beta": expert.beta}]}
    document["routes"] = [{"live": "first", "shadow": ["second"]}]
    path = folder / "muse.yaml"
    write_document(path, document)
    sample = {name: column[TRAIN_ROWS : TRAIN_ROWS + FIT_ROWS] for name, column in data.features.items()}
    loaded, reference = load_document(path).document, Reference.from_alert_rates(ALERT_RATES)
    document["maps"] = {}
    for name in ("first", "second"):
        document["routes"] = [{"live": name}]
        write_document(path, document)
        scores = load(path).score(sample | {"tenant": "t000"})["aggregate"]
        document["maps"][name] = FittedMap.fit(scores, reference, pre_map_hash(loaded, name)).to_json()
    for name in ("first", "second"):
        document["predictors"][name]["quantile_map"] = {"reference": "standard", "default": name}
    document["routes"] = [{"live": "first", "shadow": ["second"]}]
    write_document(path, document)
    return path


def configure_fleet(
    folder: Path, data: Data, *, tenants: int = 60, of_each: int = 5, models: int = 12, trees: int = 100
) -> Path:
    """Write the configuration of a large installation into `folder`; returns its path.

    Every tenant has `of_each` predictors of its own, each an ensemble of two of the models with a quantile map of its
    own in a file: the first answers, two are shadows, the rest is there. By default 60 tenants, 300 predictors, 12
    models.
    """
    write_schema(folder, data)
    for name in ("models", "maps"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    document = base_document(tenants)
    document["models"], betas = {}, {}
    for number in range(models):
        first = number * 5_000 % max(1, data.rows - TRAIN_ROWS // 4)
        rows = slice(first, first + TRAIN_ROWS // 4)
        columns = {name: column[rows] for name, column in data.features.items()}
        expert = train_experts(columns, data.label[rows], seed=number, trees=trees, leaves=31)["trees"]
        name = f"trees-{number:02}"
        (folder / "models" / f"{name}.onnx").write_bytes(expert.onnx)
        document["models"][name] = model_entry(f"models/{name}.onnx", expert)
        betas[name] = expert.beta
    names = list(betas)
    document["predictors"] = {}
    for tenant in range(tenants):
        for one in range(of_each):
            number = tenant * of_each + one
            chosen = (names[number % models], names[(number + 1 + number // models % (models - 1)) % models])
            document["predictors"][f"t{tenant:03}-v{one + 1}"] = {
                "version": one + 1,
                "experts": [
                    {"model": model, "beta": betas[model], "weight": weight}
                    for model, weight in zip(chosen, (1.0, 1.0 + number / 1000), strict=True)
                ],
            }
    document["routes"] = [
        {
            "when": {"tenant": f"t{tenant:03}"},
            "live": f"t{tenant:03}-v1",
            "shadow": [f"t{tenant:03}-v{one + 1}" for one in range(1, min(3, of_each))],
        }
        for tenant in range(tenants)
    ]
    document["topics"] = {"scores": "muse.scores.{lane}", "dlq": "muse.dlq.{lane}", "audit": "muse.audit.{lane}"}
    path = folder / "muse.yaml"
    write_document(path, document)
    loaded = load_document(path).document
    reference = Reference.from_alert_rates(ALERT_RATES)
    document["maps"] = {}
    for number, (name, predictor) in enumerate(document["predictors"].items()):
        scores = np.random.default_rng(number).beta(1.0, 8.0, FIT_ROWS)
        fitted = FittedMap.fit(scores, reference, pre_map_hash(loaded, name), [name.partition("-")[0]])
        content = json.dumps(fitted.to_json()).encode()
        (folder / "maps" / f"{name}.json").write_bytes(content)
        document["maps"][name] = {"file": f"maps/{name}.json", "sha256": hashlib.sha256(content).hexdigest()}
        predictor["quantile_map"] = {"reference": "standard", "default": name}
    write_document(path, document)
    return path
