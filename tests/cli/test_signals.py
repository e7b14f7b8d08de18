"""Signals while a command starts, and missing standard streams: the program as a process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE, until

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
PROGRAM = [sys.executable, "-m", "muse_stream"]
HEEDING = ["env", "--default-signal=HUP"]
"""The tests may run under nohup, and what was ignored stays so."""
FIRST_OF_ALL = ["unshare", "--pid", "--fork", "--kill-child"]
"""As the first process of a container: a signal without a handler is not delivered."""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A broker's address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        listening.settimeout(30 * PATIENCE)
        yield listening


def may_unshare() -> bool:
    try:
        return subprocess.run([*FIRST_OF_ALL, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


FIRST = pytest.mark.skipif(not may_unshare(), reason="a namespace of its own needs root and unshare")


# each start of the program costs one to two seconds of CPU: of each table one is met by `make test`, the rest is long
@pytest.mark.parametrize(
    ("prefix", "number"),
    [
        pytest.param([], signal.SIGTERM, id="a process, SIGTERM"),
        pytest.param([], signal.SIGHUP, id="a process, SIGHUP", marks=pytest.mark.long),
        pytest.param([], signal.SIGQUIT, id="a process, SIGQUIT", marks=pytest.mark.slow),
        pytest.param(FIRST_OF_ALL, signal.SIGTERM, id="the first process, SIGTERM", marks=[FIRST, pytest.mark.long]),
        pytest.param(FIRST_OF_ALL, signal.SIGHUP, id="the first process, SIGHUP", marks=[FIRST, pytest.mark.slow]),
        pytest.param(FIRST_OF_ALL, signal.SIGQUIT, id="the first process, SIGQUIT", marks=[FIRST, pytest.mark.slow]),
    ],
)
def test_a_run_that_looks_for_kafka_ends_at_a_signal(
    silent: socket.socket, prefix: Sequence[str], number: signal.Signals
) -> None:
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"}
    command = [*prefix, *HEEDING, *PROGRAM, "run", "--role", "live", "--config", str(EXAMPLE)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        silent.accept()[0].close()
        program = psutil.Process(process.pid)
        if prefix:
            (program,) = program.children()
        others = program.children(recursive=True)
        program.send_signal(number)
        assert process.wait(8 * PATIENCE) == 128 + number
        until(lambda: not any(one.is_running() for one in others), 10, lambda: f"left behind: {others}")
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_while_it_is_being_loaded_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'muse_stream.cli.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from muse_stream.__main__ import main; sys.exit(main(['schema']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_what_was_ignored_stays_so() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from muse_stream.__main__ import _signals\n"
        "with _signals(): signal.raise_signal(signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


@pytest.mark.parametrize(
    "closed",
    [pytest.param("2>&-", marks=pytest.mark.long), pytest.param(">&- 2>&-", marks=pytest.mark.slow), "<&- >&- 2>&-"],
)
def test_a_program_without_standard_streams_works(closed: str) -> None:
    command = f'exec "$0" -m muse_stream check "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, str(EXAMPLE)], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("document", "code"),
    [
        pytest.param("no-such.yaml", 2, id="refused"),
        pytest.param(str(EXAMPLE), 0, id="well, and nothing to say", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_under_stderr_changes_no_exit_code(document: str, code: int) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [*PROGRAM, "check", document], stdout=subprocess.DEVNULL, stderr=full, check=False, timeout=60 * PATIENCE
        )
    assert done.returncode == code


def test_a_reader_that_has_gone_is_no_news() -> None:
    """`muse-stream schema | true`: no traceback, and no success."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run([*PROGRAM, "schema"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_two_interrupts_are_no_traceback(silent: socket.socket) -> None:
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"}
    command = [*PROGRAM, "topics", str(EXAMPLE)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        silent.accept()[0].close()
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=8 * PATIENCE)
        assert process.returncode in (130, -signal.SIGINT), "the second may come when everything is over"
        assert "Traceback" not in said, said
        assert "Exception ignored" not in said, said
    finally:
        process.kill()
        process.wait()


def test_an_interrupt_while_an_interrupt_is_obeyed_is_no_traceback() -> None:
    code = (
        "import signal, sys, muse_stream.__main__ as program\n"
        "def run(_arguments):\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    finally: signal.raise_signal(signal.SIGINT)\n"
        "program._run = run\n"
        "assert program.main([]) == 130\n"
        "signal.raise_signal(signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["schema"], id="schema"),
        pytest.param(["check", str(EXAMPLE)], id="check", marks=pytest.mark.long),
    ],
)
def test_a_full_standard_output_is_named(command: Sequence[str]) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [*PROGRAM, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30 * PATIENCE, check=False
        )
    assert (done.returncode, done.stderr) == (1, "Error: standard output: No space left on device\n")
