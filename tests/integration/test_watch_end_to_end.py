"""`promote` and `watch` with workers that run: promoted on real evidence, drifted on live traffic, taken back, served.

Events are chosen by what both predictors answer, so that every rate in the test is exact: nothing is drawn.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import muse_stream
from muse_stream import testing
from muse_stream.avro import RowEncoder, SchemaDirectory
from muse_stream.cli.main import main
from muse_stream.commands.status import look as status
from muse_stream.commands.watch import WATCH_LEASE, Rules, Watch
from muse_stream.config import KafkaSettings, promote
from muse_stream.control import Lease, open_store
from muse_stream.telemetry import logger
from muse_stream.testing import Broker, ToSend
from tests.cli.promotion_bank import Bank
from tests.integration.fleet import Fleet
from tests.integration.witness import Witness, broken_promises
from tests.patience import until

WHERE = {"tenant": ["acme"], "channel": ["pos"]}
EDGES = [0.2, 0.5, 0.6, 0.8]
PROMISED = [0.30, 0.35, 0.25, 0.05, 0.05]
"""Shares of the bins between the edges."""
PARTITIONS = 2


class Traffic:
    """Events of acme whose scores by `cards` and by `cards-next` are known."""

    def __init__(self, bank: Bank, bootstrap: str) -> None:
        self._bank, self._bootstrap, self.sent = bank, bootstrap, 0
        drawn = np.random.default_rng(1)
        count = 20_000
        self._columns: dict[str, Any] = {
            "amount": drawn.gamma(1.0, 60.0, count),
            "cross_border": drawn.random(count) < 0.3,
            "terminal.risk_7d": drawn.random(count) ** 2,
            "customer.age": drawn.integers(18, 90, count).astype(float),
            "customer.tx_per_day": drawn.gamma(2.0, 1.0, count),
        }
        table = {"id": [str(n) for n in range(count)], "tenant": "acme", "channel": "pos", "region": "pt"}
        other = bank.file.with_name("next.yaml")
        other.write_text(promote(bank.file.read_text(), "cards-next", WHERE).text)
        old, new = (
            np.digitize(np.asarray(muse_stream.load(path).score({**table, **self._columns})["score"]), EDGES)
            for path in (bank.file, other)
        )
        self._alike = [np.flatnonzero((old == one) & (new == one)) for one in range(len(PROMISED))]
        self._apart = np.flatnonzero((old < 4) & (new == 4))
        """Alerts of `cards-next` alone, at the highest threshold."""
        schemas = SchemaDirectory.open(bank.file.parent / "schemas")
        self._encoder = RowEncoder(schemas.by_file("card-event.avsc"))
        self.counts: dict[tuple[str, int], int] = {}

    def send(self, count: int, *, apart: float = 0.0) -> None:
        """Produce events at the promised rates; a share `apart` beside them only `cards-next` takes for fraud."""
        rows = [np.resize(found, round(count * share)) for found, share in zip(self._alike, PROMISED, strict=True)]
        chosen = np.concatenate([*rows, np.resize(self._apart, round(count * apart))])
        records = list(self._records(np.random.default_rng(2).permutation(chosen).tolist()))
        testing.produce(self._bootstrap, records, {"linger.ms": 5})
        for one in records:
            self.counts[one.topic, one.partition or 0] = self.counts.get((one.topic, one.partition or 0), 0) + 1

    def _records(self, rows: list[int]) -> Iterator[ToSend]:
        topic = f"{self._bank.mark}.events.acme"
        for row in rows:
            event = {name: values[row].item() for name, values in self._columns.items()}
            record = {
                "transaction_id": f"tx-{self.sent}", "event_time": 1_780_000_000_000 + self.sent, "tenant": "acme",
                "channel": "pos", "amount": event["amount"], "cross_border": event["cross_border"],
                "terminal": {"id": "T1", "risk_7d": event["terminal.risk_7d"]},
                "customer": {"age": int(event["customer.age"]), "tx_per_day": event["customer.tx_per_day"]},
            }  # fmt: skip
            yield ToSend(topic, self.sent % PARTITIONS, self._encoder.encode(record))
            self.sent += 1


@pytest.mark.long  # workers, a promotion and 20,000 events; tests/cli/test_watch_promotions.py has every verdict
@pytest.mark.timeout(300)
def test_a_predictor_that_doubles_an_alert_rate_on_live_traffic_is_taken_back(
    kafka: Broker, tmp_path: Path, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    bank = Bank(kafka, tmp_path, unique("e"))
    traffic = Traffic(bank, kafka.bootstrap)
    store = open_store(bank.store)
    scores, letters, audit = (f"{bank.mark}.{kind}.acme" for kind in ("scores", "dlq", "audit"))
    alone: dict[str, Any] = {"workers": 1}
    with (
        Fleet(kafka.bootstrap, bank.store, "live", "main", tmp_path / "live.log", **alone) as live,
        Fleet(kafka.bootstrap, bank.store, "shadow", "main", tmp_path / "shadow.log", **alone) as shadow,
        Witness(kafka.bootstrap, [scores], [letters], PARTITIONS, "score.avsc") as answers,
        Witness(kafka.bootstrap, [audit], [], PARTITIONS, "audit.avsc") as audited,
    ):
        traffic.send(2000)
        audited.wait_for(traffic.sent, 60)
        words = ["promote", "cards-next", "--store", bank.store, "--when", "tenant=acme,channel=pos", "--yes"]
        assert main(words) == 0, "its evidence is that it keeps every promise"
        for fleet in (live, shadow):
            fleet.wait_generation(2)
        with Lease(store, WATCH_LEASE, "a test") as lease:
            watch = Watch(store, KafkaSettings.from_environment(), Rules("rollback"), logger("watch"), lease)
            with closing(watch):
                traffic.send(1000)
                audited.wait_for(traffic.sent, 60)
                assert {one.state for one in watch.look().seen} == {"kept"}
                traffic.send(2000, apart=0.10)
                audited.wait_for(traffic.sent, 60)
                until(lambda: watch.look().rolled_back == (3,), 30, lambda: f"{watch.look()}")
        for fleet in (live, shadow):
            fleet.wait_generation(3)
        mark = traffic.sent
        traffic.send(200)
        answers.wait_for(traffic.sent, 60)
        until(lambda: status(store).convergence == "2 of 2 workers on 3", 60, lambda: status(store).convergence)
        assert (live.stop(), shadow.stop()) == (0, 0)
    assert broken_promises(answers.seen, traffic.counts) == []
    by_generation = {one.body["generation"]: one.body["predictor"] for one in answers.seen}
    assert by_generation == {1: "cards", 2: "cards-next", 3: "cards"}
    assert {one.body["generation"] for one in answers.seen if int(one.body["event_id"][3:]) >= mark} == {3}
    evidence = store.manifest(3).evidence
    assert evidence is not None
    assert (evidence["rolled_back"], evidence["by"], evidence["tenants"]) == ("cards-next", "watch", ["acme"])
    highest = next(one["numbers"] for one in evidence["reasons"] if one["numbers"]["threshold"] == 0.8)
    assert highest["new"] > 1.5 * highest["old"]
