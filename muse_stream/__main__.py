"""The program: `muse-stream`, or `python -m muse_stream`.

Imports nothing but the standard library before signals end it in order and before it knows that the extra `cli` is
installed.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from muse_stream.extras import missing_extra

INTERRUPTED = 130
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
IMPORT_THRESHOLD = 500_000
"""Objects that are made before cyclic garbage is looked for: the imports make 200,000, which are none, and Python would
look after each 700."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    gc.set_threshold(IMPORT_THRESHOLD)
    try:
        code = _run(arguments)
    except KeyboardInterrupt:  # also a second one, while the first is being obeyed
        code = INTERRUPTED
    if code == INTERRUPTED and threading.current_thread() is threading.main_thread():
        # one that comes while the interpreter ends would be told as a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    with _signals() as told:
        _open_standard_streams()
        # pydantic would read what each installed package offers it: 20 ms, and code that nobody has asked for
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        try:
            from muse_stream.cli.main import main as program  # noqa: PLC0415
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            print(f"Error: {missing}", file=sys.stderr)
            return missing.exit_code
        except KeyboardInterrupt:  # before the command line is there to say it
            return 128 + signal.SIGINT
        code = program(arguments)
        # an import that is interrupted may make an error of its own of it
        return 128 + told[0] if told else code


@contextmanager
def _signals() -> Iterator[list[int]]:
    """End the command in order when it is told to end; yields what it was told, once it is.

    A command that drains handles its signals itself.

    The kernel does not deliver a signal without a handler to the first process of a container. What was ignored stays
    so (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    told: list[int] = []

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        told.append(number)
        raise SystemExit(128 + number)

    before = {one: signal.getsignal(one) for one in ENDING if signal.getsignal(one) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
