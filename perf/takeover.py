class _Reader:
    """Notes when each partition showed scores."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "perf",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        self._consumer.assign([TopicPartition("muse.scores.t000", number, 0) for number in range(PARTITIONS)])
        self.seen: list[tuple[float, int]] = []
        self.latest: dict[int, float] = dict.fromkeys(range(PARTITIONS), 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def first_after(self, moment: float, partition: int) -> float:
        """Return when this partition first showed a score after a moment."""
        return next(at for at, number in self.seen if number == partition and at > moment)

    def stop(self) -> None:
        """End and close."""
        self._ended.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                at, partition = time.monotonic(), message.partition() or 0
                self.seen.append((at, partition))
                self.latest[partition] = at


def _feed(bootstrap: str, values: list[bytes], ended: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    number = 0
    while not ended.wait(1 / RATE * 5):
        for value in values[number % 50_000 : number % 50_000 + 5]:
            producer.produce("muse.events.t000", value, partition=number % PARTITIONS)
            number += 1
        producer.poll(0)
    producer.flush()


def _until(holds: Any, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the worker did not do what was waited for")
        time.sleep(0.01)
