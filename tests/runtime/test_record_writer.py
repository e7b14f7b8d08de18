"""Scores to records: one for each live score, in the batch's order; one audit record for each shadow answer."""

import io
import json
from collections.abc import Sequence
from typing import Any

import fastavro
import numpy as np

from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.config import Role, load_document
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.event_reader import EventReader, Events
from muse_stream.runtime.record_writer import Writer
from muse_stream.runtime.score_counts import ScoreGroups
from muse_stream.scoring import PredictorScores
from muse_stream.scoring.scores import ExpertScores
from muse_stream.worker import Batch, Records
from tests.integration.bank import Bank
from tests.runtime.test_batch_scorer import batch, event

NOW, ATTEMPT = 1_700_000_000_123, 42


def writer_of(bank: Bank, role: Role) -> Writer:
    document = load_document(bank.document(live="plain", shadow=("retrained", "slow"))).document
    encoder = Encoder(output_schemas().by_file("score.avsc" if role == "live" else "audit.avsc"))
    topics = {name: bank.topic("out", name) for name in bank.names()}
    return Writer(encoder, topics, 7, ScoreGroups(document, bank.name, role))


def events_of(bank: Bank, names: Sequence[str | None]) -> tuple[Batch, Events]:
    """A batch with an event of each tenant; None is a record that cannot be decoded."""
    values = [None if name is None else event(bank, id=f"e{row}", tenant=name) for row, name in enumerate(names)]
    raw = batch([bank.topic("events", name or "t0") for name in names], values)
    raw.partitions[:] = [row % 3 for row in range(len(names))]
    raw.offsets[:] = [100 + row for row in range(len(names))]
    schemas = SchemaDirectory.open(bank.folder / "schemas")
    reader = EventReader(load_document(bank.document()).document, bank.name, schemas, {"payment": ("amount",)})
    return raw, reader.read(raw, ids=False)


def answers(predictor: str, rows: Sequence[int], values: Sequence[float], **errors: str) -> PredictorScores:
    """Scores of some rows of the table; `e3="..."` says why row 3 has none."""
    score = np.array(values, dtype=np.float64)
    experts = (ExpertScores(f"{predictor}-model", score / 2, score / 4),)
    failed = {int(name.removeprefix("e")): why for name, why in errors.items()}
    return PredictorScores(predictor, 3, np.array(rows, dtype=np.int64), score, score / 10, experts, failed)


def records(outgoing: Records, schema: str) -> list[dict[str, Any]]:
    """Decode records with fastavro alone."""
    parsed = fastavro.parse_schema(json.loads(output_schemas().by_file(schema).text))
    return [fastavro.schemaless_reader(io.BytesIO(value[10:]), parsed) for value in outgoing.values]  # type: ignore[misc]


def test_live_scores_of_several_predictors_leave_in_the_order_of_the_batch(bank: Bank) -> None:
    raw, events = events_of(bank, ["t0", "t1", None, "t0", "t1"])
    live = [answers("plain", [1, 2], [0.2, 0.4]), answers("retrained", [0, 3], [0.6, 0.8])]
    outgoing = writer_of(bank, "live").scores(raw, events, live, NOW, ATTEMPT)
    assert outgoing.rows == [0, 1, 3, 4], "rows of the batch, not of the table"
    assert outgoing.topics == [bank.topic("out", name) for name in ("t0", "t1", "t0", "t1")]
    found = records(outgoing, "score.avsc")
    assert [(one["event_id"], one["predictor"], one["score"], one["aggregate"]) for one in found] == [
        ("e0", "retrained", 0.6, 0.6 / 10),
        ("e1", "plain", 0.2, 0.2 / 10),
        ("e3", "plain", 0.4, 0.4 / 10),
        ("e4", "retrained", 0.8, 0.8 / 10),
    ]
    assert [(one["source_topic"], one["source_partition"], one["source_offset"]) for one in found] == [
        (raw.topics[row], row % 3, 100 + row) for row in outgoing.rows
    ]
    assert {(one["generation"], one["attempt"], one["predictor_version"]) for one in found} == {(7, ATTEMPT, 3)}


def test_a_record_counts_as_its_tenant_and_predictor(bank: Bank) -> None:
    raw, events = events_of(bank, ["t0", "t1", "t0"])
    writer = writer_of(bank, "live")
    groups = ScoreGroups(load_document(bank.document(live="plain")).document, bank.name, "live")
    first = {(pair.tenant, pair.predictor): pair.first for pair in groups.pairs}
    outgoing = writer.scores(raw, events, [answers("plain", [0, 1, 2], [0.1, 0.2, 0.3])], NOW, ATTEMPT)
    assert list(outgoing.groups) == [first[name, "plain"] for name in ("t0", "t1", "t0")]


def test_where_nothing_has_a_score_nothing_is_written(bank: Bank) -> None:
    raw, events = events_of(bank, ["t0"])
    nobody = answers("plain", [], [])
    assert len(writer_of(bank, "live").scores(raw, events, [nobody], NOW, ATTEMPT).rows) == 0
    assert len(writer_of(bank, "live").scores(raw, events, [], NOW, ATTEMPT).rows) == 0
    shadow = writer_of(bank, "shadow")
    assert len(shadow.audit(raw, events, [answers("plain", [0], [0.5])], [], NOW, ATTEMPT).rows) == 0
    assert len(shadow.audit(raw, events, [nobody], [nobody], NOW, ATTEMPT).rows) == 0


def test_an_audit_record_stands_beside_the_live_score_of_its_event(bank: Bank) -> None:
    raw, events = events_of(bank, [None, "t0", "t1", "t0"])
    live = [answers("plain", [0, 2], [0.1, 0.3]), answers("other", [1], [0.2])]
    shadow = [answers("retrained", [0, 1, 2], [0.7, 0.8, 0.9]), answers("slow", [1], [0.4])]
    outgoing = writer_of(bank, "shadow").audit(raw, events, live, shadow, NOW, ATTEMPT)
    assert outgoing.rows == [1, 2, 3, 2]
    assert outgoing.topics == [bank.topic("out", name) for name in ("t0", "t1", "t0", "t1")]
    found = records(outgoing, "audit.avsc")
    assert [(one["predictor"], one["event_id"], one["score"]) for one in found] == [
        ("retrained", "e1", 0.7),
        ("retrained", "e2", 0.8),
        ("retrained", "e3", 0.9),
        ("slow", "e2", 0.4),
    ]
    assert [(one["live_predictor"], one["live_score"]) for one in found] == [
        ("plain", 0.1),
        ("other", 0.2),
        ("plain", 0.3),
        ("other", 0.2),
    ]
    assert found[1]["experts"] == [{"name": "retrained-model", "raw": 0.4, "corrected": 0.2}]


def test_a_shadow_predictor_that_failed_says_why_and_has_no_score(bank: Bank) -> None:
    raw, events = events_of(bank, ["t0", "t0", "t1"])
    live = [answers("plain", [0, 1, 2], [0.1, 0.2, 0.3])]
    shadow = [answers("retrained", [0, 1, 2], [0.5, float("nan"), 0.6], e1="no amount")]
    found = records(writer_of(bank, "shadow").audit(raw, events, live, shadow, NOW, ATTEMPT), "audit.avsc")
    assert [(one["score"], one["error"]) for one in found] == [(0.5, None), (None, "no amount"), (0.6, None)]
