"""Raw records to answers: which tenant, which reason, which topic, which bits; without Kafka, with real models."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from ruamel.yaml import YAML

from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.config import Role, load_document
from muse_stream.errors import ConfigError, Reason
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.batch_scorer import GenerationScorer, build_scorer
from muse_stream.worker.batch import Batch, BatchLimits, Header, Origin, Records
from tests.integration.bank import AT, RAISES_AT, SCHEMA, Bank

NOW = 1_700_000_000_000
Make = Callable[..., GenerationScorer]


def scorer_of(bank: Bank, path: Path, role: Role = "live") -> GenerationScorer:
    return build_scorer(load_document(path), 7, role, bank.name, clock=lambda: NOW)


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """Write a configuration with a change of its document."""
    document = YAML(typ="safe").load(path)
    change(document)
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)
    return path


def batch(
    topics: Sequence[str], values: Sequence[bytes | None], headers: Sequence[list[Header]] | None = None
) -> Batch:
    rows = len(values)
    given = list(headers or [[] for _ in values])
    keys: list[bytes | None] = [f"k{row}".encode() for row in range(rows)]
    return Batch(list(topics), [0] * rows, list(range(rows)), keys, list(values), lambda: [NOW] * rows, lambda: given)


def event(bank: Bank, **fields: Any) -> bytes:
    """Return one framed event; `fields` change the usual ones."""
    schema = SchemaDirectory.open(bank.folder / "schemas").by_file("payment.avsc")
    columns = {"id": "e1", "at": AT, "tenant": "t0", "amount": 40.0, "risk": 0.3} | fields
    return Encoder(schema).encode({name: [value] for name, value in columns.items()}, 1)[0]


def records(answer: Records, schema: str) -> list[dict[str, Any]]:
    """Decode answers with fastavro alone."""
    parsed = fastavro.parse_schema(json.loads(output_schemas().by_file(schema).text))
    return [fastavro.schemaless_reader(io.BytesIO(value[10:]), parsed) for value in answer.values]  # type: ignore[misc]


def reasons(answer: Records) -> dict[int, tuple[Reason, str]]:
    return {letter.rejected.row: (letter.rejected.reason, letter.topic) for letter in answer.dead}


def test_every_kind_of_bad_record_costs_itself_only(bank: Bank) -> None:
    """Each gets its reason and its tenant's dead-letter topic; the good ones between them are scored."""
    path = changed(bank.document(), lambda document: document.update(limits={"max_event_bytes": 2000}))
    scorer = scorer_of(bank, path)
    good = event(bank)
    bad = {
        Reason.UNDECODABLE: good[:-3],
        Reason.UNKNOWN_SCHEMA: b"\xc3\x01" + b"12345678" + good[10:],
        Reason.MISSING_ID: event(bank, id=""),
        Reason.WRONG_TENANT: event(bank, tenant="t1"),
        Reason.MISSING_FEATURE: event(bank, amount=None),
        Reason.NON_FINITE: event(bank, risk=float("nan")),
        Reason.OVERSIZE: event(bank, id="x" * 2000),
    }
    values = [value for one in bad.values() for value in (good, one)] + [None]
    answer = scorer.score(batch([bank.topic("events", "t0")] * len(values), values), 1)
    letters = bank.topic("dlq", "t0")
    wanted = {2 * place + 1: (reason, letters) for place, reason in enumerate(bad)}
    assert reasons(answer) == wanted | {len(values) - 1: (Reason.UNDECODABLE, letters)}
    assert answer.rows == list(range(0, len(values) - 1, 2))
    assert set(answer.topics) == {bank.topic("scores", "t0")}


def test_a_model_that_raises_costs_the_record_that_makes_it(bank: Bank) -> None:
    """Found by halving; the rest of the batch is scored, to the same bits as without it."""
    scorer = scorer_of(bank, bank.document(live="raises", shadow=()))
    values = [event(bank, id=f"e{n}", amount=RAISES_AT if n == 5 else float(n)) for n in range(12)]
    topics = [bank.topic("events", "t0")] * 12
    answer = scorer.score(batch(topics, values), 1)
    assert reasons(answer) == {5: (Reason.SCORING_ERROR, bank.topic("dlq", "t0"))}
    alone = scorer.score(batch(topics[:3], values[:3]), 1)
    assert answer.values[:3] == alone.values


