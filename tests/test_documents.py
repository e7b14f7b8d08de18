"""What code, tests and documents cite exists: rules, documents and their headings, tests, modules and folders.

Cited is what stands in a document, a docstring or a comment. Each kind of citation is also planted broken.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "muse_stream"
DOCS = ROOT / "docs"
RULES = DOCS / "exactly-once.md"
DECISIONS = DOCS / "decisions"
SOURCES = ("muse_stream", "tests", "perf", "deploy")
HISTORY = ROOT / "CHANGELOG.md"
"""Tells what was: only the documents it sends a reader to must exist."""

FOREIGN = {"CONFIGURATION.md"}
"""Documents of other projects: librdkafka's."""

RULE = re.compile(r"\bR(\d{1,2})\b")
DOCUMENT = re.compile(r"(?<![\w/.-])((?:\.\./)*(?:[\w-]+/)*[\w-]+\.md)(?:#([\w-]+))?")
HEADING_LINK = re.compile(r"\]\(#([\w-]+)\)")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
TEST_NAME = re.compile(r"(?<![\w./-])test_\w+(?!\w*\.py|\w*/)")
MODULE = re.compile(r"(?<![\w/.*<{-])((?:[\w-]+/)*\w+\.py)\b")
FOLDER = re.compile(r"`((?:[a-z_]+/)+)`")
DOTTED = re.compile(r"\bmuse_stream((?:\.\w+)+)")
FORMER_ROOMS = re.compile(r"(?<![\w/.`-])`?((?:stream|wire|spec|app|observe|operations)(?:/|\.[a-z_]+))(?=[\s`,;:)/.])")
COMMENT = re.compile(
    r'''"""(?:\\.|[^\\])*?"""|\'{3}(?:\\.|[^\\])*?\'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(#[^\n]*)''', re.DOTALL
)
"""Comments of Python, and strings, which may have what looks like one: the tokenizer takes ten times as long."""
SECTION = re.compile(r"^### R(\d+)\. .*?(?=^##)", re.MULTILINE | re.DOTALL)


@cache
def documents() -> list[Path]:
    """Every document of the project."""
    found = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    return sorted(
        found + [path for name in ("deploy", "perf", "schemas", "tests") for path in ROOT.glob(f"{name}/*.md")]
    )


@cache
def modules() -> list[Path]:
    """Every Python file of the project."""
    return sorted(path for name in SOURCES for path in (ROOT / name).rglob("*.py"))


@dataclass(frozen=True)
class Source:
    """What is asked of a module, in one walk through it."""

    strings: tuple[str, ...]
    """Strings that are statements: docstrings."""
    functions: frozenset[str]
    """Names of functions, wherever they stand."""
    names: frozenset[str]
    """What can be imported."""


@cache
def source(module: Path) -> Source:
    strings: list[str] = []
    functions, names = set[str](), set[str]()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                strings.append(text)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions.add(node.name)
                names.add(node.name)
            case ast.ClassDef():
                names.add(node.name)
            case ast.ImportFrom() | ast.Import():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
    return Source(tuple(strings), frozenset(functions), frozenset(names))


