"""A frozen process runs no more when `freeze` returns, whatever its threads did."""

import subprocess
import sys
from pathlib import Path

from muse_stream.testing.freeze import freeze

BUSY = """
import itertools, threading
def spin():
    while True:
        pass
for _ in range(4):
    threading.Thread(target=spin, daemon=True).start()
for number in itertools.count():
    print(number, flush=True)
"""


def test_nothing_is_done_after_it(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as out, subprocess.Popen([sys.executable, "-c", BUSY], stdout=out) as process:
        try:
            while not said.stat().st_size:
                assert process.poll() is None
            freeze(process.pid)
            threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
            states = [one.read_text().rpartition(")")[2].split()[0] for one in threads]
            assert states
            assert set(states) == {"T"}
        finally:
            process.kill()
