"""The program: `muse-stream`, or `python -m muse_stream`.

Imports nothing but the standard library before signals end it in order and before it knows that the extra `cli` is
installed.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from muse_stream.extras import missing_extra

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with _signals():
        _open_standard_streams()
        try:
            from muse_stream.cli.main import main as program  # noqa: PLC0415
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            print(f"Error: {missing}", file=sys.stderr)
            return missing.exit_code
        return program(arguments)


@contextmanager
def _signals() -> Iterator[None]:
    """End the command in order when it is told to end; a command that drains handles its signals itself.

    The kernel does not deliver a signal without a handler to the first process of a container. What was ignored stays
    so (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in ENDING if signal.getsignal(one) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _open_standard_streams() -> None:
    """Give a process that was started without standard streams some that take nothing and hold nothing.

    Otherwise the next file or socket becomes, say, standard error, and what is written there goes to Kafka.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
