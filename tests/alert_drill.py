"""Faults on the stack of deploy/compose.yaml, and which alerts fire: `python -m tests.alert_drill`, after

    export DRILL_DISK=FOLDER   # of a file system of 600 MB, owned by user 1000: it is filled up
    make up COMPOSE="docker compose --file deploy/compose.yaml --file tests/alert_drill.yaml"

For each fault: it is made, Prometheus is asked which alerts fire until those of docs/runbooks.md do, and it is taken
back. At the end `verify` counts what is missing, doubled or out of order. Traffic flows all the time.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

ROOT = Path(__file__).parents[1]
BROKER = "localhost:29092"
PROMETHEUS = "http://localhost:9095"
TOPIC = "muse.events.acme"
HOUR_MS = 3_600_000
FLOOD = 600_000
DISK = Path(os.environ.get("DRILL_DISK", "/nowhere"))
SCORES = "muse.scores.acme"
TRIES_S, LOOK_S = 480.0, 5.0
PROJECT = "muse-stream"


def docker(*words: str) -> str:
    """Run docker; returns what it says."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def container(service: str) -> str:
    """Return the name of a service's container."""
    return f"{PROJECT}-{service}-1"


def firing() -> set[str]:
    """Return the alerts that fire now."""
    query = urllib.parse.urlencode({"query": 'ALERTS{alertstate="firing"}'})
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/query?{query}", timeout=30) as answer:  # noqa: S310
        return {one["metric"]["alertname"] for one in json.load(answer)["data"]["result"]}


def samples(count: int) -> list[bytes]:
    """Return events as they stand in the topic."""
    consumer = Consumer(
        {"bootstrap.servers": BROKER, "group.id": "drill", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([TOPIC])
    found: list[bytes] = []
    while len(found) < count:
        found += [value for message in consumer.consume(count, 10.0) if (value := message.value())]
    consumer.close()
    return found[:count]


def send(count: int, shift_ms: int, per_second: float | None = None) -> None:
    """Send events whose Kafka timestamps are off by so much."""
    values = samples(40)
    producer = Producer({"bootstrap.servers": BROKER, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    for number in range(count):
        while True:
            try:
                producer.produce(TOPIC, values[number % 40], timestamp=int(time.time() * 1000) + shift_ms)
                break
            except BufferError:
                producer.poll(0.1)
        if per_second is not None:
            producer.poll(0)
            time.sleep(1 / per_second)
    producer.flush()


@dataclass(frozen=True)
class Fault:
    """What is done, what must fire, and how it is taken back."""

    name: str
    make: Callable[[], object]
    alerts: frozenset[str]
    undo: Callable[[], object]


def clock(shift_ms: int) -> Callable[[], object]:
    """Return what sends events with wrong timestamps for six minutes, in a process of its own."""
    return lambda: SENDERS.append(
        subprocess.Popen(
            [sys.executable, "-m", "tests.alert_drill", "--send", "40000", "--shift", str(shift_ms), "--rate", "100"]
        )
    )


SENDERS: list[subprocess.Popen[bytes]] = []


def stop_senders() -> None:
    """End what sends."""
    while SENDERS:
        sender = SENDERS.pop()
        sender.terminate()
        sender.wait()


def starve() -> None:
    """Give a worker's container less memory than it has."""
    docker("update", "--memory", "190m", "--memory-swap", "190m", container("live-2"))


def feed() -> None:
    """Give it back."""
    docker("update", "--memory", "4g", "--memory-swap", "4g", container("live-2"))


def fill() -> None:
    """Write until the broker's disk is full."""
    with (DISK / "fill").open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()


def empty() -> None:
    """Make room again, and start the broker: a full disk ends it."""
    (DISK / "fill").unlink()
    docker("start", container("kafka"))


def permission() -> AclBinding:
    """Return what forbids to write scores."""
    of = "User:ANONYMOUS", "*", AclOperation.WRITE, AclPermissionType.DENY
    return AclBinding(ResourceType.TOPIC, SCORES, ResourcePatternType.LITERAL, *of)


def revoke() -> None:
    """Take the permission to write a tenant's scores."""
    for done in AdminClient({"bootstrap.servers": BROKER}).create_acls([permission()]).values():
        done.result()


def grant() -> None:
    """Give it back."""
    ours = permission()
    which = (ours.restype, ours.name, ours.resource_pattern_type, ours.principal, ours.host)
    wanted = AclBindingFilter(*which, ours.operation, ours.permission_type)
    for done in AdminClient({"bootstrap.servers": BROKER}).delete_acls([wanted]).values():
        done.result()


def flood() -> None:
    """Send far more than workers answer, who have little of a processor."""
    for service in ("live-1", "live-2"):
        docker("update", "--cpus", "0.15", container(service))
    send(FLOOD, 0)


def relax() -> None:
    """Give workers their processor back."""
    for service in ("live-1", "live-2"):
        docker("update", "--cpus", "2", container(service))


FAULTS = (
    Fault(
        "broker down",
        lambda: docker("kill", "--signal", "STOP", container("kafka")),
        frozenset({"MuseLagUnknown"}),
        lambda: docker("kill", "--signal", "CONT", container("kafka")),
    ),
    Fault("disk full", fill, frozenset({"MuseLagUnknown", "MuseEventsWaiting"}), empty),
    Fault("permission revoked", revoke, frozenset({"MuseTenantPaused"}), grant),
    Fault(
        "Redis down",
        lambda: docker("stop", container("redis")),
        frozenset({"MuseGenerationRefused"}),
        lambda: docker("start", container("redis")),
    ),
    Fault("clock an hour ahead", clock(HOUR_MS), frozenset({"MuseProducerClockAhead"}), stop_senders),
    Fault("clock an hour behind", clock(-HOUR_MS), frozenset({"MuseErrorBudgetBurnsFast"}), stop_senders),
    Fault("a worker out of memory", starve, frozenset({"MuseWorkerRestarting"}), feed),
    Fault("a tenant floods", flood, frozenset({"MuseTenantFlood"}), relax),
)
QUIET_S = 240.0


def quiet(alerts: frozenset[str]) -> None:
    """Wait until the alerts of a fault have ended."""
    until = time.monotonic() + QUIET_S
    while alerts & firing() and time.monotonic() < until:
        time.sleep(LOOK_S)


def play(fault: Fault) -> bool:
    """Play one; returns whether its alerts fired."""
    began, seen, fired_s = time.monotonic(), set[str](), 0.0
    fault.make()
    try:
        while time.monotonic() - began < TRIES_S and not fault.alerts <= seen:
            time.sleep(LOOK_S)
            seen |= firing()
        fired_s = time.monotonic() - began
    finally:
        fault.undo()
    quiet(fault.alerts - {"MuseErrorBudgetBurnsFast", "MuseWorkerRestarting"})
    told = f"after {fired_s:.0f} s" if fault.alerts <= seen else "NOT"
    print(
        f"{fault.name}: {', '.join(sorted(fault.alerts))} fired {told}; all that fired: {', '.join(sorted(seen))}",
        flush=True,
    )
    return fault.alerts <= seen


def main() -> int:
    """Play all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--send", type=int)
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args()
    if given.send:
        send(given.send, given.shift, given.rate)
        return 0
    good = [play(fault) for fault in FAULTS if given.only in fault.name]
    verify = [str(ROOT / ".venv/bin/muse-stream"), "verify", str(ROOT / "deploy/config/muse.yaml"), "acme"]
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": BROKER}
    ended = subprocess.run([*verify, "--upto", "committed"], env=environment, check=False)
    return int(not all(good) or ended.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
