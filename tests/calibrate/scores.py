"""Scores of a small bank, as workers would have written them, and the role that counts them.

The configuration is the project's example under topics of its own; score and audit records are encoded with the
project's schemas, so that a test says what they hold.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from msgspec.structs import replace

from muse_stream import telemetry, testing
from muse_stream.avro import Encoder
from muse_stream.calibration import DayCounts
from muse_stream.config import load_document
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.control import Store, open_store
from muse_stream.runtime import calibrate, supervisor
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.refreshing import Refresher, RefreshWith
from muse_stream.testing import ToSend
from tests.forked import ROOT, Forked
from tests.patience import PATIENCE, until
from tests.runtime.test_batch_scorer import changed


class Scores:
    """Tenants `acme` and `globex` on topics that begin with a name of their own, and what was written there."""

    def __init__(self, folder: Path, name: str, store: str, refresh: Mapping[str, Any] | None = None) -> None:
        """`refresh`: what stands under that key, and tenant -> policy under `policies`."""
        self._refresh = dict(refresh or {})
        self.name, self.folder, self.address = name, folder, store
        self.store: Store = open_store(store)
        self.written: Counter[tuple[str, str]] = Counter()
        """Records by tenant and predictor."""
        self.document = changed(folder / "muse.yaml", self._own)

    def _own(self, document: Any) -> None:
        document["topics"] = {kind: f"{self.name}.{kind}.{{tenant}}" for kind in ("events", "scores", "audit", "dlq")}
        document["topics"]["unknown"] = f"{self.name}.unknown.{{lane}}"
        for tenant in document["tenants"].values():
            tenant.pop("topics", None)
            tenant["lane"] = self.name
        for name, policy in self._refresh.pop("policies", {}).items():
            document["tenants"][name]["refresh"] = policy
        if self._refresh:
            document["refresh"] = self._refresh

    def publish(self) -> int:
        """Make the configuration current."""
        number = self.store.publish(load_document(self.document))
        self.store.move_current(self.store.current(), number)
        return number

    def counting(self, bootstrap: str, log: Path, **options: Any) -> "Counting":
        """Run the role on what is written here."""
        return Counting(self.address, self.name, {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}, log, **options)

    def topic(self, kind: str, tenant: str) -> str:
        return f"{self.name}.{kind}.{tenant}"

    def encoded(
        self,
        tenant: str,
        aggregates: Sequence[float] | np.ndarray,
        *,
        kind: str = "scores",
        predictor: str = "cards",
        **own: Any,
    ) -> list[bytes]:
        """Return records whose score is the aggregate, unless `own` says otherwise."""
        schemas, rows = output_schemas(), len(aggregates)
        columns: dict[str, Any] = {
            "event_id": [f"e{number}" for number in range(rows)],
            "tenant": tenant,
            "predictor": predictor,
            "predictor_version": 3,
            "score": np.asarray(aggregates, dtype=np.float64),
            "aggregate": np.asarray(aggregates, dtype=np.float64),
            "generation": 1,
            "event_time": int(time.time() * 1000),
            "scored_at": int(time.time() * 1000),
            "source_topic": "events",
            "source_partition": 0,
            "source_offset": np.arange(rows),
            "attempt": 1,
        }
        if kind == "audit":
            lived = {"live_predictor": "cards", "live_predictor_version": 3, "live_score": 0.5, "live_aggregate": 0.5}
            columns |= lived | {"intent": [{}] * rows, "experts": [[]] * rows}
        schema = schemas.by_file("score.avsc" if kind == "scores" else "audit.avsc")
        return Encoder(schema).encode(columns | own, rows)

    def write(
        self,
        bootstrap: str,
        tenant: str,
        aggregates: Sequence[float] | np.ndarray,
        *,
        kind: str = "scores",
        partitions: int = 1,
        keys: int = 20,
        **own: Any,
    ) -> None:
        """Put records onto a topic, round robin, with so many keys."""
        values = self.encoded(tenant, aggregates, kind=kind, **own)
        topic = self.topic(kind, tenant)
        testing.produce(
            bootstrap,
            (ToSend(topic, n % partitions, value, f"card{n % keys}".encode()) for n, value in enumerate(values)),
            {"linger.ms": 5},
        )
        self.written[tenant, own.get("predictor", "cards")] += len(values)

    def counts(self) -> list[DayCounts]:
        """Return what is stored."""
        return stored(self.store)

    def counted(self) -> Counter[tuple[str, str]]:
        """Return the events that are counted, by tenant and predictor."""
        found: Counter[tuple[str, str]] = Counter()
        for one in self.counts():
            found[one.tenant, one.predictor] += one.events
        return found


def stored(store: Store) -> list[DayCounts]:
    """Return all counts of a store."""
    return [DayCounts.from_bytes(store.durable(name) or b"") for name in store.durables("counts~")]


class Counting:
    """A running `run --role calibrate`."""

    def __init__(
        self,
        store: str,
        lane: str,
        kafka: Mapping[str, str],
        log: Path,
        *,
        workers: int = 1,
        failpoints: str = "",
        look_s: float = 900.0,
        holds: Path | None = None,
        trusted: Path | None = None,
    ) -> None:
        """`kafka`: the variables that say how to reach it; `look_s`: between two looks for drift, infinite for none.

        `holds`: refreshes are held up while this file is there; one of the same name with `.at` says that one is.
        `trusted`: public keys; it is the program then, as it is called, with looks every 900 s.
        """
        self.log, self._workers = log, workers
        payload = json.dumps([store, lane, workers, look_s, str(holds or "")])
        environment = {**os.environ, **kafka, "MUSE_FAILPOINTS": failpoints}
        with log.open("ab") as out:
            if trusted is None:
                self.process: Forked | subprocess.Popen[bytes] = Forked(
                    "tests.calibrate.scores:main",
                    payload,
                    stdout=out.fileno(),
                    stderr=out.fileno(),
                    environment=environment,
                )
            else:
                command = [sys.executable, "-m", "muse_stream", "run", "--role", "calibrate", "--lane", lane]
                command += ["--store", store, "--store-every", "0.2", "--trusted-keys", str(trusted)]
                self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[psutil.Process]:
        """Return the processes that count."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [one for one in children if " worker " in " ".join(one.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what the log says under a name."""
        written, _, _torn = self.log.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in written.splitlines() if f'"{event}"' in line]

    def stop(self) -> int:
        """Stop it as an operator does, once all its workers are at work: before that a signal just ends it."""
        self.wait(lambda: len({line["slot"] for line in self.lines("assigned")}) >= self._workers)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60 * PATIENCE)

    def wait(self, condition: Any, timeout_s: float = 60) -> None:
        """Return when the condition holds; tells the end of the log otherwise."""
        until(condition, timeout_s, lambda: self.log.read_text(encoding="utf-8")[-3000:])


def main(payload: str) -> int:
    """Be the supervisor process."""
    supervisor.DRAIN_S *= PATIENCE
    store, lane, workers, look_s, holds = json.loads(payload)
    if look_s == math.inf:
        vars(calibrate)["DriftWatch"].turn = lambda _self: None
    telemetry.configure(level="DEBUG", human=False)
    options = calibrate.CalibrateOptions(
        *(store, lane, "test", KafkaSettings.from_environment(), "DEBUG"),
        store_s=0.2,
        longest_backoff_s=0.1,
        look_s=look_s,
    )
    return calibrate.run(
        replace(options, refresher=partial(_refresher, Path(holds) if holds else None)), workers, spare=False
    )


def _refresher(holds: Path | None, given: RefreshWith) -> Refresher:
    from muse_stream.commands import refresh, refresh_incidents  # noqa: PLC0415 - as `run` does

    def held(step: str) -> None:
        while holds is not None and holds.exists():
            holds.with_suffix(".at").write_text(step, encoding="utf-8")
            time.sleep(0.05)
        given.failpoint(step)

    vars(refresh_incidents)["SILENT_S"] = 3600.0  # who tells of workers in a test tells it once
    return refresh.refresher(replace(given, failpoint=held))
