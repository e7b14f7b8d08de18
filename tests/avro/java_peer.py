"""Apache Avro Java as a peer: asked over stdin and stdout what it writes and reads.

Needs java, and the first time Maven, which fetches Avro's jars (tests/avro/java/pom.xml) into .cache/avro-java.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from muse_stream.testing.kafka_jars import call, missing_tools, rename_into_place

HERE = Path(__file__).parent / "java"
CACHE = Path(__file__).parents[2] / ".cache" / "avro-java"
Ask = Callable[..., Any]


def jars() -> Path:
    """Fetch Avro's jars once for each pom."""
    pom = HERE / "pom.xml"
    home = CACHE / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if not home.exists():
        fresh = home.with_name(f"{home.name}.{os.getpid()}")
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        try:
            call(["mvn", "-q", "-B", "-f", str(pom), *goal])
            rename_into_place(fresh, home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return home


@contextmanager
def avro_peer() -> Iterator[Ask]:
    """Ask the peer: keywords make the question, the answer is JSON."""
    if lacking := missing_tools():
        pytest.skip(f"Apache Avro Java cannot be asked: {lacking}")
    command = ["java", "-cp", f"{jars()}/*", str(HERE / "AvroPeer.java")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def ask(**question: Any) -> Any:
            questions.write(json.dumps(question) + "\n")
            questions.flush()
            return json.loads(answers.readline())

        yield ask
        questions.close()
        process.wait(60)
