"""No bytes kill, hang or flood a process: random schemas, good records and damaged ones, decoded in a child process.

A native crash, a panic or a hang is an assertion here that names schema, seed and payload, and not a dead pytest.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.wire.hostile_data import schema_documents

Json = Any
ROWS = 30


class Child:
    """A process of `hostile_child`, started anew when it has died."""

    def __init__(self, stderr: IO[str]) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stderr = stderr

    def run(self, **job: Any) -> dict[str, Any]:
        """Return its answer; fails, naming the payload, when it died, wrote to stderr or found something."""
        answer, _ = self._ask(job)
        if answer["failed"] is not None:
            again, last = self._ask({**job, "alone": True})
            pytest.fail(f"{answer['failed']}\nalone: {again['failed']}\nat {last}\njob {json.dumps(job)}")
        return answer

    def _ask(self, job: dict[str, Any]) -> tuple[dict[str, Any], str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.wire.hostile_child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True,
            )  # fmt: skip
        process, last = self._process, "no payload alone"
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        answer: dict[str, Any] = {}
        for line in process.stdout:
            if not line.startswith("at "):
                answer = json.loads(line)
                break
            last = line.removeprefix("at ").strip()
        else:
            answer["failed"] = f"died with code {process.wait()}"
            self.close()
        self._stderr.seek(0)
        if said := self._stderr.read():
            answer["failed"] = f"{answer['failed']}; on stderr: {said}"
            self._stderr.seek(0)
            self._stderr.truncate()
        return answer, last

    def close(self) -> None:
        """Forget the process; the next job finds a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with tempfile.TemporaryFile("w+") as stderr:
        one = Child(stderr)
        yield one
        one.close()


@pytest.mark.parametrize("examples", [80, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_no_schema_and_no_bytes_kill_a_decoder(child: Child, examples: int) -> None:
    # not shrunk: every step of that may cost a process
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.reuse, Phase.generate],
    )
    @given(schema_documents(), st.integers(0, 2**32))
    def survives(document: Json, number: int) -> None:
        answer = child.run(schema=document, seed=number, rows=ROWS)
        assert answer["rss_mb"] < 1024

    survives()
