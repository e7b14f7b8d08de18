"""Worker processes for the supervisor's tests: tiny `serve` functions, and a supervisor to be run as a program.

`main(SERVE, FOLDER, WORKERS)` in a program of its own writes one JSON line per log event to stdout and ends with the
exit code of `Supervisor.run`. Each worker leaves files in FOLDER: what became of which slot under which process id.
Only `echo` touches Kafka.
"""

import json
import os
import signal
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.runtime import supervisor, watchdog
from muse_stream.runtime.memory import resident_bytes
from muse_stream.runtime.supervisor import FAILED, LEAVE, Supervisor
from muse_stream.worker import failpoints
from muse_stream.worker import slot as slots
from muse_stream.worker.batch import BatchLimits
from muse_stream.worker.poison import Guard, InHand, Suspects
from muse_stream.worker.slot import SlotName, open_worker
from tests.worker.doubles import CountingMeter, Echo, ListLog, Route

SESSION_S = 60
"""How long the group misses an `echo` that is dead: so long that nothing else lasts as long on a busy machine."""
DRAIN_S = 600.0
"""How long who does not drain is waited for: a signal ends it, not the time."""
QUIET_S = 300.0
"""How soon after its start a crash counts as one in a row: a busy machine may take long for a start."""
SETTLING_S = 300.0
"""How long a spare is not started beside a worker that does not serve yet."""
GROWTH = 200 << 20
"""More than processes differ by, and little enough for a small machine."""


class PrintedLog:
    """Implements `Log`: one JSON line an event, at once."""

    def _say(self, event: str, **facts: Any) -> None:
        print(json.dumps({"event": event, **facts}, default=str), flush=True)

    debug = info = warning = error = _say


def _begin(connection: Connection) -> int:
    parent = parent_process()
    assert parent is not None
    assert parent.pid is not None
    watchdog.die_with(parent.pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send("ready")
    slot, *_ = connection.recv()
    connection.send("serving")
    return int(slot)


def obedient(folder: str, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Serve until told to end; say how."""
    ending = threading.Event()
    how: list[str] = []

    def end(number: int, _frame: object) -> None:
        how.append("left" if number == LEAVE else "drained")
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(LEAVE, end)
    slot = _begin(connection)
    _note(folder, slot, "serves")
    while not ending.wait(1):
        pass
    _note(folder, slot, how[0])
    if (Path(folder) / "linger").exists():
        connection.send("drained")
        threading.Event().wait()


def growing(folder: str, connection: Connection, in_hand: InHand, refused: frozenset[int]) -> None:
    """Serve, and take `GROWTH` more bytes when a file says so: `grow-SLOT`, or `grow-always` before being ready."""
    kept = [b"x" * GROWTH] if (Path(folder) / "grow-always").exists() else []

    def grow() -> None:
        while True:
            for path in Path(folder).glob(f"grow-{_slot_of(folder)}"):
                path.unlink()
                kept.append(b"x" * GROWTH)
            threading.Event().wait(0.02)

    threading.Thread(target=grow, daemon=True).start()
    obedient(folder, connection, in_hand, refused)


def _slot_of(folder: str) -> str:
    return next((path.name.split("-")[1] for path in Path(folder).glob(f"serves-*-{os.getpid()}")), "none")


def mute(folder: str, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Close the pipe once the number is known, and serve on."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: os._exit(0))
    slot = _begin(connection)
    connection.close()
    _note(folder, slot, "serves")
    threading.Event().wait()


def crashing(folder: str, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """End at once, every time."""
    slot = _begin(connection)
    _note(folder, slot, "serves")
    os._exit(3)


def stubborn(folder: str, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Heed no signal that can be ignored; note that one came."""
    slot = _begin(connection)
    for number in (signal.SIGTERM, LEAVE):
        signal.signal(number, lambda _signal, _frame: _note(folder, slot, "told"))
    _note(folder, slot, "serves")
    threading.Event().wait()


def unarmed(folder: str, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Be where a worker is that was given its slot and does not handle signals yet."""
    slot = _begin(connection)
    _note(folder, slot, "serves")
    threading.Event().wait()


def hopeless(folder: str, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Be ready, and end before serving, every time; say why."""
    connection.send("ready")
    connection.recv()
    connection.send(f"{FAILED}port 9100 is taken")
    os._exit(3)


def hesitant(folder: str, connection: Connection, in_hand: InHand, refused: frozenset[int]) -> None:
    """Serve only when the file `go` is there; note to have begun before, beside one that had its slot already."""
    place = Path(folder)
    if any(place.glob("slotted-*")) and not (place / "go").exists():
        _note(folder, -1, "early")
    connection.send("ready")
    slot, *_ = connection.recv()
    _note(folder, slot, "slotted")
    while not (place / "go").exists():
        threading.Event().wait(0.02)
    connection.send("serving")
    signal.signal(signal.SIGTERM, lambda _signal, _frame: os._exit(0))
    _note(folder, slot, "serves")
    threading.Event().wait()


def stillborn(_folder: str, _connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Die before being ready."""
    os._exit(4)


def echo(folder: str, connection: Connection, in_hand: InHand, _refused: frozenset[int]) -> None:
    """A real worker with an echo scorer; Kafka and topics are told by a file."""
    told = json.loads((Path(folder) / "echo.json").read_text())
    scorer = [Echo({told["events"]: Route(told["scores"], told["dlq"])}, limits=BatchLimits(batch_events=200))]
    slot = _begin(connection)
    slots.MEMBER["session.timeout.ms"] = SESSION_S * 1_000
    worker = open_worker(
        KafkaSettings(bootstrap=told["bootstrap"]),
        SlotName("live", told["lane"], "test", slot),
        lambda: scorer.pop() if scorer else None,
        meter=CountingMeter(),
        log=ListLog(),
        failpoint=failpoints.from_environment(),
        guard=Guard(in_hand, Suspects()),
    )
    leaving = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: worker.stop())

    def leave(_signal: int, _frame: object) -> None:
        leaving.set()
        worker.stop()

    signal.signal(LEAVE, leave)
    _note(folder, slot, "serves")
    worker.run(leave=leaving.is_set)


def _note(folder: str, slot: int, what: str) -> None:
    (Path(folder) / f"{what}-{slot}-{os.getpid()}").touch()


ALL = (obedient, growing, mute, crashing, stubborn, unarmed, hopeless, hesitant, stillborn, echo)
SERVES = {serve.__name__: serve for serve in ALL}


def main(serve: str, folder: str, workers: str, room: str = "", spare: str = "spare", drain_s: str = "") -> int:
    """Run a supervisor until a signal ends it; `room`: what its workers may grow by, in bytes."""
    supervisor.DRAIN_S, supervisor.QUIET_S = float(drain_s or DRAIN_S), QUIET_S
    supervisor.SETTLING_S = SETTLING_S
    options: dict[str, Any] = {"longest_backoff_s": 0.1} if serve == "hopeless" else {}
    options["max_memory"] = (resident_bytes(os.getpid()) or 0) + int(room) if room else None
    return Supervisor(SERVES[serve], folder, int(workers), PrintedLog(), spare=bool(spare), **options).run()
