"""What Prometheus sees of tenants: the counters are what a reader of committed records finds, whatever was aborted."""

import io
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from muse_stream.config import Role, load_document, pre_map_hash
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.batch_scorer import build_scorer
from muse_stream.runtime.worker_metrics import WorkerMeter
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import failpoints, paused_topics
from muse_stream.worker.batch import Scorer
from muse_stream.worker.failpoints import Failpoint
from muse_stream.worker.poison import Guard, InHand, Suspects
from muse_stream.worker.slot import SlotName, open_worker
from tests.integration.bank import PARTITIONS, Bank
from tests.patience import PATIENCE
from tests.runtime.test_batch_scorer import changed
from tests.runtime.test_worker_metrics import page, shown
from tests.worker.doubles import ListLog, await_true
from tests.worker.rig import ledger

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
THRESHOLDS = {0.2: 0.7, 0.5: 0.35, 0.8: 0.05}
Counts = dict[tuple[tuple[str, str], ...], float]


@pytest.fixture
def bank(tmp_path: Path, unique: Unique, make_topic: MakeTopic) -> Bank:
    """Two tenants with all their topics."""
    name = unique("bank")
    made = Bank(tmp_path / name, name)
    for topic in made.topics():
        make_topic(name=topic, partitions=PARTITIONS)
    return made


def promising(bank: Bank, change: Callable[[Any], None] = lambda _document: None) -> Path:
    """A configuration whose predictors promise alert rates; batches are small, so that there are many."""

    def promise(document: Any) -> None:
        document["references"] = {"standard": {"alert_rates": THRESHOLDS}}
        document["limits"] = {"max_batch": 50}
        change(document)

    path = changed(bank.document(), promise)
    loaded = load_document(path).document

    def mapped(document: Any) -> None:
        levels = {"levels": [0, 0.5, 1], "values": [0, 0.2, 1], "samples": 9}
        document["maps"] = {
            name: {"fitted_for": pre_map_hash(loaded, name), **levels} for name in document["predictors"]
        }
        for name, predictor in document["predictors"].items():
            predictor["quantile_map"] = {"reference": "standard", "default": name}

    return changed(path, mapped)


@dataclass
class Running:
    """A real worker with its real scorer and meter, in a thread."""

    meter: WorkerMeter
    log: ListLog
    scorers: list[Scorer]

    def series(self, name: str) -> Counts:
        return shown(self.meter).get(name, {})

    def of_tenant(self, name: str, tenant: str) -> float:
        return self.series(name).get((("tenant", tenant),), -1.0)


@contextmanager
def running(
    kafka: Broker, bank: Bank, scorer: Scorer, role: Role = "live", failpoint: Failpoint = failpoints.nothing
) -> Iterator[Running]:
    ours = Running(WorkerMeter(role, bank.name, 0), ListLog(), [scorer])
    worker = open_worker(
        KafkaSettings(bootstrap=kafka.bootstrap),
        SlotName(role, bank.name, "test", 0),
        lambda: ours.scorers.pop() if ours.scorers else None,
        meter=ours.meter,
        log=ours.log,
        failpoint=failpoint,
        guard=Guard(InHand(get_context("spawn")), Suspects()),
    )
    thread = threading.Thread(target=lambda: worker.run(leave=lambda: True), daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        worker.stop()
        thread.join(30 * PATIENCE)
        assert not thread.is_alive(), ours.log.tail()


def decoded(message: Message, schema: str) -> Any:
    parsed = fastavro.parse_schema(json.loads(output_schemas().by_file(schema).text))
    return fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[10:]), parsed)


def counted(records: list[Any]) -> tuple[Counts, Counts]:
    """Scores by tenant and predictor, and those at or above each threshold, by a plain loop."""
    whole, reaching = Counter[Any](), Counter[Any]()
    for one in records:
        pair = ("predictor", one["predictor"]), ("tenant", one["tenant"])
        whole[pair] += 1
        for threshold in THRESHOLDS:
            place = (*pair, ("threshold", repr(threshold)))
            reaching[tuple(sorted(place))] += one["score"] >= threshold
    return dict(whole), dict(reaching)


def fails_at(*strikes: tuple[str, int]) -> Failpoint:
    """A fail point that loses the connection, so to speak, at one pass through each of some steps."""
    passes = {step: itertools.count(1) for step, _ in strikes}

    def strike(name: str) -> None:
        if name in passes and (name, next(passes[name])) in strikes:
            raise Abortable("struck by the test", code="_TIMED_OUT")

    return strike


