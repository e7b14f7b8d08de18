"""What becomes of questions: errors of a registry by a stand-in for its client; what answers well is a real one's.

tests/integration/test_schema_registry.py has a real registry and workers.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from muse_stream.avro import complete, parse_schema
from muse_stream.avro.framing import confluent_prefix
from muse_stream.errors import RegistryError, SchemaError, SchemaPending
from muse_stream.schema_registry import registry as module
from muse_stream.schema_registry.cache import SchemaCache
from muse_stream.schema_registry.client import Unknown
from muse_stream.schema_registry.registry import Registry
from tests.patience import until

URL = "http://registry:8081"


def text(name: str = "Event") -> str:
    return json.dumps({"type": "record", "name": name, "fields": [{"name": "id", "type": "string"}]})


class Stub:
    """Answers what it is told to."""

    url = URL

    def __init__(self) -> None:
        self.answers: dict[int, str | Exception] = {}
        self.otherwise: Exception = Unknown("40403")
        self.asked: Counter[int] = Counter()
        self.open = threading.Event()
        self.open.set()
        self.subjects: dict[str, list[tuple[int, int, str]]] = {}
        self.lookup: Exception | None = None

    def text(self, schema_id: int) -> str:
        self.open.wait(60)
        self.asked[schema_id] += 1
        found = self.answers.get(schema_id, self.otherwise)
        if isinstance(found, Exception):
            raise found
        return found

    def versions(self, subject: str) -> list[int]:
        return [version for _, version, _ in self.subjects.get(subject, [])]

    def version(self, subject: str, version: int) -> tuple[int, int, str]:
        return next(one for one in self.subjects[subject] if one[1] == version)

    def registered(self, subject: str, text: str) -> int | None:
        if self.lookup is not None:
            raise self.lookup
        return next((number for number, _, known in self.subjects.get(subject, []) if known == text), None)


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.open.set()


def opened(stub: Stub, folder: Path, *, wait_s: float = 60.0, grace_s: float = 0.0) -> Registry:
    return Registry(stub, SchemaCache(URL, folder), wait_s, grace_s)


def test_what_was_told_once_is_asked_never_again(stub: Stub, tmp_path: Path) -> None:
    stub.answers[7] = text()
    assert opened(stub, tmp_path).schema(7).id == 7
    stub.answers[7] = RegistryError("away")
    again = opened(stub, tmp_path).schema(7)
    assert (again.name, again.text, stub.asked[7]) == ("Event", text(), 1)


@pytest.mark.parametrize(
    "spoilt", [b"", b"{", b'{"id": 8}', None], ids=["empty", "half", "of another id", "another text"]
)
def test_a_damaged_file_is_as_good_as_none(stub: Stub, tmp_path: Path, spoilt: bytes | None) -> None:
    stub.answers[7] = text()
    opened(stub, tmp_path).schema(7)
    (file,) = tmp_path.rglob("7.json")
    file.write_bytes(file.read_bytes().replace(b"Event", b"Other") if spoilt is None else spoilt)
    assert opened(stub, tmp_path).schema(7).name == "Event"
    assert stub.asked[7] == 2


def test_without_a_place_on_disk_it_is_asked_each_time(stub: Stub, tmp_path: Path) -> None:
    stub.answers[7] = text()
    (tmp_path / "schemas").write_text("no folder")
    assert opened(stub, tmp_path).schema(7).name == "Event"


def test_who_asks_for_the_id_of_our_own_schema_hears_that_the_registry_is_away(stub: Stub, tmp_path: Path) -> None:
    """Away for as long as somebody asks: a generation that nobody wants any more leaves no complaint behind."""
    clock = [1_000.0]
    registry = Registry(stub, SchemaCache(URL, tmp_path), clock=lambda: clock[0])
    stub.lookup = RegistryError("no route to host")
    with pytest.raises(RegistryError):
        registry.registered("scores-value", text())
    assert (registry.away, registry.waiting) == ("no route to host", 0)
    clock[0] += module.STALE_S
    assert not registry.away
    with pytest.raises(RegistryError):
        registry.registered("scores-value", text())
    assert registry.away
    stub.lookup = None
    assert registry.registered("scores-value", text()) is None
    assert not registry.away


def test_an_id_of_another_registry_is_not_taken(stub: Stub, tmp_path: Path) -> None:
    SchemaCache("http://other:8081", tmp_path).write(7, text("Other"))
    stub.answers[7] = text()
    assert opened(stub, tmp_path).schema(7).name == "Event"


def test_a_registry_that_does_not_answer_says_nothing_of_an_id(stub: Stub, tmp_path: Path) -> None:
    stub.answers[7] = RegistryError("no route to host")
    registry = opened(stub, tmp_path, wait_s=0.0)
    with pytest.raises(SchemaPending):
        registry.schema(7)
    until(lambda: stub.asked[7] >= 3, 20)
    with pytest.raises(SchemaPending, match="no route to host") as pending:
        registry.schema(7)
    assert not pending.value.ready()
    assert registry.away == "no route to host"
    stub.answers[7] = text()
    until(pending.value.ready, 20)
    assert registry.schema(7).name == "Event"
    assert not registry.away


def test_an_id_that_it_does_not_have_is_asked_for_again_before_it_is_given_up(stub: Stub, tmp_path: Path) -> None:
    registry = opened(stub, tmp_path, wait_s=0.0, grace_s=3600.0)
    with pytest.raises(SchemaPending):
        registry.schema(7)
    until(lambda: stub.asked[7] >= 2, 20)
    stub.answers[7] = text()  # a replica that was behind
    registry.wait_s = 60.0
    until(lambda: 7 in registry._found, 20)
    assert registry.schema(7).name == "Event"


def test_what_is_given_up_is_known_as_unknown_and_asked_for_again_later(stub: Stub, tmp_path: Path) -> None:
    clock = [0.0]
    registry = Registry(stub, SchemaCache(URL, tmp_path), 60.0, 0.0, lambda: clock[0])
    for _ in range(3):
        with pytest.raises(SchemaError, match=f"schema id 7 is not in the registry {URL}"):
            registry.schema(7)
    assert stub.asked[7] == 1
    stub.answers[7] = text()
    clock[0] += module.UNKNOWN_S + 1
    assert registry.schema(7).name == "Event"


def test_of_ids_that_somebody_invents_only_so_many_are_asked_for(stub: Stub, tmp_path: Path) -> None:
    registry = opened(stub, tmp_path, wait_s=0.0, grace_s=3600.0)
    stub.open.clear()
    registry.expect(list(range(module.MOST_PENDING + 500)))
    with pytest.raises(SchemaPending):
        registry.schema(0)
    with pytest.raises(SchemaError, match="not in the registry"):
        registry.schema(module.MOST_PENDING + 400)


def test_invented_ids_do_not_hold_a_good_one_back(stub: Stub, tmp_path: Path) -> None:
    """What was asked least often is asked next."""
    registry = opened(stub, tmp_path, wait_s=0.0, grace_s=3600.0)
    registry.expect(list(range(500)))
    until(lambda: len(stub.asked) == 500, 30)
    stub.answers[1_000] = text()
    registry.wait_s = 60.0
    assert registry.schema(1_000).name == "Event"
    assert max(stub.asked.values()) < 50


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (SchemaError("schema id 7 is no Avro schema: PROTOBUF"), "PROTOBUF"),
        ('"string"', "schema id 7"),
        ('{"type": "record"', "schema id 7"),
    ],
)
def test_a_schema_that_cannot_be_used_is_one_for_good(
    stub: Stub, tmp_path: Path, answer: str | Exception, said: str
) -> None:
    stub.answers[7] = answer
    registry = opened(stub, tmp_path)
    for _ in range(2):
        with pytest.raises(SchemaError, match=said) as error:
            registry.schema(7)
        assert not isinstance(error.value, SchemaPending)
    assert stub.asked[7] == 1


def test_a_fault_nobody_foresaw_does_not_end_the_asking(stub: Stub, tmp_path: Path) -> None:
    stub.answers[7] = ZeroDivisionError("odd")
    registry = opened(stub, tmp_path, wait_s=0.0)
    with pytest.raises(SchemaPending) as pending:
        registry.schema(7)
    until(lambda: stub.asked[7] >= 2, 20)
    stub.answers[7] = text()
    until(pending.value.ready, 20)


def test_a_fingerprint_is_looked_for_among_the_versions_of_subjects(stub: Stub, tmp_path: Path) -> None:
    stub.subjects = {"a-value": [(1, 1, text("Old")), (2, 2, "spoilt")], "b-value": [(3, 1, text("New"))]}
    registry = opened(stub, tmp_path)
    wanted = parse_schema(text("New")).fingerprint
    assert registry.schema((wanted, ("a-value", "b-value"))).name == "New"
    with pytest.raises(SchemaError, match=wanted.hex()):
        registry.schema((wanted, ("a-value",)))


def test_types_of_references_are_put_in() -> None:
    currency = '{"type": "enum", "name": "Currency", "namespace": "shop", "symbols": ["EUR"]}'
    money = json.dumps(
        {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "in", "type": "Currency"}]}
    )
    event = json.dumps(
        {"type": "record", "name": "Event", "namespace": "till", "fields": [{"name": "price", "type": "shop.Money"}]}
    )
    whole = complete(event, {"money version 1": money, "currency version 3": currency}, "schema id 9")
    assert "Currency" in parse_schema(whole).text
    assert confluent_prefix(9) == b"\x00\x00\x00\x00\x09"
