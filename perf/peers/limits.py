"""The peers `columnar` and `model`: what the product's own loop allows a bare scorer of columns, and the model alone.

    columnar    decode, model, correction, map, encode, a call or two for each: no check of any record, no tenant, no
                route, no dead letter, no metric
    model       the model alone, on as many rows as there are events; as many bytes are sent as a score has

`python -m perf.peers.limits KIND BACKEND SETTINGS.json` serves until SIGTERM; BACKEND is onnxruntime, or auto for trees
as native code. Between consume and commit both are the worker loop of the product, like the echo (perf/echo.py), so
that what they reach bounds what can be gained in the scorer.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyruhvro
from numpy.typing import NDArray

from muse_stream.avro import SchemaDirectory, types
from muse_stream.config import load_document
from muse_stream.runtime.compile import compile_generation
from muse_stream.worker.batch import Batch, Records
from perf import echo

FRAME = 10
"""Bytes before a record: Avro's single object encoding."""
FULL = 4_096
"""Rows that are enough to be taken for those of all batches."""
Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Columnar(echo.Echo):
    """Scores a batch as columns and looks at nothing else."""

    def __init__(self, settings: Mapping[str, Any], predict: Predict) -> None:
        super().__init__([settings["topic"]], settings["out"], 0, 1)
        self._settings, self._predict = settings, predict
        self._event = Path(settings["event_schema"]).read_text(encoding="utf-8")
        score = SchemaDirectory.open(Path(settings["score_schema"]).parent).by_file("score.avsc")
        self._score = json.dumps(types.physical(score.type))
        self._prefix = bytes.fromhex(settings["score_prefix"])
        self._x, self._y = np.array(settings["map"]["x"]), np.array(settings["map"]["y"])

    def score(self, batch: Batch, attempt: int) -> Records:
        """Answer a batch."""
        events, rows = self._decode(batch), len(batch)
        with np.errstate(divide="ignore"):
            p = self._predict(self._matrix(events))
            aggregate = 1.0 / (1.0 + (1.0 - p) / p / self._settings["beta"])
        columns = {
            "event_id": events["transaction_id"],
            "tenant": self._settings["tenant"],
            "predictor": self._settings["predictor"],
            "predictor_version": pa.scalar(self._settings["predictor_version"], pa.int32()),
            "score": pa.array(np.interp(aggregate, self._x, self._y)),
            "aggregate": pa.array(aggregate),
            "generation": 1,
            "event_time": events["event_time"].cast(pa.int64()),
            "scored_at": int(time.time() * 1000),
            "source_topic": self._settings["topic"],
            "source_partition": pa.array(np.array(batch.partitions, np.int32)),
            "source_offset": pa.array(np.array(batch.offsets, np.int64)),
            "attempt": attempt,
        }
        arrays = [one if isinstance(one, pa.Array) else pa.repeat(one, rows) for one in columns.values()]
        table = pa.RecordBatch.from_arrays(arrays, names=list(columns))
        (found,) = pyruhvro.serialize_record_batch(table, self._score, 1)
        return Records(list(range(rows)), [self._out] * rows, [self._prefix + value for value in found.to_pylist()])

    def _decode(self, batch: Batch) -> Mapping[str, pa.Array]:
        decoded = pyruhvro.deserialize_array([value[FRAME:] for value in batch.values if value], self._event)
        return dict(zip(decoded.schema.names, decoded.columns, strict=True))

    def _matrix(self, events: Mapping[str, pa.Array]) -> NDArray[np.float32]:
        features = self._settings["features"]
        matrix = np.empty((len(events[features[0]]), len(features)), np.float32)
        for number, name in enumerate(features):
            matrix[:, number] = events[name].to_numpy(zero_copy_only=False)
        return matrix


class ModelAlone(Columnar):
    """Runs the model on the rows of its first large batch, over and over."""

    def __init__(self, settings: Mapping[str, Any], predict: Predict) -> None:
        super().__init__(settings, predict)
        self._rows: NDArray[np.float32] | None = None
        self._payload = b"x" * settings["score_bytes"]

    def score(self, batch: Batch, attempt: int) -> Records:
        """Answer a batch with as many bytes as scores have."""
        if self._rows is None or len(self._rows) < FULL:
            self._rows = self._matrix(self._decode(batch))
        self._predict(np.resize(self._rows, (len(batch), self._rows.shape[1])))
        return echo.Echo.score(self, batch, attempt)


KINDS = {"columnar": Columnar, "model": ModelAlone}


def main() -> None:
    """Serve until SIGTERM."""
    kind, backend, file = sys.argv[1:]
    settings = json.loads(Path(file).read_text(encoding="utf-8"))
    path = Path(settings["configuration"])
    compiled = compile_generation(
        load_document(path if backend == "onnxruntime" else path.with_name(f"{backend}.yaml")), 1, "live"
    )
    (model,) = compiled.cache._models.values()  # nobody else's business
    echo.serve(settings["bootstrap"], settings["out"], KINDS[kind](settings, lambda matrix: model.predict([matrix])))


if __name__ == "__main__":
    main()
