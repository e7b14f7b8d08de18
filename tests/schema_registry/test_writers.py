"""Which schema an event was written with, where a format asks the registry: ids, fingerprints, what is waited for."""

from importlib import import_module
from pathlib import Path

import pytest

from muse_stream.avro import Decoder, Encoder, Fields, RecordTables, Schema, parse_schema
from muse_stream.avro.framing import confluent_prefix
from muse_stream.config import load_document
from muse_stream.errors import Reason, RegistryError, SchemaError, SchemaPending
from muse_stream.schema_registry import RegisteredSchemas, subjects, writers
from muse_stream.schema_registry.cache import SchemaCache
from muse_stream.schema_registry.registry import Registry
from tests.avro.avro_data import directory, framed, listed, schema_of
from tests.patience import until
from tests.schema_registry.test_registry import URL, Stub

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
READER = schema_of(("id", "string"), ("x", "double"), file="reader.avsc")
NEWER = schema_of(("x", "double"), ("id", "string"), ("more", "string"), file="newer.avsc")


def schemas(stub: Stub, folder: Path, *names: str, wait_s: float = 60.0) -> RegisteredSchemas:
    registry = Registry(stub, SchemaCache(URL, folder), wait_s, 0.0)
    return RegisteredSchemas(directory(READER, ids={1: READER}), registry, names)


def value(schema: Schema, number: int, **fields: object) -> bytes:
    """Return a record behind the Confluent frame."""
    return confluent_prefix(number) + framed(schema, fields)[10:]


def decoder(found: RegisteredSchemas) -> Decoder:
    return Decoder(found, READER, Fields("id", columns=("x",)))


def test_an_id_is_the_registrys_whatever_the_folder_says(tmp_path: Path) -> None:
    stub = Stub()
    stub.answers = {1: NEWER.text, 2: READER.text}
    new, old = value(NEWER, 1, x=2.0, id="a", more="m"), value(READER, 2, id="b", x=3.0)
    found = decoder(schemas(stub, tmp_path)).decode([new, old, framed(READER, {"id": "c", "x": 4.0})])
    assert (found.ids.to_pylist(), listed(found.columns["x"])) == (["a", "b", "c"], [2.0, 3.0, 4.0])
    assert not found.rejected


def test_all_that_must_be_waited_for_is_said_at_once_and_nothing_is_decoded(tmp_path: Path) -> None:
    stub = Stub()
    stub.answers = {1: READER.text}
    stub.otherwise = RegistryError("away")
    known = value(READER, 1, id="a", x=1.0)
    asked = schemas(stub, tmp_path, wait_s=0.0)
    asked.expect([known[:5]])
    reading = decoder(asked)
    with pytest.raises(SchemaPending) as pending:
        reading.decode([value(NEWER, 8, x=1.0, id="", more=""), known, b"", value(NEWER, 9, x=1.0, id="", more="")])
    assert {0, 3} <= set(pending.value.rows) <= {0, 1, 3}
    assert not pending.value.ready()


def test_an_id_that_it_does_not_have_costs_its_records_alone(tmp_path: Path) -> None:
    stub = Stub()
    stub.answers = {1: READER.text}
    found = decoder(schemas(stub, tmp_path)).decode([value(READER, 1, id="a", x=1.0), confluent_prefix(5) + b"x"])
    assert found.ids.to_pylist() == ["a"]
    (one,) = found.rejected
    assert (one.row, one.reason) == (1, Reason.UNKNOWN_SCHEMA)


def test_a_fingerprint_of_the_folder_is_not_asked_for_and_another_is_among_the_subjects(tmp_path: Path) -> None:
    stub = Stub()
    reading = decoder(schemas(stub, tmp_path, "t-value"))
    assert not reading.decode([framed(READER, {"id": "a", "x": 1.0})]).rejected
    assert not stub.asked
    stub.subjects = {"t-value": [(4, 1, NEWER.text)]}
    new = framed(NEWER, {"id": "b", "x": 2.0, "more": ""})
    assert reading.decode([new]).ids.to_pylist() == ["b"]


