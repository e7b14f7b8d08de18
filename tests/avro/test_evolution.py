"""Every version of the output schemas that was ever published is still read (the rules are in schemas/README.md).

`frozen/` holds, for version N of NAME, the schema (`NAME.N.avsc`), framed values written with it, one a line in hex
(`NAME.N.hex`), and what they say (`NAME.N.json`). A new version adds three files; none is ever changed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from muse_stream.avro import Decoder, Fields, Schema, SchemaDirectory, decode_records, parse_schema
from tests.avro.avro_data import column_paths, directory, listed
from tests.avro.test_schemas import PROJECT_SCHEMAS

FROZEN = Path(__file__).parent / "frozen"
VERSIONS = sorted(path.stem for path in FROZEN.glob("*.avsc"))
NOW = SchemaDirectory.open(PROJECT_SCHEMAS)


def version(name: str) -> tuple[Schema, Schema, list[bytes], list[dict[str, Any]]]:
    """Return the frozen schema, today's, the frozen values and what they say."""
    old = parse_schema((FROZEN / f"{name}.avsc").read_text(), file=f"{name}.avsc")
    values = [bytes.fromhex(line) for line in (FROZEN / f"{name}.hex").read_text().split()]
    said = json.loads((FROZEN / f"{name}.json").read_text())
    return old, NOW.by_file(f"{name.split('.', 1)[0]}.avsc"), values, said


def test_both_outputs_have_frozen_versions() -> None:
    assert {"score.1", "audit.1"} <= set(VERSIONS)


@pytest.mark.parametrize("name", VERSIONS)
def test_todays_schema_reads_the_old_bytes(name: str) -> None:
    old, now, values, said = version(name)
    paths = tuple(path for path in column_paths(now) if "." not in path)
    assert set(column_paths(old)) <= set(paths), "no column was lost"
    found = Decoder(directory(old, now), now, Fields("event_id", "event_time", "tenant", paths)).decode(values)
    assert not found.rejected
    assert found.ids.to_pylist() == [record["event_id"] for record in said]
    for path in column_paths(old):
        assert listed(found.columns[path]) == [record[path] for record in said], path


@pytest.mark.parametrize("name", VERSIONS)
def test_the_old_schema_reads_its_bytes_whole(name: str) -> None:
    old, _, values, said = version(name)
    found = decode_records(directory(old), values)
    assert json.loads(json.dumps(found, default=lambda moment: round(moment.timestamp() * 1000))) == said


@pytest.mark.parametrize("name", VERSIONS)
def test_fields_are_only_added_and_only_with_a_default(name: str) -> None:
    old, now, _, _ = version(name)
    kept, added = now.type.fields[: len(old.type.fields)], now.type.fields[len(old.type.fields) :]
    assert [(field.name, field.type) for field in kept] == [(field.name, field.type) for field in old.type.fields]
    assert all(field.has_default for field in added)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_that_was_replaced_is_still_found_by_its_fingerprint(name: str) -> None:
    old, now, _, _ = version(name)
    assert old.fingerprint == now.fingerprint or NOW.by_fingerprint(old.fingerprint).name == old.name