def test_counters_are_what_a_reader_of_committed_records_finds(kafka: Broker, bank: Bank) -> None:
    """Over a transaction that is aborted and done again, and over one that stands although it looked lost."""
    good = bank.events(600)
    events = [(tenant, part, b"bad" if n % 40 == 7 else value) for n, (tenant, part, value) in enumerate(good)]
    bank.produce(kafka.bootstrap, events)
    scorer = build_scorer(load_document(promising(bank)), 1, "live", bank.name)
    outputs = dict.fromkeys(bank.topics(("scores", "dlq")), PARTITIONS)
    with (
        running(kafka, bank, scorer, failpoint=fails_at(("after-flush", 2), ("after-commit", 5))) as ours,
        ledger(kafka.bootstrap, **outputs) as found,
    ):
        found.until(600)
        await_true(lambda: ours.series("muse_events_committed_total") == {(): 600.0}, "all are counted")
        found.to_end()
        assert len(found.messages) == 600
        scores = [one for kind in bank.topics(("scores",)) for one in found.on(kind)]
        whole, reaching = counted([decoded(one, "score.avsc") for one in scores])
        assert ours.series("muse_scores_total") == whole
        assert ours.series("muse_scores_at_or_above_total") == reaching
        letters = Counter(topic.rsplit(".", 1)[1] for topic in bank.topics(("dlq",)) for _ in found.on(topic))
        assert ours.series("muse_dead_letters_total") == {
            (("reason", "undecodable"), ("tenant", tenant)): count for tenant, count in letters.items()
        }
        assert ours.series("muse_aborts_total")[(("code", "_TIMED_OUT"),)] >= 2.0, (
            "a busy machine may be late by itself"
        )
        assert ours.series("muse_events_total")[()] > 600, "what was aborted was scored twice"


def test_a_shadow_worker_counts_its_shadows(kafka: Broker, bank: Bank) -> None:
    bank.produce(kafka.bootstrap, bank.events(200))
    scorer = build_scorer(load_document(promising(bank)), 1, "shadow", bank.name)
    with (
        running(kafka, bank, scorer, "shadow") as ours,
        ledger(kafka.bootstrap, **dict.fromkeys(bank.topics(("audit",)), PARTITIONS)) as found,
    ):
        found.until(200)
        await_true(lambda: ours.series("muse_events_committed_total") == {(): 200.0}, "all are counted")
        whole, reaching = counted([decoded(one, "audit.avsc") for one in found.to_end().messages])
        assert ours.series("muse_shadow_scores_total") == whole
        assert ours.series("muse_shadow_scores_at_or_above_total") == reaching


def test_over_a_swap_counters_go_on_and_who_left_is_gone(kafka: Broker, bank: Bank) -> None:
    bank.produce(kafka.bootstrap, bank.events(200))
    first = build_scorer(load_document(promising(bank)), 1, "live", bank.name)
    both = build_scorer(load_document(promising(bank)), 2, "live", bank.name)

    def without(document: Any) -> None:
        del document["tenants"]["t1"]

    alone = build_scorer(load_document(promising(bank, without)), 3, "live", bank.name)
    with running(kafka, bank, first) as ours:
        await_true(lambda: ours.series("muse_events_committed_total") == {(): 200.0}, "all are counted")
        before = ours.series("muse_scores_total")
        assert before == {(("predictor", "plain"), ("tenant", name)): 100.0 for name in ("t0", "t1")}
        ours.scorers.append(both)
        await_true(lambda: ours.series("muse_generation") == {(): 2.0}, "the swap")
        assert ours.series("muse_scores_total") == before
        bank.produce(kafka.bootstrap, bank.events(200))
        await_true(lambda: ours.series("muse_events_committed_total") == {(): 400.0}, "all are counted")
        assert ours.series("muse_scores_total") == dict.fromkeys(before, 200.0)
        ours.scorers.append(alone)
        await_true(lambda: ours.series("muse_generation") == {(): 3.0}, "the swap")
        assert '"t1"' not in page(ours.meter)
        assert ours.series("muse_scores_total") == {(("predictor", "plain"), ("tenant", "t0")): 200.0}


def test_a_paused_tenant_shows_and_its_age_and_lag_go_on(
    kafka: Broker, bank: Bank, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output is missing: what waits there is known without being read, and grows old by its own timestamp."""
    monkeypatch.setattr(paused_topics, "RETRY_S", 0.3)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    missing = bank.topic("scores", "t1")
    admin.delete_topics([missing])[missing].result(60)
    await_true(lambda: missing not in admin.list_topics(timeout=60).topics, "the broker knows of it, too")
    began = time.time()
    bank.produce(kafka.bootstrap, bank.events(100))
    age, lag = "muse_tenant_oldest_unscored_age_seconds", "muse_tenant_lag_events"
    with running(kafka, bank, build_scorer(load_document(promising(bank)), 1, "live", bank.name)) as ours:
        await_true(lambda: ours.series("muse_events_committed_total") == {(): 50.0}, "the other tenant is answered")
        await_true(lambda: ours.of_tenant(lag, "t1") == 50.0, "the end of a partition that was never read")
        paused = {(("tenant", "t0"),): 0.0, (("tenant", "t1"),): 1.0}
        await_true(lambda: ours.series("muse_tenant_paused") == paused, "it is paused, and the other one is not")
        await_true(lambda: ours.of_tenant(lag, "t0") == 0.0 == ours.of_tenant(age, "t0"), "nothing waits there")
        oldest = ours.of_tenant(age, "t1")
        assert 0.0 < oldest <= time.time() - began + 1.0
        bank.produce(kafka.bootstrap, bank.events(100))
        await_true(lambda: ours.of_tenant(lag, "t1") == 100.0, "what came since")
        assert ours.of_tenant(age, "t1") > oldest
        make_topic(name=missing, partitions=PARTITIONS)
        await_true(lambda: ours.of_tenant("muse_tenant_paused", "t1") == 0.0, "it goes on")
        await_true(lambda: ours.of_tenant(lag, "t1") == 0.0 == ours.of_tenant(age, "t1"), "and nothing waits")
        assert sum(ours.series("muse_scores_total").values()) == 200.0
