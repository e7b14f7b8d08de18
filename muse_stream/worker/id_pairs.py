"""Which two transactional ids a slot works under, when the transaction of the usual two cannot be ended.

A transaction ends when its marker stands in every partition it touched. A partition without a leader, or below its
minimum of in-sync replicas, takes no marker, and until it does the coordinator refuses the ids that wrote there. The
slot goes on under another pair and comes back to the first one when that is free. What the old pair decided cannot
change any more by then: the coordinator has answered that its transaction is being ended (docs/exactly-once.md, R22).

Each pair bears a name of its own, so that attempts, and whoever ends hanging transactions, tell them apart.
"""

import threading
from collections.abc import Callable

from muse_stream.errors import Fatal, StreamError
from muse_stream.kafka import Blocked, TransactionalProducer
from muse_stream.telemetry import Log

PAIRS = 6
"""A pair is lost for as long as a partition that it wrote to takes no records; more than a few mean that a cluster is
in no state to work with."""
LOOK_EVERY_S = 1.0

OpenProducer = Callable[[int, str, int], TransactionalProducer]
"""Open one of the two producers (0, 1) of a pair, named by its holder, with record batches of so many bytes."""


def holder(instance: str, pair: int) -> str:
    """Return the name of a slot's pair of ids; that of the first is the slot's own."""
    return f"{instance}.{pair}" if pair else instance


class IdPairs:
    """One slot's; for its thread alone."""

    def __init__(self, instance: str, open_producer: OpenProducer, log: Log) -> None:
        self._instance, self._open_producer, self._log = instance, open_producer, log
        self._pair = 0
        self._free, self._ended = threading.Event(), threading.Event()
        self._looking: threading.Thread | None = None

    @property
    def holder(self) -> str:
        """The name of the pair in use."""
        return holder(self._instance, self._pair)

    @property
    def blocked(self) -> bool:
        """Whether the first pair is not in use because it cannot be."""
        return self._pair > 0

    @property
    def others(self) -> frozenset[str]:
        """Pairs that an earlier process of this slot may have left, and that are not known to be blocked."""
        return frozenset(holder(self._instance, pair) for pair in range(self._pair + 1, PAIRS))

    def open(self, half: int, batch_bytes: int) -> TransactionalProducer:
        """Open a producer of the pair in use; raises `Blocked` when its last transaction cannot be ended now."""
        return self._open_producer(half, self.holder, batch_bytes)

    def next(self, error: Blocked) -> None:
        """Go on with another pair; raises `Fatal` when there is none."""
        if self._pair + 1 == PAIRS:
            raise Fatal(f"all {PAIRS} pairs of transactional ids wait for partitions that take no records: {error}")
        self._pair += 1
        self._log.warning("ids_blocked", error=str(error), goes_on_as=self.holder)
        if self._looking is None or not self._looking.is_alive():
            self._free.clear()
            self._looking = threading.Thread(target=self._look, name="blocked-ids", daemon=True)
            self._looking.start()

    def free(self) -> bool:
        """Whether the first pair can be used again; it is from now on."""
        if not self._pair or not self._free.is_set():
            return False
        self._free.clear()
        self._pair = 0
        self._log.info("ids_free", goes_on_as=self.holder)
        return True

    def close(self) -> None:
        """Look no more."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                for half in (0, 1):
                    self._open_producer(half, self._instance, 1).discard()
            except StreamError:
                continue
            self._free.set()
            return
