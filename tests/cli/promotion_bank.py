"""A bank for promotions: the example configuration in a store, and topics that hold what a test puts there."""

import shutil
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from muse_stream.avro import RowEncoder
from muse_stream.cli.main import main
from muse_stream.config import KafkaSettings, load_document
from muse_stream.control import Note, open_store
from muse_stream.kafka import client
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.testing import Broker, Redis
from tests.config.example_config import ROOT

Floats = NDArray[np.float64]
BOTH_STORES = pytest.mark.parametrize(
    "bank", ["directory", pytest.param("redis", marks=pytest.mark.slow)], indirect=True
)
"""What a promotion needs of a store is tried on both by tests/control; the whole way on Redis is in `make test-all`."""
"""For tests of what a store must promise: a bank in each of them."""
REGION = "  - when: {region: [br, mx]}\n    live: cautious\n    shadow: [unmapped]\n"
RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}


def store_for(request: pytest.FixtureRequest, mark: str) -> str:
    """Return the address of a store that is no folder, where the test asks for one (`BOTH_STORES`)."""
    if getattr(request, "param", "directory") == "directory":
        return ""
    redis: Redis = request.getfixturevalue("redis")
    return f"{redis.url}?prefix={mark}"


_AUDITED: dict[tuple[object, ...], list[bytes]] = {}
"""Records that were made before: most tests begin with the same."""


class Bank:
    """A store with the example, and an audit topic that holds what a test puts there."""

    def __init__(self, kafka: Broker, folder: Path, mark: str, store: str = "") -> None:
        shutil.copytree(ROOT, folder / "config")
        self.mark = mark
        """What the names of its topics and groups begin with."""
        self.file = folder / "config" / "muse.yaml"
        self.file.write_text(
            self.file.read_text()
            .replace(REGION, "")
            .replace("namespace: muse", f"namespace: {mark}")
            .replace("muse.", f"{mark}.")
            .replace("globex.risk", f"{mark}.risk")
        )
        self.store = store or str(folder / "store")
        loaded = load_document(self.file)
        with closing(open_store(self.store)) as opened:  # not by the command, which scores to check: 0.1 s of CPU
            opened.move_current(None, opened.publish(loaded, Note()), Note())
        assert main(["topics", self.store, "--partitions", "2", "--replication", "1"]) == 0
        self._producer = client.producer(KafkaSettings.from_environment())
        self._schemas = output_schemas()
        self._document = loaded.document
        self._written = 0

    def audit(
        self,
        tenant: str,
        live: Floats,
        candidate: Floats | list[float | None],
        *,
        generation: int = 1,
        channel: str = "pos",
        predictors: tuple[str, str] = ("cards", "cards-next"),
        entities: int | None = None,
    ) -> None:
        """Write one record for each event."""
        shape = (tenant, live.tobytes(), tuple(candidate), generation, channel, predictors, self._written)
        if shape not in _AUDITED:
            _AUDITED[shape] = self._records(tenant, live, candidate, generation, channel, predictors)
        self._written += len(live)
        topic = self._document.tenant_topics(tenant).audit
        for row, record in enumerate(_AUDITED[shape]):
            key = f"card-{row if entities is None else row % entities}"
            self._producer.produce(topic, record, key)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def _records(
        self,
        tenant: str,
        live: Floats,
        candidate: Floats | list[float | None],
        generation: int,
        channel: str,
        predictors: tuple[str, str],
    ) -> list[bytes]:
        encoder = RowEncoder(self._schemas.by_file("audit.avsc"))
        return [
            encoder.encode({
                "event_id": f"{tenant}-{number}", "tenant": tenant,
                "intent": {"tenant": tenant, "channel": channel},
                "predictor": predictors[1], "predictor_version": 4, "score": score, "aggregate": score,
                "error": None if score is not None else "no", "experts": [], "live_predictor": predictors[0],
                "live_predictor_version": 3, "live_score": of_live, "live_aggregate": of_live, "generation": generation,
                "event_time": 1, "scored_at": 1_780_000_000_000 + number, "source_topic": "t",
                "source_partition": 0, "source_offset": number, "attempt": 1, "live_generation": generation,
            })
            for number, (of_live, score) in enumerate(zip(live, candidate, strict=True), start=self._written + 1)
        ]  # fmt: skip

    def score(self, tenant: str, ages_ms: Floats, *, generation: int) -> None:
        """Write a score for each event, which was so old when it was scored."""
        encoder = RowEncoder(self._schemas.by_file("score.avsc"))
        topic = self._document.tenant_topics(tenant).scores
        now = time.time_ns() // 1_000_000
        for age in ages_ms.tolist():
            self._written += 1
            record = {
                "event_id": f"{tenant}-{self._written}", "tenant": tenant, "predictor": "cards", "predictor_version": 1,
                "score": 0.5, "aggregate": 0.5, "generation": generation, "event_time": now - int(age),
                "scored_at": now, "source_topic": "t", "source_partition": 0, "source_offset": self._written,
                "attempt": 1,
            }  # fmt: skip
            self._producer.produce(topic, encoder.encode(record))
            self._producer.poll(0)
        assert self._producer.flush(30) == 0

    def refuse(self, tenant: str, count: int, *, generation: int) -> None:
        """Write dead letters."""
        for number in range(count):
            facts = {"source.topic": "t", "source.partition": 0, "source.offset": number, "reason": "undecodable",
                     "stage": "decode", "generation": generation, "attempt": 1, "tenant": tenant}  # fmt: skip
            headers: list[tuple[str, str | bytes | None]] = [
                (f"muse.{name}", str(value).encode()) for name, value in facts.items()
            ]
            self._producer.produce(self._document.tenant_topics(tenant).dlq, b"x", headers=headers)
        assert self._producer.flush(30) == 0

    def change(self, old: str, new: str) -> int:
        """Publish something else."""
        self.file.write_text(self.file.read_text().replace(old, new))
        assert main(["publish", str(self.file), self.store, "--yes", "--replace", "--force", "a test"]) == 0
        return self.current() or 0

    def current(self) -> int | None:
        return open_store(self.store).current()


def scores(count: int, seed: int, shift: float = 1.0) -> Floats:
    """Scores that keep the promise exactly, or raise `shift` times as many alerts."""
    levels = (np.random.default_rng(seed).permutation(count) + 0.5) / count
    levels = 1.0 - np.minimum((1.0 - levels) / shift, 1.0)
    return np.interp(levels, [0, *(1 - rate for rate in RATES.values()), 1], [0, *RATES, 1])
