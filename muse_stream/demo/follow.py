"""Everything the workers write, read as it appears: a `Ledger` that fills itself, in a thread of its own.

An ordinary reader with an ordinary group, read_committed: what it sees is what a tenant sees. Records are decoded by
columns; dead letters are only counted here (`verify` reads them).
"""

import threading
import time
from types import TracebackType
from typing import Self

from muse_stream.avro import Decoder, Fields
from muse_stream.config import Document, KafkaSettings
from muse_stream.demo.ledger import AUDIT_COLUMNS, LIVE_COLUMNS, Ledger
from muse_stream.errors import MuseError
from muse_stream.kafka import client
from muse_stream.runtime.answer_reader import output_schemas

BATCH = 10_000


class Follower:
    """Fills a ledger from the topics of a document; use as a context manager."""

    def __init__(self, settings: KafkaSettings, document: Document, group: str, ledger: Ledger) -> None:
        self.ledger = ledger
        topics = [document.tenant_topics(name) for name in document.tenants]
        self._kinds = {one.scores: "scores" for one in topics} | {one.audit: "audit" for one in topics}
        dead = {one.dlq for one in topics} | {document.unknown_topic(lane) for lane in document.lanes()}
        self._kinds |= dict.fromkeys(dead, "dead")
        schemas = output_schemas()
        self._scores = Decoder(schemas, schemas.by_file("score.avsc"), Fields("event_id", None, None, LIVE_COLUMNS))
        self._audits = Decoder(schemas, schemas.by_file("audit.avsc"), Fields("event_id", None, None, AUDIT_COLUMNS))
        reading = {"group.id": group, "auto.offset.reset": "earliest", "queued.min.messages": 50_000}
        self._consumer = client.consumer(settings, **reading, **{"queued.max.messages.kbytes": 65_536})
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(10.0)

    def check(self) -> None:
        """Raise what went wrong while reading."""
        if self._failure is not None:
            raise MuseError(f"the answers cannot be read: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            self._consumer.subscribe(list(self._kinds))
            while not self._stopping.is_set():
                self._once()
        except BaseException as failure:  # noqa: BLE001 - a thread's failure is the run's, see `check`
            self._failure = failure
        finally:
            self._consumer.close()

    def _once(self) -> None:
        # what is there, at once: `consume(n, t)` waits the whole t for n records
        messages = self._consumer.consume(BATCH, 0.05)
        found: dict[str, list[bytes | None]] = {}
        for message in messages:
            error = message.error()
            if error is None:
                found.setdefault(self._kinds[message.topic() or ""], []).append(message.value())
            elif error.fatal():
                raise MuseError(str(error))
        if values := found.get("scores"):
            self.ledger.scores(self._scores.decode(values))
        if values := found.get("audit"):
            self.ledger.audits(self._audits.decode(values))
        self.ledger.counts.dead_letters += len(found.get("dead", ()))
        if not messages:
            time.sleep(0.02)