def prose(path: Path) -> str:
    """What is written for people: a whole document, or the docstrings and comments of a module."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    return "\n".join([*source(path).strings, *filter(None, COMMENT.findall(text))])


@cache
def rules() -> frozenset[str]:
    """Numbers of the rules that are explained."""
    return frozenset(found[1] for found in SECTION.finditer(RULES.read_text()))


@cache
def headings(document: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line).lower() for line in lines)
    return frozenset(re.sub(r"[^\w\- ]", "", line).strip().replace(" ", "-") for line in plain)


@cache
def names_of_tests() -> frozenset[str]:
    """Everything that begins with `test_`: functions, and modules without their suffix."""
    tests = [path for path in modules() if path.is_relative_to(ROOT / "tests")]
    found = {name for path in tests for name in source(path).functions if name.startswith("test_")}
    return frozenset(found | {path.stem for path in tests})


def near(path: str, where: Path) -> Path | None:
    """What a path means where it is written: beside it, from the root, in the package or among the documents."""
    return next((base / path for base in (where.parent, ROOT, PACKAGE, DOCS) if (base / path).exists()), None)


def is_module(path: str, where: Path) -> bool:
    """Whether a path, or the end of one, is a Python file of the project."""
    return near(path, where) is not None or any(
        one.parts[-path.count("/") - 1 :] == Path(path).parts for one in modules()
    )


def resolves(dotted: str) -> bool:
    """Whether `.room.module.name` leads somewhere."""
    at = PACKAGE
    for number, part in enumerate(parts := dotted.strip(".").split(".")):
        if (at / part).is_dir():
            at /= part
        elif (module := at / f"{part}.py").exists():
            return number + 1 == len(parts) or parts[number + 1] in source(module).names
        else:
            return part in source(at / "__init__.py").names
    return True


def missing(text: str, where: Path) -> Iterator[str]:
    """Yield what is cited in a text that stands at `where`, and does not exist."""
    for path, anchor in DOCUMENT.findall(text):
        document = near(path, where)
        if document is None and path not in FOREIGN:
            yield path
        elif document is not None and anchor and anchor not in headings(document):
            yield f"{path}#{anchor}"
    if where == HISTORY:
        return
    yield from (f"#{anchor}" for anchor in HEADING_LINK.findall(text) if anchor not in headings(where))
    yield from (f"R{number}" for number in RULE.findall(text) if number not in rules())
    for path, name in TEST.findall(text):
        if not (ROOT / path).exists() or name not in source(ROOT / path).functions:
            yield f"{path}::{name}"
    yield from (name for name in TEST_NAME.findall(text) if name not in names_of_tests())
    yield from (path for path in MODULE.findall(text) if not is_module(path, where))
    yield from (path for path in FOLDER.findall(text) if near(path, where) is None)
    yield from (f"muse_stream{dotted}" for dotted in DOTTED.findall(text) if not resolves(dotted))
    yield from FORMER_ROOMS.findall(text)


def test_what_is_cited_exists() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): absent
        for path in (*documents(), *modules())
        if path != Path(__file__) and (absent := sorted(set(missing(prose(path), path))))
    }
    assert found == {}


def test_documents_that_messages_cite_exist() -> None:
    """An error that sends somebody to a page that is gone is worse than none."""
    cited = {path: re.findall(r"docs/[\w/-]+\.md", path.read_text()) for path in modules() if path != Path(__file__)}
    absent = {str(path): [name for name in names if not (ROOT / name).exists()] for path, names in cited.items()}
    assert {path: names for path, names in absent.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("as R99 asks", "R99"),
        ("see docs/gone.md", "docs/gone.md"),
        ("as kafka.md says", "kafka.md"),
        ("[here](../docs/avro.md#gone)", "../docs/avro.md#gone"),
        ("[below](#gone)", "#gone"),
        ("`tests/worker/test_rules.py::test_r6_gone`", "tests/worker/test_rules.py::test_r6_gone"),
        ("`tests/gone/test_rules.py::test_r6_gone`", "tests/gone/test_rules.py::test_r6_gone"),
        ("held by `test_nothing_of_the_kind`", "test_nothing_of_the_kind"),
        ("in kafka/gone.py", "kafka/gone.py"),
        ("in `gone.py`", "gone.py"),
        ("in `kafka/gone/`", "kafka/gone/"),
        ("`muse_stream.kafka.client.gone`", "muse_stream.kafka.client.gone"),
        ("`muse_stream.gone`", "muse_stream.gone"),
        ("what `stream.records` has", "stream.records"),
        ("joined in app.py", "app.py"),
        ("the room wire/ has it", "wire/"),
    ],
)
def test_what_does_not_exist_is_found(text: str, absent: str) -> None:
    assert absent in set(missing(text, PACKAGE.parent / "README.md"))


def test_every_rule_has_its_tests() -> None:
    """Each section names a test; each test of a rule, `test_r6_...`, stands in the section of its rule."""
    sections = {found[1]: found[0] for found in SECTION.finditer(RULES.read_text())}
    assert [number for number, text in sections.items() if not TEST.search(text)] == []
    named = {name: found[1] for name in names_of_tests() if (found := re.match(r"test_r(\d+)_", name))}
    assert {name: number for name, number in named.items() if f"::{name}`" not in sections.get(number, "")} == {}


def test_rules_are_numbered_without_a_gap() -> None:
    assert sorted(map(int, rules())) == list(range(1, len(rules()) + 1))


def test_decisions_have_one_form() -> None:
    files = sorted(DECISIONS.glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in files]
    assert len(set(numbers)) == len(numbers)
    index = (DECISIONS / "README.md").read_text()
    for path in files:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}. "), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Tests"]
        assert TEST.search(text.partition("## Tests")[2]), f"{path.name} names no test"
        assert f"]({path.name})" in index, f"{path.name} is not in the list"


def test_the_design_shows_every_room_and_the_direction_of_imports() -> None:
    text = (DOCS / "design.md").read_text()
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert [room for room in rooms if f"| `{room}/` |" not in text] == []
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    shown = [line.strip() for line in text.partition("```\n cli\n")[2].partition("```")[0].splitlines()]
    layers = [" | ".join(re.findall(r"\w+", re.sub(r"\(\w+\)", "", layer))) for layer in contract["layers"]]
    assert ["cli", *shown] == layers


def listed(face: str) -> set[str]:
    """Return the names that a face lists: lines of `name, name    what it does`, in one column or two."""
    cells = [cell for line in face.splitlines() for cell in re.split(r"\s{2,}", line.strip())[:-1:2]]
    return {name for cell in cells if re.fullmatch(r"[a-z_]+(, [a-z_]+)*", cell) for name in cell.split(", ")}


def test_every_face_names_the_modules_of_its_room() -> None:
    """Who opens a folder finds in its `__init__.py` which file does what, and nothing that is gone."""
    unnamed, gone = {}, {}
    for face in PACKAGE.glob("*/__init__.py"):
        text = ast.get_docstring(ast.parse(face.read_text())) or ""
        inside = {path.stem for path in face.parent.glob("*.py")} - {"__init__"}
        unnamed[face.parent.name] = sorted(inside - set(re.findall(r"\w+", text)))
        gone[face.parent.name] = sorted(listed(text) - inside)
    assert {room: names for room, names in unnamed.items() if names} == {}
    assert {room: names for room, names in gone.items() if names} == {}


def test_what_a_face_lists_is_found() -> None:
    face = "What it is.\n\nclient, tail    one thing\n    admin  another       plan   a third\n\nAnd prose."
    assert listed(face) == {"client", "tail", "admin", "plan"}