def test_without_subjects_a_fingerprint_is_the_folders_alone(tmp_path: Path) -> None:
    """Answers of our own: nobody waits for what somebody else has written to their topic."""
    found = decoder(schemas(Stub(), tmp_path)).decode([framed(NEWER, {"id": "b", "x": 2.0, "more": ""})])
    assert [one.reason for one in found.rejected] == [Reason.UNKNOWN_SCHEMA]


def test_where_no_registry_is_named_events_wait(tmp_path: Path) -> None:
    found = RegisteredSchemas(directory(READER), None, ())
    with pytest.raises(SchemaPending, match="set MUSE_REGISTRY_URL"):
        decoder(found).decode([confluent_prefix(1) + b"x"])
    assert found.by_file("reader.avsc") == READER
    assert found.holds("reader.avsc") and found.files() == ("reader.avsc",)


def test_of_whole_records_none_is_left_out_that_has_to_be_waited_for(tmp_path: Path) -> None:
    """Who archives them would take it for none of ours, for good."""
    stub = Stub()
    stub.answers = {1: READER.text}
    stub.otherwise = RegistryError("away")
    values = [value(READER, 1, id="a", x=1.0), value(READER, 8, id="b", x=2.0)]
    asked = schemas(stub, tmp_path, wait_s=0.0)
    tables = RecordTables(asked, READER)
    with pytest.raises(SchemaPending):
        tables.read(values)
    stub.answers[8] = READER.text
    until(lambda: not asked_for(asked, 8), 20)
    assert tables.read(values).table.column("id").to_pylist() == ["a", "b"]


def asked_for(found: RegisteredSchemas, number: int) -> bool:
    try:
        found.by_id(number)
    except SchemaPending:
        return True
    return False


def test_each_format_says_for_itself_where_ids_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same id is one schema in the folder and another in the registry."""
    stub = Stub()
    stub.answers = {1: NEWER.text}
    module = import_module("muse_stream.schema_registry.writers")  # the package's face has a function of this name
    monkeypatch.setattr(module, "open_registry", lambda: Registry(stub, SchemaCache(URL, tmp_path), 60.0, 0.0))
    document = load_document(EXAMPLE).document
    folder = document.events["card-event"].model_copy(update={"schema_file": "reader.avsc"})
    asking = folder.model_copy(update={"schema_ids": "registry"})
    document = document.model_copy(update={"events": {"folder": folder, "asking": asking}})
    both = [writers(directory(READER, ids={1: READER}), document, name) for name in document.events]
    assert [one.by_id(1).text for one in both] == [READER.text, NEWER.text]


def test_what_the_registry_gives_and_no_decoder_takes_is_refused_for_good(tmp_path: Path) -> None:
    stub = Stub()
    loop = '{"type": "record", "name": "E", "fields": [{"name": "e", "type": "E"}]}'
    stub.answers = {1: loop, 2: SchemaError("schema id 2 is no Avro schema: JSON")}
    found = decoder(schemas(stub, tmp_path)).decode([confluent_prefix(1) + b"x", confluent_prefix(2) + b"x"])
    assert [one.reason for one in found.rejected] == [Reason.UNKNOWN_SCHEMA] * 2
    assert "itself" in found.rejected[0].message
    assert "JSON" in found.rejected[1].message


def test_subjects_are_named_as_confluents_serializers_do() -> None:
    assert subjects("topic_name", ["a", "b"], "shop.Event") == ("a-value", "b-value")
    assert subjects("record_name", ["a", "b"], "shop.Event") == ("shop.Event",)
    assert subjects("topic_record_name", ["a", "b"], "shop.Event") == ("a-shop.Event", "b-shop.Event")


def test_a_schema_of_the_registry_encodes_behind_its_id() -> None:
    schema = parse_schema(READER.text, schema_id=7)
    (made,) = Encoder(schema, "confluent").encode({"id": ["a"], "x": [1.0]}, 1)
    assert made == value(READER, 7, id="a", x=1.0)
