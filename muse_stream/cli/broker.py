"""`broker`: a Kafka broker to try things out on, for as long as the command runs. Nothing is left when it ends."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.output import note, say, show_line
from muse_stream.errors import MuseError

if TYPE_CHECKING:
    from muse_stream.testing import Broker

PORT = 9092
"""Where every command looks when nothing says where Kafka is."""
LOOK_S, TURN_S = 2.0, 0.1


def broker(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, show_default=str(PORT), help="Port to listen on; 0 takes any that is free."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one line of JSON.")] = False,
) -> None:
    """Start a Kafka broker to try things out on, and keep it until Ctrl-C or SIGTERM.

    It is one real broker for this machine, without passwords: a container where a Docker engine answers, else Kafka's
    own jars on the local JVM (fetched once). Its topics end with it. Where MUSE_KAFKA_BOOTSTRAP_SERVERS names a
    cluster already, nothing is started: the command says whether it answers.

    Examples:

    ```
    muse-stream broker
    muse-stream broker --port 19092
    muse-stream broker --port 0 --json
    ```

    In another terminal, as the command prints it:

    ```
    export MUSE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:19092
    muse-stream topics muse.yaml
    ```
    """
    from muse_stream.testing import Cluster  # noqa: PLC0415 - loads Kafka's client and Docker's
    from muse_stream.testing import broker as started  # noqa: PLC0415

    with _told(signal.default_int_handler), started(_aside, port=PORT if port is None else port) as kafka:
        own = isinstance(kafka, Cluster)
        if own and port is not None:
            raise typer.BadParameter(f"no broker is started: {kafka.rung} names a cluster", param_hint="--port")
        if as_json:
            show_line({"bootstrap_servers": kafka.bootstrap, "broker": kafka.rung})
        else:
            note("Nothing was started: this cluster answers." if own else "Kafka answers. In other terminals:")
            say(f"export MUSE_KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap}")
            sys.stdout.flush()
            note("Ctrl-C ends this command." if own else "Ctrl-C stops the broker; its topics end with it.")
        _keep(kafka)


def _aside(line: str) -> None:
    note(line, "dim")


@contextmanager
def _told(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let SIGINT and SIGTERM mean the same.

    While the broker starts, both interrupt: what was begun (Maven's fetch, a container) is cleared away. Once it runs,
    both set a flag: an exception from anywhere could leave locks held.
    """
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _keep(kafka: "Broker") -> None:
    """Wait until told to stop; raises MuseError when the broker ends before."""
    asked: list[int] = []
    with _told(lambda number, _frame: asked.append(number)):
        look = 0.0
        while not asked:
            if time.monotonic() > look:
                if not kafka.running():
                    raise MuseError("the broker has ended by itself")
                look = time.monotonic() + LOOK_S
            time.sleep(TURN_S)
