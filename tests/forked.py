"""Processes that are forked from one that has imported the package: each start costs 0.9 s of CPU less.

For tests of what a process does: signals, kills, recovery. How the program itself is started is tested by others, which
run `muse-stream` (tests/cli/test_signals.py, tests/test_readme.py, tests/integration/test_health_pages.py).

`Forked` has what tests use of `subprocess.Popen`. The process that forks is started with the first, and ends with the
process of the tests, and what it has forked ends with it.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import setproctitle

from muse_stream import __main__ as muse_stream
from muse_stream.runtime import watchdog

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "muse_stream.cli.main",
    "muse_stream.commands.archive",
    "muse_stream.commands.dlq_replay",
    "muse_stream.runtime.worker_process",
    "tests.integration.fleet",
    "tests.worker.serving",
)
TITLE = "-" * 500
"""What a process shows as its title must fit where its arguments were."""
LOOK_S = 0.02


class Forked:
    """A process that runs a function (`module:name`) with some texts as arguments, and ends with what it returns."""

    def __init__(
        self, function: str, *arguments: str, stdout: int, stderr: int, environment: Mapping[str, str] | None = None
    ) -> None:
        order = {
            "start": function,
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
        }
        self.pid = int(_server().ask(order, [stdout, stderr]))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while it runs, the number of the signal that ended it below zero."""
        if self.returncode is None:
            self.returncode = _server().ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit code when it has ended; raises `subprocess.TimeoutExpired`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout_s or 0.0)
            time.sleep(LOOK_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:  # until it is asked for, its number is nobody else's
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks; asked by one thread at a time."""

    def __init__(self) -> None:
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forked", str(theirs.fileno()), TITLE]
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        atexit.register(self.close)

    def ask(self, order: dict[str, Any], descriptors: list[int] | None = None) -> Any:
        """Return the answer."""
        with self._lock:
            socket.send_fds(self._asked, [json.dumps(order).encode()], descriptors or [])
            return json.loads(self._asked.recv(1 << 16))

    def close(self) -> None:
        """End it; a process that was forked from that of the tests leaves it alone."""
        if os.getpid() == self._owner:
            self._asked.shutdown(socket.SHUT_RDWR)
            self._process.wait()


_ONE = threading.Lock()


def _server() -> Server:
    with _ONE:
        return _started()


@cache
def _started() -> Server:
    return Server()


def serve(asked: socket.socket) -> dict[str, Any]:
    """Fork and tell of what has ended; returns in each process that is forked what it is to do, and else at the end."""
    ended: dict[int, int] = {}
    while True:
        text, descriptors, _, _ = socket.recv_fds(asked, 1 << 20, 2)
        if not text:
            return {}
        order: dict[str, Any] = json.loads(text)
        answer: int | None
        if "poll" in order:
            child = order["poll"]
            if child not in ended and (found := os.waitpid(child, os.WNOHANG))[0]:
                ended[child] = os.waitstatus_to_exitcode(found[1])
            answer = ended.get(child)
        else:
            importlib.import_module(order["start"].partition(":")[0])  # once, and not in each that is forked
            forker, answer = os.getpid(), os.fork()
            ended.pop(answer, None)
            if not answer:
                watchdog.die_with(forker)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
                for standard, descriptor in enumerate(descriptors, start=1):
                    os.dup2(descriptor, standard)
            for descriptor in descriptors:
                os.close(descriptor)
            if not answer:
                return order
        asked.send(json.dumps(answer).encode())


def main(descriptor: str) -> int:
    """Be the process that forks, or one that it has forked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this one
    setproctitle.getproctitle()  # finds its place beside the first environment, which is replaced below
    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # no search for garbage in what is forked walks through what was here before
    with socket.socket(fileno=int(descriptor)) as asked:
        order = serve(asked)
    if not order:
        return 0
    os.environ.clear()
    os.environ.update(order["environment"])
    module, _, name = order["start"].partition(":")
    function: Callable[..., int] = getattr(importlib.import_module(module), name)
    return function(*order["arguments"])


def program(*arguments: str) -> int:
    """Be `muse-stream`."""
    return muse_stream.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
