"""Several brokers on this machine's JVM: one KRaft cluster of combined nodes, for fault tests.

Its nodes can be killed, stopped and restarted one by one or all at once. Every node is a `LocalKafka` with a keeper and
a folder of its own, so nothing is left behind however this process ends. Everything has as many replicas as there are
nodes (at most 3), and all but one of them in sync, unless `properties` say otherwise.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from muse_stream.errors import MuseError
from muse_stream.testing import probe
from muse_stream.testing.kafka_jars import Places, Say, jars
from muse_stream.testing.kept_server import READY_WITHIN_S
from muse_stream.testing.local_kafka import ARCHIVE, LocalKafka, free_ports

SHORT_SESSION = {"broker.session.timeout.ms": "3000"}
"""A node that was killed may register again only when its old session has ended."""
REPLICAS = 3
# made to start fast: the second compiler takes 3 of the 7 CPU-seconds that a start costs, and pays only after minutes
_JVM = ("-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")


class LocalCluster:
    """`nodes[0]` to `nodes[n - 1]`; `bootstrap` names them all.

    The first `controllers` nodes (by default all) are controllers as well as brokers.
    """

    def __init__(
        self,
        places: Places,
        say: Say = print,
        *,
        nodes: int = 3,
        controllers: int | None = None,
        release: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._controllers = nodes if controllers is None else controllers
        over = _replicated(min(nodes, REPLICAS)) | SHORT_SESSION | dict(properties or {})
        self.nodes = [LocalKafka(places, say, release=release, properties=over, jvm=_JVM) for _ in range(nodes)]
        self.bootstrap = ""

    def start(self) -> None:
        """Start all nodes on free ports; returns when every node is registered."""
        ports = free_ports(3 * len(self.nodes))
        places = [ports[3 * number : 3 * number + 3] for number in range(len(self.nodes))]
        numbered = list(enumerate(places, start=1))
        voters = ",".join(f"{number}@127.0.0.1:{place[2]}" for number, place in numbered[: self._controllers])
        for node, (number, place) in zip(self.nodes, numbered, strict=True):
            over = {"controller.quorum.voters": voters}
            if number > self._controllers:
                over["process.roles"] = "broker"
                over["listeners"] = f"CLIENT://127.0.0.1:{place[0]},INTERNAL://127.0.0.1:{place[1]}"
            node.prepare(place, number, **over)
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)
        self.restart(range(len(self.nodes)))

    def kill(self, which: Iterable[int]) -> None:
        """End some nodes as a power cut would."""
        for number in which:
            self.nodes[number].kill()

    def stop(self, which: Iterable[int]) -> None:
        """Shut some nodes down in order, all at the same time: the last ones are no majority and are killed."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda number: self.nodes[number].stop(), which))

    def restart(self, which: Iterable[int]) -> None:
        """Start some nodes on their old ports and data; returns when every node of the cluster is registered."""
        chosen = [self.nodes[number] for number in which]
        for node in chosen:
            node.launch()
        for node in chosen:
            node.await_answer()
        end = time.monotonic() + READY_WITHIN_S
        while probe.brokers(self.bootstrap, 2.0) < len(self.nodes):
            if time.monotonic() > end:
                raise MuseError(f"not all of {len(self.nodes)} brokers are registered within {READY_WITHIN_S:.0f} s")
            time.sleep(0.05)

    def said(self, text: str) -> int:
        """Count the lines of all logs that hold a text."""
        return sum(node.said(text) for node in self.nodes)

    def close(self) -> None:
        """Stop all nodes and remove their folders; may be called twice."""
        for node in self.nodes:
            node.close()


def archive_classes(places: Places, say: Say = print, *, release: str | None = None) -> None:
    """Make starts of this version cost less by a third: worth it for who starts brokers all the time."""
    home = jars(places, say, release)
    if not (home / ARCHIVE).exists():
        fresh = home / f"{ARCHIVE}.{secrets.token_hex(4)}"
        broker = LocalKafka(places, say, release=release, jvm=(*_JVM, f"-XX:ArchiveClassesAtExit={fresh}"))
        try:
            broker.start()
            broker.stop()
        finally:
            broker.close()
        if fresh.exists():
            fresh.rename(home / ARCHIVE)


def _replicated(replicas: int) -> dict[str, str]:
    in_sync = str(max(1, replicas - 1))
    return {
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": in_sync,
        "default.replication.factor": str(replicas),
        "min.insync.replicas": in_sync,
    }
