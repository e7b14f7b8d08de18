"""The small process that owns a local broker and outlives the process that asked for it, but only by a moment.

Takes a run folder and the broker's command line as arguments and one-word orders on stdin; answers each order with the
broker's process id (0 = none) on stdout.

Invariant: when stdin ends, for whatever reason (normal exit, Ctrl-C, SIGTERM, kill -9 of the parent), the broker is
killed and the run folder removed. When the keeper itself is killed the broker dies with it (PR_SET_PDEATHSIG).

Runs as a script under `python -I -S`: it imports the standard library only, and has one thread, which makes preexec_fn
safe here as it would not be in the parent.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STOP_WITHIN_S = 20


def _die_with_the_keeper() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_the_keeper,  # noqa: PLW1509  one thread, see above
        )


def _kill(broker: subprocess.Popen[bytes] | None) -> None:
    """End it by SIGKILL: that also ends a stopped process, and nobody needs the data of a polite shutdown."""
    if broker is not None:
        broker.kill()
        broker.wait()


def _stop(broker: subprocess.Popen[bytes] | None) -> None:
    """Ask it to shut down as an operator would (SIGTERM); the last of a cluster waits without result and is killed."""
    if broker is not None:
        broker.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            broker.wait(_STOP_WITHIN_S)


def keep(run: Path, command: list[str]) -> None:
    """Obey `start`, `stop`, `kill` and `status` until stdin ends, then leave nothing behind."""
    broker: subprocess.Popen[bytes] | None = None
    try:
        for order in iter(sys.stdin.readline, ""):
            if order.strip() == "stop":
                _stop(broker)
            if order.strip() != "status":
                _kill(broker)
                broker = _start(command, run / "broker.log") if order.strip() == "start" else None
            alive = broker is not None and broker.poll() is None
            os.write(1, b"%d\n" % (broker.pid if broker is not None and alive else 0))
    except OSError:
        pass  # the parent is gone and nobody reads the answer: fall through to the end
    finally:
        _kill(broker)
        shutil.rmtree(run, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2:])
