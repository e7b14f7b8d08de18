"""What Apache Avro's own JsonEncoder writes (avro-tools tojson, kafka-avro-console-consumer) is read to the bit."""

import json
import random
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest

from muse_stream.avro import parse_schema
from muse_stream.files import EventFile
from muse_stream.testing.kafka_jars import missing_tools
from tests.avro.avro_data import payload

PAGE = Path(__file__).resolve().parents[2] / "docs" / "for-score-readers.md"
LACKING = missing_tools()
TO_JSON = """
import java.io.*;
import org.apache.avro.Schema;
import org.apache.avro.file.DataFileReader;
import org.apache.avro.generic.*;
import org.apache.avro.io.*;

/** As avro-tools tojson: an Avro container's records, one a line. */
public class ToJson {
  public static void main(String[] args) throws Exception {
    DataFileReader<Object> reader = new DataFileReader<>(new File(args[0]), new GenericDatumReader<>());
    Schema schema = reader.getSchema();
    DatumWriter<Object> writer = new GenericDatumWriter<>(schema);
    for (Object record : reader) {
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      JsonEncoder encoder = EncoderFactory.get().jsonEncoder(schema, out, false);
      writer.write(record, encoder);
      encoder.flush();
      System.out.write(out.toByteArray());
      System.out.println();
    }
    System.out.flush();
  }
}
"""
CARD = {
    "type": "record",
    "name": "Card",
    "namespace": "org.example",
    "fields": [{"name": "n", "type": ["null", "string"]}],
}
PRICE = {"type": "fixed", "name": "org.example.Price", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 2}
FIELDS: list[tuple[str, Any]] = [
    ("id", "string"),
    ("d", "double"),
    ("od", ["null", "double"]),
    ("of", ["null", "float"]),
    ("l", ["null", "int", "long"]),
    ("b", "bytes"),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}),
    ("oprice", ["null", PRICE]),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("when", ["null", {"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "timestamp-micros"}]),
    ("how", ["null", CARD, CARD | {"name": "Bank"}]),
    ("kind", ["null", {"type": "enum", "name": "Kind", "namespace": "org.example", "symbols": ["A", "B"]}, "string"]),
    ("list", {"type": "array", "items": ["null", "string"]}),
    ("map", ["null", {"type": "map", "values": ["null", "long", "boolean"]}]),
]  # fmt: skip


def rows(count: int) -> list[dict[str, Any]]:
    chance = random.Random(11)
    texts = ["", "é€\U0001f600", 'a"b\\c\n', "\x00\x1f\x7f", "1.5", "NaN"]
    doubles = [0.1, -0.0, 1e300, 5e-324, float("inf"), 3.0, 1e16, 123456789.123456789]
    return [
        {
            "id": f"e{number}",
            "d": chance.choice(doubles),
            "od": chance.choice([None, *doubles]),
            "of": chance.choice([None, 0.5, 3.4e38, 1.0]),
            "l": chance.choice([None, 5, -(2**31), 2**40]),
            "b": chance.randbytes(chance.randrange(9)),
            "price": Decimal(chance.randrange(-(10**17), 10**17)).scaleb(-4),
            "oprice": chance.choice([None, Decimal(chance.randrange(10**15)).scaleb(-2)]),
            "at": chance.randrange(-(2**62), 2**62),
            "when": chance.choice([None, 20_000]),
            "how": chance.choice([None, ("org.example.Card", {"n": "x"}), ("org.example.Bank", {"n": None})]),
            "kind": chance.choice([None, "A", "other"]),
            "list": [chance.choice([None, *texts]) for _ in range(3)],
            # one entry: Java gives a map's entries in an order of its own
            "map": chance.choice([None, {}, {chance.choice(texts): chance.choice([None, 7, True])}]),
        }
        for number in range(count)
    ]


@pytest.mark.long  # Maven and two JVMs; test_rules.py has what such lines mean
@pytest.mark.skipif(bool(LACKING), reason=f"Java cannot be asked: {LACKING}")
def test_what_java_writes_as_json_is_what_stood_in_the_container(tmp_path: Path) -> None:
    fields = [{"name": name, "type": kind} for name, kind in FIELDS]
    text = json.dumps({"type": "record", "name": "Event", "namespace": "org.example", "fields": fields})
    schema, given = parse_schema(text, file="event.avsc"), rows(300)
    with (tmp_path / "e.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(json.loads(text)), given, codec="deflate")
    pom = PAGE.read_text(encoding="utf-8").partition("```xml\n")[2].partition("```")[0]
    (tmp_path / "pom.xml").write_text(pom)
    (tmp_path / "ToJson.java").write_text(TO_JSON)
    for command in (
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
        ["java", "-Dfile.encoding=UTF-8", "-cp", "lib/*", "ToJson.java", "e.avro"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "e.jsonl").write_bytes(done.stdout)
    expected = [payload(schema, row) for row in given]
    for name in ("e.jsonl", "e.avro"):
        assert [value[10:] for some in EventFile(tmp_path / name, schema).values() for value in some] == expected, name
