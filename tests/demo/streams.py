"""A stream small enough to think about: events, a ledger, and records as the workers would write them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from muse_stream.avro import Decoded, Decoder, Encoder, Fields, nullable, record_lists, string_maps
from muse_stream.demo.ledger import AUDIT_COLUMNS, LIVE_COLUMNS
from muse_stream.demo.scenario import StreamEvents
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.scoring.columns import Categorical

HOUR_MS = 3_600_000
START_MS = 1_767_571_200_000


def events(rows: int, tenants: Sequence[str] = ("acme",), *, spacing_ms: int = HOUR_MS) -> StreamEvents:
    """`rows` events of the tenants in turn, `spacing_ms` apart, each customer buying ten times."""
    number = np.arange(rows)
    return StreamEvents(
        tenants=tuple(tenants),
        tenant=(number % len(tenants)).astype(np.int32),
        ids=np.array([b"e%d" % one for one in range(rows)]),
        time_ms=START_MS + number * spacing_ms,
        entities=(number // 10, number % 7),
    )


def _common(streamed: StreamEvents, rows: np.ndarray, generation: int) -> dict[str, Any]:
    tenant = Categorical(streamed.tenants, streamed.tenant[rows])
    return {
        "event_id": [one.decode() for one in streamed.ids[rows].tolist()],
        "tenant": tenant,
        "predictor_version": 1,
        "generation": generation,
        "event_time": streamed.time_ms[rows],
        "source_topic": "events",
        "source_partition": 0,
        "source_offset": rows,
        "attempt": 0,
    }


def score_records(
    streamed: StreamEvents, rows: Sequence[int], generation: int, scores: Sequence[float], scored_at: int = START_MS
) -> Decoded:
    """Live scores, encoded and decoded."""
    index = np.array(rows, dtype=np.int64)
    columns = _common(streamed, index, generation) | {
        "predictor": "live",
        "score": np.array(scores, dtype=np.float64),
        "aggregate": np.array(scores, dtype=np.float64) / 10,
        "scored_at": scored_at,
    }
    return _through("score.avsc", columns, len(index), LIVE_COLUMNS)


def audit_records(
    streamed: StreamEvents,
    rows: Sequence[int],
    generation: int,
    predictor: str,
    scores: Sequence[float],
    live: Sequence[float],
) -> Decoded:
    """Audit records of one shadow predictor, encoded and decoded; a NaN is a failure of the predictor."""
    index = np.array(rows, dtype=np.int64)
    values = np.array(scores, dtype=np.float64)
    columns = _common(streamed, index, generation) | {
        "predictor": predictor,
        "intent": string_maps({}, len(index)),
        "score": nullable(values),
        "aggregate": nullable(values / 10),
        "experts": record_lists([], {"raw": [], "corrected": []}, len(index)),
        "live_predictor": "live",
        "live_predictor_version": 1,
        "live_score": np.array(live, dtype=np.float64),
        "live_aggregate": np.array(live, dtype=np.float64) / 10,
        "scored_at": START_MS,
    }
    return _through("audit.avsc", columns, len(index), AUDIT_COLUMNS)


def _through(file: str, columns: dict[str, Any], rows: int, wanted: tuple[str, ...]) -> Decoded:
    schemas = output_schemas()
    schema = schemas.by_file(file)
    return Decoder(schemas, schema, Fields("event_id", None, None, wanted)).decode(
        Encoder(schema).encode(columns, rows)
    )
