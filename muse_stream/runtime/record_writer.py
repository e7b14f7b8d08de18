"""Scores become records to publish: score records (live) or audit records (shadow).

One encoding call a batch and schema, whatever the tenants. Live: one score record for every row that has a live score,
in the order of the batch. Shadow: one audit record for every such row and shadow predictor, with the live score beside
it; a shadow predictor's failure is its record's `error`.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Encoder, nullable, record_lists, string_maps, take
from muse_stream.runtime.event_reader import Events
from muse_stream.runtime.score_counts import GroupNumbers, ScoreGroups
from muse_stream.scoring import Categorical, PredictorScores
from muse_stream.worker import Batch, Records, joined

Rows = NDArray[np.int64]
NO_ERROR = -1


class LiveColumns:
    """All live answers of a batch as columns over the table's rows that have one."""

    def __init__(self, live: Sequence[PredictorScores]) -> None:
        sizes = [len(one.rows) for one in live]
        order = np.argsort(np.concatenate([one.rows for one in live]), kind="stable") if len(live) > 1 else None

        def joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
            return parts[0] if order is None else np.concatenate(parts)[order]

        self.rows: Rows = joined([one.rows for one in live])
        self.score = joined([one.score for one in live])
        self.aggregate = joined([one.aggregate for one in live])
        which = np.repeat(np.arange(len(live), dtype=np.int32), sizes)
        which = which if order is None else which[order]
        self.predictor = Categorical(tuple(one.predictor for one in live), which)
        self.version = np.array([one.version for one in live], dtype=np.int32)[which]

    def at(self, rows: Rows) -> Rows:
        """Return the positions of these table rows, all of which have a live answer."""
        return np.searchsorted(self.rows, rows)


class Writer:
    """Encodes the answers of one generation for one role."""

    def __init__(self, encoder: Encoder, topics: Mapping[str, str], generation: int, groups: ScoreGroups) -> None:
        """`topics`: tenant -> output topic."""
        self._encoder, self._topics, self._generation, self._groups = encoder, topics, generation, groups
        self._named: tuple[tuple[str | None, ...], list[str]] = (), []
        """The tenants of the last table, and their output topics: as a rule those of every table."""

    def scores(
        self, batch: Batch, events: Events, live: Sequence[PredictorScores], now_ms: int, attempt: int
    ) -> Records:
        """Return one score record for every live answer."""
        if not any(len(one.rows) for one in live):
            return Records()
        answers = LiveColumns([one for one in live if len(one.rows)])
        columns = self._source(batch, events, answers.rows, now_ms, attempt) | {
            "predictor": answers.predictor,
            "predictor_version": answers.version,
            "score": answers.score,
            "aggregate": answers.aggregate,
        }
        groups = self._groups.of(answers.predictor, columns["tenant"], answers.score)
        return self._outgoing(events, answers.rows, columns, groups)

    def audit(
        self,
        batch: Batch,
        events: Events,
        live: Sequence[PredictorScores],
        shadow: Sequence[PredictorScores],
        now_ms: int,
        attempt: int,
    ) -> Records:
        """Return one audit record for every answer or failure of a shadow predictor."""
        parts = [one for one in shadow if len(one.rows)]
        if not parts:
            return Records()
        answers = LiveColumns([one for one in live if len(one.rows)])
        outgoing = []
        for one in parts:
            columns = self._source(batch, events, one.rows, now_ms, attempt) | _shadow_columns(events, one)
            predictor = Categorical.constant(one.predictor, len(one.rows))
            live_scores = answers.score[answers.at(one.rows)]
            groups = self._groups.of(predictor, columns["tenant"], one.score, live_scores)
            columns |= _live_columns(answers, one.rows) | {"live_generation": self._generation}
            outgoing.append(self._outgoing(events, one.rows, columns, groups))
        return joined(outgoing, [0] * len(outgoing))

    def _source(self, batch: Batch, events: Events, rows: Rows, now_ms: int, attempt: int) -> dict[str, Any]:
        """Return what every record says of its event; `rows` are rows of the table."""
        whole = len(rows) == events.count  # rows ascend: all of the table
        of_batch = events.rows if whole else events.rows[rows]
        tenant, topics = events.tenant, events.topics
        partitions, offsets = np.array(batch.partitions, dtype=np.int32), np.array(batch.offsets, dtype=np.int64)
        return {
            "event_id": events.event_ids if whole else take(events.event_ids, rows),
            "tenant": tenant if whole else Categorical(tenant.values, tenant.codes[rows]),
            "generation": self._generation,
            "event_time": events.times if whole else events.times[rows],
            "scored_at": now_ms,
            "source_topic": topics if whole else Categorical(topics.values, topics.codes[rows]),
            "source_partition": partitions if len(of_batch) == len(batch) else partitions[of_batch],
            "source_offset": offsets if len(of_batch) == len(batch) else offsets[of_batch],
            "attempt": attempt,
        }

    def _outgoing(self, events: Events, rows: Rows, columns: dict[str, Any], groups: GroupNumbers) -> Records:
        tenant = events.tenant
        names, topics = self._named
        if names is not tenant.values:
            topics = [self._topics[name or ""] for name in tenant.values]
            self._named = tenant.values, topics
        values = self._encoder.encode(columns, len(rows))
        named = topics * len(rows) if len(topics) == 1 else [topics[code] for code in tenant.codes[rows].tolist()]
        return Records(events.rows[rows].tolist(), named, values, array("i", groups.tobytes()))


def _shadow_columns(events: Events, one: PredictorScores) -> dict[str, Any]:
    codes = np.full(len(one.rows), NO_ERROR, dtype=np.int32)
    codes[np.searchsorted(one.rows, list(one.errors))] = np.arange(len(one.errors), dtype=np.int32)
    names = [expert.name for expert in one.experts]
    experts = {"raw": [expert.raw for expert in one.experts], "corrected": [expert.corrected for expert in one.experts]}
    intent = {name: Categorical(column.values, column.codes[one.rows]) for name, column in events.intent.items()}
    return {
        "intent": string_maps(intent, len(one.rows)),
        "predictor": one.predictor,
        "predictor_version": one.version,
        "score": nullable(one.score),
        "aggregate": nullable(one.aggregate),
        "error": Categorical(tuple(one.errors.values()), codes),
        "experts": record_lists(names, experts, len(one.rows)),
    }


def _live_columns(answers: LiveColumns, rows: Rows) -> dict[str, Any]:
    at = answers.at(rows)
    return {
        "live_predictor": Categorical(answers.predictor.values, answers.predictor.codes[at]),
        "live_predictor_version": answers.version[at],
        "live_score": answers.score[at],
        "live_aggregate": answers.aggregate[at],
    }
