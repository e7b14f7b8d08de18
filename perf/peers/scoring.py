"""What the peers in Python share: one event's bytes in, one score record's bytes out.

Standard tools on purpose: fastavro, onnxruntime with one thread, plain Python. Imports nothing of this project, since
quixstreams runs it in an environment of its own.
"""

import json
import time
from bisect import bisect_right
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import onnxruntime

PREFIX = 10
"""Bytes before a record: Avro's single object encoding."""


class EventScorer:
    """Scores one event at a time."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._event = fastavro.parse_schema(json.loads(Path(settings["event_schema"]).read_text(encoding="utf-8")))
        self._score = fastavro.parse_schema(json.loads(Path(settings["score_schema"]).read_text(encoding="utf-8")))
        self._prefix = bytes.fromhex(settings["score_prefix"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(settings["model"], options, providers=["CPUExecutionProvider"])
        self._x, self._y = settings["map"]["x"], settings["map"]["y"]

    def decode(self, value: bytes) -> dict[str, Any]:
        """Return the event."""
        event: Any = fastavro.schemaless_reader(BytesIO(value[PREFIX:]), self._event)
        return dict(event)

    def score(self, event: dict[str, Any]) -> tuple[float, float]:
        """Return (score, aggregate)."""
        settings = self._settings
        row = np.array([[event[name] for name in settings["features"]]], dtype=np.float32)
        (answer,) = self._session.run([settings["output"]], {settings["input"]: row})
        p = float(answer[0][settings["positive"]])
        aggregate = 0.0 if p == 0.0 else 1.0 / (1.0 + (1.0 - p) / p / settings["beta"])
        return self._mapped(aggregate), aggregate

    def encode(
        self, event: dict[str, Any], scored: tuple[float, float], topic: str, partition: int, offset: int
    ) -> bytes:
        """Return the score record."""
        settings, out = self._settings, BytesIO()
        out.write(self._prefix)
        record = {
            "event_id": event["transaction_id"],
            "tenant": settings["tenant"],
            "predictor": settings["predictor"],
            "predictor_version": settings["predictor_version"],
            "score": scored[0],
            "aggregate": scored[1],
            "generation": 1,
            "event_time": event["event_time"],
            "scored_at": int(time.time() * 1000),
            "source_topic": topic,
            "source_partition": partition,
            "source_offset": offset,
            "attempt": 1,
        }
        fastavro.schemaless_writer(out, self._score, record)
        return out.getvalue()

    def _mapped(self, value: float) -> float:
        at = bisect_right(self._x, value)
        if at == 0 or at == len(self._x):
            return float(self._y[0 if at == 0 else -1])
        (x0, x1), (y0, y1) = self._x[at - 1 : at + 1], self._y[at - 1 : at + 1]
        return float(y0 + (value - x0) / (x1 - x0) * (y1 - y0))
