"""No bytes kill, hang or flood a process: random schemas, good records and damaged ones, decoded in a child process.

A native crash, a panic or a hang is an assertion here that names schema, seed and payload, and not a dead pytest. For
an hour of it: `pytest tests/avro/test_hostile.py --hypothesis-profile=long -o timeout=0`.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from muse_stream.avro.samples import varint
from tests.avro.hostile_data import schema_documents, spoil

Json = Any
ROWS = 30
MOST_MB = 500
"""Of the child: about 150 of its own, one call of the batch decoder (codec.MOST_MEMORY), and some."""


def rec(name: str, *kinds: Json) -> Json:
    fields = [{"name": f"f{index}", "type": kind} for index, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "fields": fields}


def event(*kinds: Json) -> Json:
    document = rec("Event", *kinds)
    return {**document, "fields": [{"name": "id", "type": "string"}, *document["fields"]]}


def array(items: Json) -> Json:
    return {"type": "array", "items": items}


def mapping(values: Json) -> Json:
    return {"type": "map", "values": values}


def deep(levels: int, inside: Callable[[Json], Json]) -> Json:
    return inside(deep(levels - 1, inside)) if levels else "int"


def enum(name: str, *symbols: str) -> Json:
    return {"type": "enum", "name": name, "symbols": list(symbols)}


class Child:
    """A process of `hostile_child`, started again when it has died."""

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
                [sys.executable, "-m", "tests.avro.hostile_child"],
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


def often(examples: int) -> settings:
    """Return settings for so many examples, more by profile; what fails is not shrunk: each try may cost a process."""
    more = settings().max_examples // 100  # 100 is hypothesis' own default
    phases = [Phase.reuse, Phase.generate]
    return settings(
        max_examples=examples * max(more, 1), deadline=None, suppress_health_check=list(HealthCheck), phases=phases
    )


@given(document=schema_documents(), number=st.integers(0, 2**32))
@often(12)
def test_hardly_any_bytes_kill_a_decoder(child: Child, document: Json, number: int) -> None:
    assert child.run(schema=document, seed=number, rows=ROWS)["rss_mb"] < MOST_MB


@pytest.mark.long  # the test before tries a fifth as many
@given(document=schema_documents(), number=st.integers(0, 2**32))
@often(60)
def test_no_bytes_kill_a_decoder(child: Child, document: Json, number: int) -> None:
    assert child.run(schema=document, seed=number, rows=ROWS)["rss_mb"] < MOST_MB


@given(document=schema_documents(), number=st.integers(0, 2**32))
@often(25)
def test_a_spoilt_schema_is_read_or_refused(child: Child, document: Json, number: int) -> None:
    rng = random.Random(number)
    for _ in range(8):
        child.run(schema=spoil(document, rng), seed=number, rows=2)


NUMBERS = ["null", "float", "double"]
NULL_PARENTS = {
    "a union of numbers": event(["null", rec("R", NUMBERS)]),
    "a union without null": event([rec("R", ["string", enum("E", "A", "B")]), "null"]),
    "a union of everything": event(["null", rec("R", ["null", "string", "long", array("int"), rec("S", "int")])]),
    "a union of one": event(["null", rec("R", ["int"])]),
    "a union of null": event(["null", rec("R", ["null"])]),
    "nothing": event(["null", rec("R", "null", "int")]),
    "a record": event(["null", rec("R", rec("S", NUMBERS, ["null", "int"]))]),
    "a record alone in a union": event(["null", rec("R", [rec("S", NUMBERS, ["null", "int"], "string")])]),
    "a nullable record": event(["null", rec("R", ["null", rec("S", NUMBERS, ["boolean", "long"])])]),
    "five deep": event(["null", rec("R", ["null", rec("S", rec("T", ["null", rec("U", [rec("V", NUMBERS)])]))])]),
    "lists": event(["null", rec("R", array(NUMBERS), mapping(["null", rec("S", NUMBERS)]), ["null", array("int")])]),
    "lists of it": event(array(["null", rec("R", NUMBERS)]), mapping(["null", rec("S", array(NUMBERS))]), NUMBERS),
    "bytes": event(["null", rec("R", ["null", "bytes", "string"], {"type": "fixed", "name": "F", "size": 0})]),
    "int and long": event(["null", rec("R", ["null", "int", "long"])]),
    "lists in lists": event(["null", rec("R", deep(20, array), deep(20, mapping), NUMBERS)]),
    "another record": event(["null", rec("R", NUMBERS), rec("S", "int")], ["null", "int"]),
}
"""What may stand in a record that may be null, where Arrow has no null of its own."""


@pytest.mark.parametrize("inside", NULL_PARENTS)
def test_a_null_record_gives_nulls_whatever_would_stand_in_it(child: Child, inside: str) -> None:
    for number in range(3):
        assert "refused" not in child.run(schema=NULL_PARENTS[inside], seed=number, rows=ROWS)


ROW = rec("Row", *["double"] * 100)
BLOB = {"type": "fixed", "name": "Blob", "size": 1}
ITEMS, COPIES = 200_000, 3
WIDE = {
    # a byte is a whole row of Arrow, or of Python, for whoever takes the event as it says
    "null rows": (event(array(["null", ROW])), "00"),
    "null rows for records": (event(array(["null", ROW]), BLOB), "00"),
    "rows of a boolean": (event(array(rec("R", "boolean")), BLOB), "01"),
    "rows of nothing": (event(array(rec("R", "boolean", *["null"] * 100)), BLOB), "01"),
    "empty maps": (event(array(rec("R", mapping("int"))), BLOB), "00"),
    "long symbols": (event(array(enum("E", "A", "B" * 5000))), "02"),
    "many branches": (event(array(["null", *(enum(f"E{index}", "A") for index in range(99))])), "00"),
    "rows in rows": (event(array(rec("R", rec("S", rec("T", "boolean", ["null", ROW]))))), "0100"),
    "a map of rows": (event(mapping(["null", ROW])), "0000"),
}


@pytest.mark.parametrize("what", WIDE)
def test_an_event_within_its_limit_takes_no_gigabytes(child: Child, what: str) -> None:
    schema, unit = WIDE[what]
    after = "00" * len(schema["fields"][1:])  # the list's end, and what follows it
    parts = [("0261" + varint(ITEMS).hex(), 1), (unit, ITEMS), (after, 1)]
    answer = child.run(schema=schema, parts=parts, copies=COPIES)
    assert answer["read"] == COPIES, answer
    assert answer["rss_mb"] < MOST_MB


@pytest.mark.parametrize("count", [2**31 - 1, 2**31, 2**40, 2**60, 2**63 - 1, -1, -(2**40), -(2**63)])
@pytest.mark.parametrize("kind", ["string", "bytes", array("double"), array("string"), mapping("long")], ids=str)
def test_a_count_beyond_the_bytes_is_refused_before_anything_is_allocated(child: Child, kind: Json, count: int) -> None:
    for after in ("00", "", "02020202"):
        parts = [("0261" + varint(count).hex() + after, 1)]
        answer = child.run(schema=event(kind), parts=parts, copies=3)
        assert answer["read"] == 0, answer
        assert answer["rss_mb"] < MOST_MB
