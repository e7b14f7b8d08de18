"""What the benchmarks score: 15 features, one model of 100 trees with 31 leaves, posterior correction, a quantile map.

The events are the Handbook's transactions when they are at hand (MUSE_PERF_EVENTS, or `../shared/data` beside the
project), else those of the demo's generator. Seeded; written to a temporary folder only.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from ruamel.yaml import YAML

from muse_stream import Reference, environment, load
from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.calibration.quantile_map import FittedMap
from muse_stream.config import load_document, pre_map_hash
from muse_stream.demo.generator import FEATURES, feature_table, generate
from muse_stream.demo.training import train_experts

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


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Columns to train on and to stream."""

    name: str
    features: dict[str, NDArray[np.float64]]
    label: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many events there are."""
        return len(self.label)


def read_data() -> Data:
    """Return the Handbook's transactions, or the generator's when they are not there."""
    path = Path(environment.read("MUSE_PERF_EVENTS") or HANDBOOK)
    if path.exists():
        table = pq.read_table(path, columns=[*HANDBOOK_FEATURES, "TX_FRAUD"])
        columns = {name: table[name].to_numpy().astype(np.float64) for name in HANDBOOK_FEATURES}
        return Data("handbook", columns, table["TX_FRAUD"].to_numpy().astype(np.int64))
    made = generate(600_000)
    columns = feature_table(made)
    return Data("generator", {name: columns[name] for name in FEATURES}, made["label"])


def configure(folder: Path, data: Data, tenants: int, *, shared_outputs: bool = False) -> Path:
    """Write a configuration for `tenants` tenants into `folder`; returns its path."""
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    fields: list[dict[str, Any]] = [
        {"name": "transaction_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *({"name": name, "type": "double"} for name in data.features),
    ]
    schema = {"type": "record", "name": "Event", "fields": fields}
    (folder / "schemas" / "event.avsc").write_text(json.dumps(schema), encoding="utf-8")
    expert = train_experts(
        {name: column[:TRAIN_ROWS] for name, column in data.features.items()},
        data.label[:TRAIN_ROWS],
        trees=100,
        leaves=31,
    )["trees"]
    (folder / "trees.onnx").write_bytes(expert.onnx)
    predictor: dict[str, Any] = {"version": 1, "experts": [{"model": "trees", "beta": expert.beta}]}
    document: dict[str, Any] = {
        "version": 1,
        "models": {
            "trees": {
                "uri": "trees.onnx",
                "sha256": expert.sha256,
                "inputs": {"features": list(expert.features)},
                "output": {"name": "probabilities", "positive": 1},
            }
        },
        "references": {"standard": {"alert_rates": ALERT_RATES}},
        "predictors": {"cards": predictor},
        "events": {"event": {"schema": "event.avsc", "id": "transaction_id", "time": "event_time"}},
        "routes": [{"live": "cards"}],
        "tenants": {f"t{n:03}": {"event": "event"} for n in range(tenants)},
    }
    if shared_outputs:
        document["topics"] = {"scores": "muse.scores.{lane}", "dlq": "muse.dlq.{lane}"}
    path = folder / "muse.yaml"
    _write(path, document)
    sample = {name: column[TRAIN_ROWS : TRAIN_ROWS + FIT_ROWS] for name, column in data.features.items()}
    aggregate = load(path).score(sample | {"tenant": "t000"})["aggregate"]
    fitted = FittedMap.fit(
        aggregate, Reference.from_alert_rates(ALERT_RATES), pre_map_hash(load_document(path).document, "cards")
    )
    document["maps"] = {"all": fitted.to_json()}
    predictor["quantile_map"] = {"reference": "standard", "default": "all"}
    _write(path, document)
    return path


def events(path: Path, data: Data, rows: slice) -> Iterator[list[bytes]]:
    """Yield framed events in chunks of 50,000; ids are `e<row>`, times one millisecond apart."""
    schema = SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc")
    encoder = Encoder(schema)
    for start in range(rows.start, rows.stop, 50_000):
        part = slice(start, min(start + 50_000, rows.stop))
        numbers = np.arange(part.start, part.stop)
        columns: dict[str, Any] = {name: column[part] for name, column in data.features.items()}
        columns["transaction_id"] = [f"e{number}" for number in numbers.tolist()]
        columns["event_time"] = 1_700_000_000_000 + numbers
        yield encoder.encode(columns, len(numbers))


def matrix(data: Data, rows: int) -> NDArray[np.float64]:
    """Return the first rows' features as one [rows, F] array, in the model's order."""
    return np.stack([column[:rows] for column in data.features.values()], axis=1)


def _write(path: Path, document: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)
