"""The hunt for "This is a bug in muse-stream": whatever is given, it is told what is wrong with it.

A few examples each by default; `--hypothesis-profile=hunt` tries twenty times as many, `long` six hundred times.
"""

import copy
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from muse_stream.cli.main import main
from muse_stream.commands import configuration, event, replay
from muse_stream.commands.configuration import Configuration
from muse_stream.config import Loaded, Role
from muse_stream.runtime.batch_scorer import GenerationScorer, build_scorer, scorer_of
from muse_stream.runtime.compile import Compiled, compile_generation
from tests.avro.avro_data import schema_and_records
from tests.cli.test_commands import EXAMPLE, events

TIMES = settings().max_examples / 50
"""How much longer than by default the hunt goes on: `--hypothesis-profile`."""


def hunt(examples: int) -> settings:
    """Return settings for as many examples by default."""
    return settings(
        max_examples=max(1, int(examples * TIMES)),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


CONFIG = str(EXAMPLE / "muse.yaml")
SCHEMA = json.loads((EXAMPLE / "schemas" / "card-event.avsc").read_text())
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and compile the example once: here it is the files that are strange."""
    read = configuration.open_configuration

    def opened(path: str | Path) -> Configuration:
        if str(path) != CONFIG:
            return read(path)
        if CONFIG not in _OPENED:
            _OPENED[CONFIG] = read(CONFIG)
        return _OPENED[CONFIG]

    event_compile, replay_build = compile_generation, build_scorer

    def compiled(loaded: Loaded, number: int, role: Role, *rest: Any) -> Compiled:
        if str(loaded.source.path) != CONFIG:
            return event_compile(loaded, number, role, *rest)
        if role not in _COMPILED:
            _COMPILED[role] = event_compile(loaded, number, role, *rest)
        return _COMPILED[role]

    def built(loaded: Loaded, number: int, role: Role, lane: str) -> GenerationScorer:
        if str(loaded.source.path) != CONFIG:
            return replay_build(loaded, number, role, lane)
        if (role, lane) not in _BUILT:
            _BUILT[role, lane] = scorer_of(compiled(loaded, number, role), role, lane)
        return _BUILT[role, lane]

    monkeypatch.setattr(configuration, "open_configuration", opened)
    monkeypatch.setattr(event, "compile_generation", compiled)
    monkeypatch.setattr(replay, "build_scorer", built)


_OPENED: dict[str, Configuration] = {}
_COMPILED: dict[Role, Compiled] = {}
_BUILT: dict[tuple[Role, str], GenerationScorer] = {}


@pytest.fixture
def sound(capsys: Output) -> Callable[..., None]:
    """`sound("check", path)` runs a command, which may refuse what it is given but must know why."""

    def run(*arguments: object) -> None:
        code = main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert "This is a bug" not in err, err
        assert code in (0, 1, 2), (code, err)
        assert code == 0 or out or err, "an error without a word"

    return run


def tried(sound: Callable[..., None], path: Path, folder: Path) -> None:
    """Give a file of events to the commands that need no Kafka; `produce` reads it as they do."""
    sound("event", CONFIG, path, "--limit", "3")
    sound("replay", CONFIG, "acme", path, "--output", folder / "out.parquet")


TEXTS = st.text(max_size=6) | st.sampled_from(
    [
        "NaN",
        "1e999",
        "2026-01-01T00:00:00Z",
        "9999-12-31",
        "+10000-01-01",
        "-",
        "\u0000",
        "\ud800",
        "1" * 5000,
        "\U0001d7d9",
        "٣",
    ]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 5e-324, -0.0, 253402300800000])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS | st.sampled_from(["double", "string", "array", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)
RAW_NUMBERS = st.sampled_from(
    [
        "1e999999999",
        "-1e-999999999",
        "1" + "0" * 5000,
        "0." + "1" * 400,
        "1E+2",
        "NaN",
        "-Infinity",
        "01",
        "1.",
        "1e99999999999999999999",
    ]
)
PATHS = [
    "transaction_id", "event_time", "tenant", "channel", "amount", "cross_border", "terminal", "terminal.id",
    "terminal.risk_7d", "customer", "customer.age", "customer.tx_per_day", "stranger", "customer.age.x", ".", "a.", "",
]  # fmt: skip


def changed(row: dict[str, Any], path: str, value: Any, *, dotted: bool) -> dict[str, Any]:
    """Return an event with another value at a path."""
    row = json.loads(json.dumps(row))
    *above, last = path.split(".")
    if dotted or not all(name in row for name in above[:1]):
        row[path] = value
        return row
    node = row
    for name in above:
        node = node[name] if isinstance(node.get(name), dict) else node
    node[last] = value
    return row


@hunt(12)
@given(
    st.lists(
        st.tuples(st.sampled_from(PATHS), VALUES | RAW_NUMBERS.map(lambda text: f"<{text}>"), st.booleans()), max_size=4
    ),
    st.sampled_from(["jsonl", "json", "ndjson"]),
    st.binary(max_size=4),
    st.integers(0, 400),
)
def test_json(tmp_path: Path, sound: Callable[..., None], changes: list[Any], kind: str, junk: bytes, at: int) -> None:
    lines = [json.dumps(row) for row in events(2)]
    for path, value, dotted in changes:
        text = json.dumps(changed(events(1)[0], path, value, dotted=dotted))
        lines.append(text.replace('"<', "").replace('>"', ""))
    file = tmp_path / f"e.{kind}"
    file.write_text("\n".join(lines), errors="surrogatepass")
    tried(sound, file, tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    tried(sound, file, tmp_path)


@hunt(10)
@given(VALUES, st.booleans(), st.sampled_from(["json", "jsonl"]))
def test_any_json_document(tmp_path: Path, sound: Callable[..., None], value: Any, indented: bool, kind: str) -> None:
    file = tmp_path / f"e.{kind}"
    file.write_text(json.dumps(value, indent=2 if indented else None), errors="surrogatepass")
    tried(sound, file, tmp_path)


@hunt(12)
@given(
    st.binary(max_size=60),
    st.sampled_from(["csv", "json", "jsonl", "parquet", "avro", "bin", "txt", "pq"]),
    st.booleans(),
)
def test_any_bytes(tmp_path: Path, sound: Callable[..., None], data: bytes, kind: str, framed: bool) -> None:
    file = tmp_path / f"e.{kind}"
    magic = {"parquet": b"PAR1", "avro": b"Obj\x01", "bin": b"\xc3\x01"}.get(kind, b"")
    file.write_bytes((magic if framed else b"") + data + (magic if kind == "parquet" else b""))
    tried(sound, file, tmp_path)


def test_a_csv_file_is_told_what_would_be_right(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "e.csv"
    file.write_text("transaction_id,amount\na,1\n")
    assert main(["replay", CONFIG, "acme", str(file), "--output", str(tmp_path / "o.avro")]) == 1
    assert "expected one of .parquet" in capsys.readouterr().err


ARROW: list[pa.DataType] = [
    *(pa.null(), pa.bool_(), pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(4), pa.string_view(), pa.binary_view()),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Kathmandu")),
    *(
        pa.duration("s"),
        pa.duration("ns"),
        pa.decimal128(38, 9),
        pa.decimal256(76, -5),
        pa.uuid(),
        pa.bool8(),
        pa.json_(),
    ),
    pa.dictionary(pa.int32(), pa.string()),
    pa.list_(pa.int64()),
    pa.large_list(pa.string()),
    pa.list_(pa.float64(), 2),
    pa.map_(pa.string(), pa.int64()),
    pa.map_(pa.int64(), pa.string()),
    pa.struct([("id", pa.string()), ("age", pa.int64()), ("risk_7d", pa.timestamp("ns"))]),
    pa.struct([("id", pa.string()), ("id", pa.int64())]),
    pa.struct([]),
]


@st.composite
def arrow_column(draw: st.DrawFn, rows: int) -> pa.Array:
    """An array of any type, as its bits fall, and with nulls."""
    kind = draw(st.sampled_from(ARROW))
    numbers = draw(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 200), min_size=rows, max_size=rows)
    )
    texts = [None if number is None else str(number)[:4].rjust(4) for number in numbers]
    for given_values in (
        lambda: pa.array(numbers, pa.int64()).view(kind),
        lambda: pa.array([None if one is None else one % 100 for one in numbers], pa.int32()).view(kind),
        lambda: pa.array(texts, pa.string()).cast(kind),
        lambda: pa.array([None if one is None else one.encode() + b"\xff" for one in texts], pa.binary()).view(kind),
        lambda: pa.array([None if one is None else {"id": str(one), "age": one} for one in numbers], kind),
        lambda: pa.array([None if one is None else [(str(one), one)] for one in numbers], kind),
        lambda: pa.array([None if one is None else [one, one] for one in numbers], kind),
        lambda: pa.array([None if one is None else float(one) for one in numbers], kind),
        lambda: pa.array([None if one is None else bool(one % 2) for one in numbers], kind),
    ):
        try:
            return given_values()  # type: ignore[no-untyped-call]
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError, NotImplementedError):
            continue
    return pa.nulls(rows)


@hunt(12)
@given(st.data(), st.integers(0, 3))
def test_parquet(tmp_path: Path, sound: Callable[..., None], data: st.DataObject, rows: int) -> None:
    table = pa.Table.from_pylist(events(3)[:rows]) if rows else pa.Table.from_pylist(events(1)).slice(0, 0)
    names, columns = list(table.column_names), [chunked.combine_chunks() for chunked in table.columns]
    for path in data.draw(st.lists(st.sampled_from(PATHS), max_size=4)):
        array = data.draw(arrow_column(rows))
        if path in names and data.draw(st.booleans()):
            columns[names.index(path)] = array
        else:
            names.append(path)
            columns.append(array)
    file = tmp_path / "e.parquet"
    try:
        pq.write_table(pa.Table.from_arrays(columns, names), file)
    except (pa.ArrowException, ValueError, OSError):  # a type that Parquet does not have
        return
    tried(sound, file, tmp_path)
    sound("event", CONFIG, file, "--column", "amount=customer", "--column", "terminal.id=stranger")
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + 8 :])
    tried(sound, file, tmp_path)


@hunt(8)
@given(schema_and_records(opaque=True), st.sampled_from(["null", "deflate", "bzip2", "xz"]), st.data())
def test_avro_containers(
    tmp_path: Path, sound: Callable[..., None], drawn: Any, codec: str, data: st.DataObject
) -> None:
    schema, records = drawn
    file = tmp_path / "e.avro"
    document: Any = json.loads(schema.text)
    rows: list[Any] = records
    if data.draw(st.booleans()):  # an event whose fields have whatever type
        fields = {field["name"]: field for field in SCHEMA["fields"]}
        document = {"type": "record", "name": "Any", "fields": list(fields.values())}
        rows = events(2)
        for row in rows:
            row["event_time"] = data.draw(st.integers(-(2**63), 2**63 - 1))
    with file.open("wb") as out:
        fastavro.writer(out, fastavro.parse_schema(document), rows, codec=codec)
    tried(sound, file, tmp_path)
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + data.draw(st.integers(0, 9)) :])
    tried(sound, file, tmp_path)


def places(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every node of a JSON document."""
    found = [above]
    items: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in items:
        found += places(inner, (*above, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, document: Any, words: st.SearchStrategy[Any]) -> Any:
    """A document with up to three of its nodes taken away, exchanged or replaced."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(document)[1:] or [()]))
        if not path:
            return draw(VALUES)
        node = document
        for step in path[:-1]:
            node = node[step]
        action = draw(st.sampled_from(["replace", "delete", "other", "rename"]))
        if action == "delete":
            del node[path[-1]]
        elif action == "rename" and isinstance(node, dict):
            node[draw(TEXTS)] = node.pop(path[-1])
        elif action == "other":
            other = document
            for step in draw(st.sampled_from(places(document))):
                other = other[step]
            node[path[-1]] = copy.deepcopy(other)
        else:
            node[path[-1]] = draw(words)
    return document


KINDS = st.sampled_from(
    ["null", "int", "long", "bytes", "fixed", "enum", "record", "map", "array", "error", "Terminal", "decimal", "date"]
) | st.sampled_from([["null", "string", "long"], {"type": "long", "logicalType": "timestamp-micros"}, [], {}])


@pytest.mark.long  # half a second for each example: test_the_text_of_a_configuration is the short one
@hunt(5)
@given(mutated(SCHEMA, KINDS | VALUES), mutated({"1": "card-event.avsc"}, VALUES))
def test_schemas(tmp_path: Path, sound: Callable[..., None], schema: Any, ids: Any) -> None:
    folder = copied(tmp_path)
    (folder / "schemas" / "card-event.avsc").write_text(json.dumps(schema), errors="surrogatepass")
    (folder / "schemas" / "ids.json").write_text(json.dumps(ids), errors="surrogatepass")
    file = folder / "e.jsonl"
    file.write_text("\n".join(map(json.dumps, events(3))))
    sound("check", folder / "muse.yaml")
    sound("event", folder / "muse.yaml", file, "--json")


def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    if folder.exists():
        for name in ("muse.yaml", "schemas"):
            target = folder / name
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            source = EXAMPLE / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return folder
    return Path(shutil.copytree(EXAMPLE, folder))


DOCUMENT = YAML(typ="safe").load(EXAMPLE / "muse.yaml")
WORDS = VALUES | st.sampled_from(
    [
        *(
            "cards",
            "acme",
            "card-event",
            "schemas",
            "../x",
            "models",
            "models/cards-2026q2.onnx",
            "muse.{tenant}",
            "{lane}",
        ),
        *("experts[0]", "terminal", "terminal.id", "customer", "event_time", "0" * 64, {}, []),
    ]
)


@pytest.mark.long  # as above
@hunt(8)
@given(mutated(DOCUMENT, WORDS))
def test_configurations(tmp_path: Path, sound: Callable[..., None], document: Any) -> None:
    folder = copied(tmp_path)
    text = io.StringIO()
    try:
        YAML().dump(document, text)
        (folder / "muse.yaml").write_text(text.getvalue())
    except (UnicodeEncodeError, ValueError):
        (folder / "muse.yaml").write_text(repr(document), errors="backslashreplace")
    file = folder / "e.jsonl"
    file.write_text("\n".join(map(json.dumps, events(2))))
    sound("check", folder / "muse.yaml", "--json", "--strict")
    sound("event", folder / "muse.yaml", file)


@hunt(20)
@given(st.data())
def test_the_text_of_a_configuration(tmp_path: Path, sound: Callable[..., None], data: st.DataObject) -> None:
    folder = copied(tmp_path)
    whole = (EXAMPLE / "muse.yaml").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    junk = data.draw(
        st.binary(max_size=4)
        | st.sampled_from(
            [
                b": ",
                b"\n  - ",
                b"&a ",
                b"*a",
                b"!!python/object:x ",
                b"\t",
                b"{",
                b"[",
                b"? ",
                b"|\n",
                b"%YAML",
                b"\n---\n",
            ]
        )
    )
    cut = data.draw(st.integers(0, 6))
    (folder / "muse.yaml").write_bytes(whole[:at] + junk + whole[at + cut :])
    sound("check", folder / "muse.yaml")


@hunt(12)
@given(
    st.lists(
        st.sampled_from(["--tenant", "--limit", "--column", "--header", "--from-row", "--json", "--json-encoding"])
        | st.sampled_from(
            ["0", "1", "-1", "a=b", "amount=b", "=", "acme", "avro", "plain", "amount=tenant", "id=\udcff"]
        )
        | TEXTS,
        max_size=5,
    )
)
def test_options(tmp_path: Path, sound: Callable[..., None], options: list[str]) -> None:
    file = tmp_path / "e.jsonl"
    file.write_text("\n".join(map(json.dumps, events(2))))
    sound("event", CONFIG, file, *options)
    sound("replay", CONFIG, "acme", file, "--output", tmp_path / "o.avro", *options)


@hunt(10)
@given(st.data(), st.integers(0, 3), st.sampled_from(["parquet", "csv", "jsonl"]))
def test_tables_for_golden_events(
    tmp_path: Path, sound: Callable[..., None], data: st.DataObject, rows: int, kind: str
) -> None:
    names = data.draw(st.lists(st.sampled_from([*PATHS, "score"]), min_size=1, max_size=6))
    file = tmp_path / f"t.{kind}"
    if kind == "parquet":
        try:
            pq.write_table(pa.Table.from_arrays([data.draw(arrow_column(rows)) for _ in names], names), file)
        except (pa.ArrowException, ValueError, OSError):
            return
    else:
        cells = st.sampled_from(["1", "0.5", "007", "1e999", '"a', "\x00", "é", "", "nan", "true", "1" * 5000])
        lines = [",".join(names), *(",".join(data.draw(cells) for _ in names) for _ in range(rows))]
        file.write_text("\n".join(lines) if kind == "csv" else data.draw(TEXTS), errors="surrogatepass")
    sound("golden", CONFIG, "cards-2026q2", file, "--column", "score", "--output", tmp_path / "g.json")