def test_an_unforeseen_fault_is_halved_down_to_its_record(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever raises, one record pays."""
    scorer = scorer_of(bank, bank.document())
    read = scorer._reader.read

    def poisoned(given: Batch, *, ids: bool) -> Any:
        if b"k3" in given.keys:
            raise ZeroDivisionError("planted")
        return read(given, ids=ids)

    monkeypatch.setattr(scorer._reader, "read", poisoned)
    values = [event(bank, id=f"e{n}") for n in range(7)]
    answer = scorer.score(batch([bank.topic("events", "t0")] * 7, values), 1)
    assert reasons(answer) == {3: (Reason.SCORING_ERROR, bank.topic("dlq", "t0"))}
    assert answer.rows == [0, 1, 2, 4, 5, 6]
    assert [one["event_id"] for one in records(answer, "score.avsc")] == ["e0", "e1", "e2", "e4", "e5", "e6"]


def test_a_score_says_where_it_comes_from(bank: Bank) -> None:
    """All fields of the record, over two tenants in one batch."""
    scorer = scorer_of(bank, bank.document())
    topics = [bank.topic("events", "t0"), bank.topic("events", "t1")]
    answer = scorer.score(batch(topics, [event(bank), event(bank, id="e2", tenant="t1")]), 99)
    first, second = records(answer, "score.avsc")
    assert {k: v for k, v in second.items() if k not in ("score", "aggregate", "event_time", "scored_at")} == {
        "event_id": "e2",
        "tenant": "t1",
        "predictor": "plain",
        "predictor_version": 1,
        "generation": 7,
        "source_topic": bank.topic("events", "t1"),
        "source_partition": 0,
        "source_offset": 1,
        "attempt": 99,
    }
    assert first["score"] == second["score"]
    assert first["scored_at"].timestamp() * 1000 == NOW
    assert first["event_time"].timestamp() * 1000 == AT
    assert answer.topics == [bank.topic("scores", "t0"), bank.topic("scores", "t1")]


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_an_answer_is_traced_to_its_event_and_attempt(bank: Bank, role: Role) -> None:
    """What no such answer is has no origin, and does not disturb its neighbours."""
    scorer = scorer_of(bank, bank.document(), role)
    topics = [bank.topic("events", "t0"), bank.topic("events", "t1")]
    answer = scorer.score(batch(topics, [event(bank), event(bank, id="e2", tenant="t1")]), (1 << 62) + 5)
    first, second = answer.values
    found = scorer.origins([first, None, b"", b"a stranger's", second, event(bank)])
    wanted: list[Origin] = [Origin(topic, 0, offset, (1 << 62) + 5) for offset, topic in enumerate(topics)]
    assert found == [wanted[0], None, None, None, wanted[1], None]


def test_shadow_repeats_the_live_score_and_writes_no_dead_letter(bank: Bank) -> None:
    """The audit record stands beside the live bits; what live refuses, shadow passes over."""
    path = bank.document(live="plain", shadow=("retrained", "raises"))
    live, shadow = scorer_of(bank, path), scorer_of(bank, path, "shadow")
    amounts = [3.0, RAISES_AT, None, 80.0]
    values = [event(bank, id=f"e{n}", amount=amount) for n, amount in enumerate(amounts)]
    topics = [bank.topic("events", "t0")] * 4
    scores = {one["event_id"]: one["score"] for one in records(live.score(batch(topics, values), 1), "score.avsc")}
    answer = shadow.score(batch(topics, values), 1)
    audit = records(answer, "audit.avsc")
    assert answer.dead == []
    assert {one["event_id"] for one in audit} == {"e0", "e1", "e3"} == set(scores)
    assert all(one["live_score"] == scores[one["event_id"]] for one in audit)
    failed = {(one["predictor"], one["event_id"]) for one in audit if one["score"] is None}
    assert failed == {("raises", "e1")}
    assert [one["error"] is not None for one in audit] == [one["score"] is None for one in audit]
    assert all([expert["name"] for expert in one["experts"]] == [one["predictor"]] for one in audit)


def shared(document: Any, source: dict[str, str]) -> None:
    document["topics"]["events"] = "all.events"
    document["events"]["payment"]["tenant"] = source


@pytest.mark.parametrize("source", [{"field": "tenant"}, {"header": "x-tenant"}])
def test_a_shared_topic_takes_the_tenant_from_the_event(bank: Bank, source: dict[str, str]) -> None:
    """By field or header; an event of nobody goes to the lane's own dead letters."""
    scorer = scorer_of(bank, changed(bank.document(), lambda document: shared(document, source)))
    named = ["t1", "t0", "nobody", "t1"]
    values = [event(bank, id=f"e{n}", tenant=name) for n, name in enumerate(named)]
    headers: list[list[Header]] = [[("x-tenant", name.encode())] for name in named]
    answer = scorer.score(batch(["all.events"] * 4, values, headers), 1)
    assert answer.topics == [bank.topic("scores", name) for name in ("t1", "t0", "t1")]
    assert reasons(answer) == {2: (Reason.UNKNOWN_TENANT, "muse.dlq.bank")}
    assert bank.topic("scores", "t0") in scorer.topology.outputs["all.events"]
    assert "muse.dlq.bank" in scorer.topology.outputs["all.events"]


def test_formats_mix_in_one_batch(bank: Bank) -> None:
    """Two event formats, three tenants: rows come back in the batch's order."""

    def other_format(document: Any) -> None:
        document["events"]["other"] = {"schema": "other.avsc", "id": "key"}
        document["tenants"]["t1"]["event"] = "other"

    other = SCHEMA.replace("Payment", "Other").replace(
        '"name": "id", "type": "string"', '"name": "key", "type": "long"'
    )
    (bank.folder / "schemas" / "other.avsc").write_text(other, encoding="utf-8")
    scorer = scorer_of(bank, changed(bank.document(), other_format))
    schema = SchemaDirectory.open(bank.folder / "schemas").by_file("other.avsc")
    columns = {"key": [12], "at": [AT], "tenant": ["whoever"], "amount": [40.0], "risk": [0.3]}
    foreign = Encoder(schema).encode(columns, 1)[0]
    names = ["t1", "t0", "t1"]
    answer = scorer.score(batch([bank.topic("events", name) for name in names], [foreign, event(bank), foreign]), 1)
    found = records(answer, "score.avsc")
    assert [one["event_id"] for one in found] == ["12", "e1", "12"]
    assert len({one["score"] for one in found}) == 1
    assert found[0]["event_time"].timestamp() * 1000 == NOW  # the format names no time: Kafka's counts


def test_the_same_event_has_the_same_bits_in_any_company(bank: Bank) -> None:
    """Alone, in a batch, in either role."""
    path = bank.document()
    live, shadow = scorer_of(bank, path), scorer_of(bank, path, "shadow")
    random = np.random.default_rng(3)
    values = [
        event(bank, id=f"e{n}", amount=float(a), risk=float(r)) for n, (a, r) in enumerate(random.random((64, 2)))
    ]
    topic = bank.topic("events", "t0")
    whole = {one["event_id"]: one["score"] for one in records(live.score(batch([topic] * 64, values), 1), "score.avsc")}
    for number in (0, 17, 63):
        (alone,) = records(live.score(batch([topic], [values[number]]), 1), "score.avsc")
        (audited,) = records(shadow.score(batch([topic], [values[number]]), 1), "audit.avsc")
        assert alone["score"] == whole[f"e{number}"] == audited["live_score"]


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_a_lane_without_tenants_reads_nothing_and_knows_where_they_are(bank: Bank, role: Role) -> None:
    """Its workers have to let go of what they had: a run that is started for such a lane is refused before."""
    scorer = build_scorer(load_document(bank.document()), 1, role, "nowhere")
    scorer.warm()
    assert (scorer.topology.outputs, {*scorer.topology.elsewhere.values()}) == ({}, {f"muse.{bank.name}.{role}"})


def test_a_generation_offers_the_limits_of_its_document(bank: Bank) -> None:
    """A worker asks the scorer it serves, at every swap."""
    assert scorer_of(bank, bank.document()).limits == BatchLimits(10_000, 0.005)
    tight = changed(bank.document(), lambda document: document.update(limits={"max_batch": 7, "linger_ms": 2.5}))
    assert scorer_of(bank, tight).limits == BatchLimits(7, 0.0025)


def test_the_model_limit_of_each_generation_is_its_own(bank: Bank) -> None:
    """A process that compiles one generation after the other keeps its models, not the first one's limit."""
    size = (bank.folder / "plain.onnx").stat().st_size
    first = scorer_of(bank, bank.document())

    def compiled(limit: int) -> GenerationScorer:
        path = changed(bank.document(), lambda document: document.update(limits={"model_bytes": limit}))
        return build_scorer(load_document(path), 8, "live", bank.name, first.cache)

    with pytest.raises(ConfigError, match=r"limits\.model_bytes"):
        compiled(size - 1)
    compiled(size)
