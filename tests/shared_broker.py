"""One real broker for all processes of a run of tests.

Where the tests run in several processes (pytest-xdist) the process that hands them out keeps the broker: it starts when
the first test of any process asks for it, and ends with the run. Each broker more costs 20 s of CPU and more in a run.
"""

import json
import re
import socket
import socketserver
import threading
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import Broker, Cluster, NoBroker, broker
from muse_stream.testing.local_kafka import LocalKafka
from tests.patience import PATIENCE

ASK_S = 60.0 * PATIENCE
"""A broker gives up its start earlier."""


class SharedBroker:
    """The run's broker as a test meets it: other tests use it at the same time, so nobody may break it."""

    def __init__(self, bootstrap: str, rung: str) -> None:
        self.bootstrap, self.rung = bootstrap, rung

    def running(self) -> bool:
        return True

    def kill(self) -> None:
        raise AssertionError("other tests use this broker now: mark the module with `pytest.mark.own_broker`")

    pause = resume = restart = kill


class BrokerOfTheRun:
    """Starts the broker when it is first asked for; `close` ends it. `said` is what the ladder says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._found: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def find(self) -> dict[str, Any]:
        """Return what `meet` takes."""
        with self._lock:
            if not self._found:
                try:
                    running = self._stack.enter_context(broker(self.said.append))
                except MuseError as refused:  # told to each test, and not tried for each
                    self._found = {"refused": str(refused)}
                else:
                    log = str(running.log) if isinstance(running, LocalKafka) else ""
                    self._found = {"bootstrap": running.bootstrap, "rung": running.rung, "log": log}
                    self._found["theirs"] = isinstance(running, Cluster)
            return self._found

    def serve(self) -> str:
        """Answer other processes; returns where."""
        folder = self._stack.enter_context(TemporaryDirectory(prefix="muse-tests-"))
        address = str(Path(folder) / "broker")
        find = self.find

        class Answer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(json.dumps(find()).encode())

        server = self._stack.enter_context(socketserver.ThreadingUnixStreamServer(address, Answer))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        return address

    def close(self) -> None:
        self._stack.close()


def ask(address: str) -> dict[str, Any]:
    """Return what `BrokerOfTheRun.find` returns in the process that serves it there."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(ASK_S)
        asking.connect(address)
        with asking.makefile("rb") as answer:
            return dict(json.load(answer))


def meet(found: dict[str, Any]) -> Broker:
    """Return the broker that was found, or raise NoBroker."""
    if "refused" in found:
        raise NoBroker(found["refused"])
    kind = Cluster if found["theirs"] else SharedBroker
    return kind(found["bootstrap"], found["rung"])


def delete_topics(bootstrap: str, names: Collection[str]) -> None:
    """Delete the topics whose names contain one of these: broker and clients pay for each wherever all are listed."""
    if not names:
        return
    admin, ours = AdminClient({"bootstrap.servers": bootstrap}), re.compile("|".join(map(re.escape, names)))
    with suppress(KafkaException):  # a broker that is silent fails the tests themselves
        topics = [topic for topic in admin.list_topics(timeout=60).topics if ours.search(topic)]
        for answer in (admin.delete_topics(topics) if topics else {}).values():
            with suppress(KafkaException):  # it is gone already
                answer.result(timeout=60)
