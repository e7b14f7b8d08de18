"""Events under way all the time: a producer that bears an absent broker, and knows what the broker has taken."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from tests.integration.bank import PARTITIONS
from tests.operations.scene import Tenants
from tests.patience import PATIENCE

PART_S = 0.1
Place = tuple[str, int]
Rewrite = Callable[[bytes], bytes]
"""Makes a value of the bank's what a producer writes: another frame, another schema."""
BEARS_ANYTHING = {
    "enable.idempotence": True,
    "linger.ms": 5,
    "message.timeout.ms": 600_000,
    "reconnect.backoff.max.ms": 500,
    "log_level": 0,
}


class Load:
    """Sends `rates[tenant]` events a second until the end; rates may be changed, and so may what is written."""

    def __init__(self, bank: Tenants, connection: Mapping[str, Any], rates: Mapping[str, int]) -> None:
        self.rates = dict(rates)
        self.rewrite: dict[str, Rewrite] = {}
        self.sent: Counter[Place] = Counter()
        """Event topic and partition -> how many events the broker has taken."""
        self.stamps: dict[tuple[str, int, int], int] = {}
        """Event topic, partition and offset -> the event's Kafka timestamp."""
        self._bank, self._refused = bank, list[KafkaError]()
        self._producer = Producer({**BEARS_ANYTHING, **connection})
        self._turn = Counter[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, when the broker has taken everything. AssertionError where it has not."""
        self._over.set()
        self._thread.join(60 * PATIENCE)
        assert not self._thread.is_alive()
        assert self._producer.flush(60 * PATIENCE) == 0
        assert not self._refused, self._refused[0]

    def abandon(self) -> None:
        """End, whatever the broker has taken."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30 * PATIENCE)

    def _run(self) -> None:
        due, owed = time.monotonic(), Counter[str]()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + PART_S, time.monotonic() - 1.0)
            for tenant, rate in list(self.rates.items()):
                owed[tenant] += rate
                if count := int(owed[tenant] * PART_S):
                    owed[tenant] -= round(count / PART_S)
                    self._send(tenant, count)
            self._producer.poll(0)

    def _send(self, tenant: str, count: int) -> None:
        topic, rewrite = self._bank.topic("events", tenant), self.rewrite.get(tenant)
        for value in self._made(tenant, count):
            self._turn[tenant] += 1
            written = rewrite(value) if rewrite else value
            partition = self._turn[tenant] % PARTITIONS
            while True:
                try:
                    self._producer.produce(topic, written, partition=partition, on_delivery=self._taken)
                    break
                except BufferError:
                    self._producer.poll(0.1)
                    if self._over.is_set():
                        return

    def _made(self, tenant: str, count: int) -> list[bytes]:
        """Return new events of one tenant."""
        before = len(self._bank.sent)
        every = self._bank.events(count * self._bank.tenants)
        mine = [name == tenant for name, _, _ in every]
        self._bank.sent[before:] = compress(self._bank.sent[before:], mine)
        return [value for _, _, value in compress(every, mine)]

    def _taken(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(error)
            return
        place = message.topic() or "", message.partition() or 0
        self.sent[place] += 1
        self.stamps[*place, message.offset() or 0] = message.timestamp()[1]
