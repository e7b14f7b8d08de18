"""One port for a whole run: the pages of all its workers as one.

`/metrics` has the series of every worker, each with the label `slot`, so that a worker which starts anew resets its own
counters and no sum: sums are made where rates are (docs/decisions/0052). `/started`, `/ready` and `/live` say yes when
every worker does. The pages are served by a process of their own: the supervisor, which forks, must not have threads.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from multiprocessing import get_context
from typing import Any

from muse_stream import telemetry
from muse_stream.errors import MuseError
from muse_stream.runtime import process_title, watchdog

TIMEOUT_S = 3.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?( .*)$")
REFUSED = "does not answer"
UP = "muse_worker_up"


class RunPages:
    """Asks the pages of `workers()` workers, the first of which is on `port`, and makes one of them."""

    def __init__(self, host: str, port: int, workers: Callable[[], int]) -> None:
        self._host, self._port, self._workers = EVERYWHERE.get(host, host), port, workers

    def started(self) -> bool | str:
        """Whether every worker has begun its work."""
        return self._each("started", silent=True)

    def ready(self) -> bool | str:
        """Whether every worker does its work."""
        return self._each("ready", silent=True)

    def live(self) -> bool | str:
        """Whether every worker that runs makes progress; one that has ended is replaced by the supervisor."""
        return self._each("live", silent=False)

    def metrics(self) -> str:
        """Return every worker's metrics, with the label `slot`."""
        pages = {slot: self._ask(slot, "metrics") for slot in range(self._workers())}
        up = [f'{UP}{{slot="{slot}"}} {float(page is not None and page[0] == 200)}' for slot, page in pages.items()]
        heads = {UP: [f"# HELP {UP} 1 while the worker of a slot answers, 0 otherwise", f"# TYPE {UP} gauge"]}
        samples = {UP: up}
        for slot, page in pages.items():
            if page is not None and page[0] == 200:
                _merge(page[1], slot, heads, samples)
        return "\n".join(line for name, head in heads.items() for line in (*head, *samples[name])) + "\n"

    def _each(self, page: str, *, silent: bool) -> bool | str:
        """Ask every worker; `silent`: whether one that does not answer counts."""
        for slot in range(self._workers()):
            answer = self._ask(slot, page)
            if answer is None and silent:
                return f"worker {slot}: {REFUSED}"
            if answer is not None and answer[0] != 200:
                return f"worker {slot}: {answer[1].strip()}"
        return True

    def _ask(self, slot: int, page: str) -> tuple[int, str] | None:
        connection = HTTPConnection(self._host, self._port + slot, timeout=TIMEOUT_S)
        try:
            connection.request("GET", f"/{page}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


def _merge(page: str, slot: int, heads: dict[str, list[str]], samples: dict[str, list[str]]) -> None:
    """Add a page's lines to those of the same family: a family's lines stand together."""
    family = ""
    for line in page.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            heads.setdefault(family, [line])
            samples.setdefault(family, [])
        elif line.startswith("# TYPE ") and len(heads[family]) == 1:
            heads[family].append(line)
        elif found := SAMPLE.match(line):
            name, labels, rest = found.groups()
            known = f",{labels or ''}"
            mine = "" if ',slot="' in known else f'slot="{slot}"'
            samples[family].append(f"{name}{{{','.join(filter(None, (mine, labels)))}}}{rest}")


@contextmanager
def served(
    host: str, port: int | None, health_port: int | None, workers: int, run: tuple[str, str, str]
) -> Iterator[Callable[[int], None]]:
    """Serve the pages meanwhile, where they are wanted; what is yielded is to be told when the workers are others.

    `run` is its role, lane and name, for `ps`. Raises MuseError when the port is taken. Call it before this process
    has threads.
    """
    if port is None or health_port is None:
        yield lambda _workers: None
        return
    context = get_context("fork")
    count = context.Value("i", workers, lock=False)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(theirs, host, port, health_port, count, run), name="muse-pages")
    child.start()
    theirs.close()

    def now(number: int) -> None:
        count.value = number

    try:
        problem = ours.recv()
        if problem:
            raise MuseError(problem)
        yield now
    except EOFError:
        raise MuseError("the process that serves the pages of this run ended without an answer") from None
    finally:
        child.kill()
        child.join()
        ours.close()


def _serve(pipe: Any, host: str, port: int, health_port: int, count: Any, run: tuple[str, str, str]) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its supervisor, whose drain is still to be seen
    watchdog.die_with(os.getppid())
    process_title.show("pages", *run)
    pages = RunPages(host, health_port, lambda: count.value)
    try:
        server = telemetry.HealthServer(
            port, pages.live, pages.ready, started=pages.started, metrics=pages.metrics, host=host
        )
    except (OSError, OverflowError) as error:
        pipe.send(f"pages of this run: cannot listen on {host}, port {port}: {error}")
        return
    with server:
        pipe.send("")
        threading.Event().wait()
