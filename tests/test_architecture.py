"""The house rules as tests: the direction of imports, one vendor in one room, sizes, docstrings.

docs/design.md, "Rooms", has them in words. The source of muse_stream is read and not run, but for the test of what an
import loads.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import muse_stream
from muse_stream.config import load_document
from muse_stream.control import open_store

PACKAGE = Path(muse_stream.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Where a vendor may be imported: a room, or one module or folder of it.
HOMES: dict[str, tuple[str, ...]] = {
    "confluent_kafka": ("kafka", "schema_registry/client.py", "testing"),
    "cryptography": ("control/signing_keys.py", "control/signatures.py"),  # the latter: the type of a key
    "datasketches": ("calibration/score_sketch.py",),
    "docker": ("testing/container_kafka.py", "testing/container_redis.py"),
    "fastavro": ("avro", "files"),
    "fsspec": ("config/remote.py",),
    "jinja2": ("report",),
    "llvmlite": ("models/compiled/native.py",),
    "markupsafe": ("report",),
    "matplotlib": ("report",),
    "google": ("models",),  # protobuf, which comes with onnx
    "lightgbm": ("demo",),
    "onnx": ("models",),
    "onnxmltools": ("demo",),
    "onnxruntime": ("models",),
    "pandas": ("scoring/answers.py",),  # what a caller asks to have, imported when asked for
    "opentelemetry": ("telemetry/spans.py",),
    "prometheus_client": (
        "commands/watch_metrics.py",
        "runtime/calibrate_metrics.py",
        "runtime/latency_histogram.py",
        "runtime/worker_metrics.py",
        "telemetry/health.py",
    ),
    "pyarrow": ("avro", "demo", "files", "scoring/answers.py"),  # the last one as above: scoring itself needs none
    "pydantic": ("config", "telemetry/masking.py"),
    "pydantic_core": ("config",),
    "pyruhvro": ("avro",),
    "redis": ("control/redis_address.py", "control/redis_store.py", "testing/redis_server.py"),
    "requests": ("testing/container_kafka.py", "testing/container_redis.py"),
    "rich": ("cli", "demo"),
    "ruamel": ("config",),
    "scipy": ("calibration", "scoring"),
    "setproctitle": ("runtime/process_title.py",),
    "skl2onnx": ("demo",),
    "sklearn": ("demo",),
    "structlog": ("telemetry",),
    "testcontainers": ("testing/container_kafka.py", "testing/container_redis.py"),
    "threadpoolctl": ("demo",),  # comes with scikit-learn
    "typer": ("cli",),
    "yaml": ("config/plain_yaml.py",),
}
EVERYWHERE = {"muse_stream", "msgspec", "numpy"}
AT_MOST_FUNCTION_LINES = 45
ENTRANCES = {"cli", "commands", "demo", "runtime"}
"""Rooms whose modules are entered one by one: what one command needs must not load what all of them do."""

# What importing a room may load of the vendors, over nothing at all.
LOADS: dict[str, set[str]] = {
    "muse_stream": set(),
    "muse_stream.errors": set(),
    "muse_stream.environment": set(),
    "muse_stream.config": {"pydantic", "pydantic_core", "ruamel", "yaml"},
    # what workers are forked from: scipy, onnx (but for its messages), rich and typer would cost every start a second
    "muse_stream.runtime.run": {
        "confluent_kafka",
        "pydantic",
        "pydantic_core",
        "ruamel",
        "yaml",
        "prometheus_client",
        "setproctitle",
        "structlog",
    },
    "muse_stream.runtime.worker_process": {
        *("confluent_kafka", "fastavro", "google", "onnx", "onnxruntime", "prometheus_client", "pyarrow", "pydantic"),
        *("pydantic_core", "pyruhvro", "ruamel", "setproctitle", "structlog", "yaml"),
    },
    "muse_stream.calibration": set(),
    "muse_stream.scoring": {"pydantic", "pydantic_core", "ruamel", "yaml"},
    "muse_stream.kafka": {
        "pydantic",
        "pydantic_core",
        "ruamel",
        "yaml",
        "confluent_kafka",
        "prometheus_client",
        "structlog",
    },
    "muse_stream.worker": {
        "pydantic",
        "pydantic_core",
        "ruamel",
        "yaml",
        "confluent_kafka",
        "prometheus_client",
        "structlog",
    },
    "muse_stream.control": {"pydantic", "pydantic_core", "ruamel", "yaml", "prometheus_client", "structlog"},
}

CLI = {"pydantic", "pydantic_core", "typer"}  # typer reads arguments with pydantic
CONFIG = {"numpy", "pydantic", "pydantic_core", "ruamel", "yaml"}
KAFKA = {"confluent_kafka", "structlog"}
SCORING = {"fastavro", "google", "numpy", "onnx", "onnxruntime", "pyarrow", "pyruhvro"}
# What a command may load of them (docs/decisions/0037).
PROCESSES: dict[tuple[str, int], set[str]] = {
    ("--version", 0): {"typer"},
    ("--help", 0): {"rich", "typer"},
    ("run --help", 0): {*CLI, "rich", "structlog"},
    ("run --role live --store {folder}/store --lane other", 2): {*CLI, *CONFIG, *KAFKA, "rich", "setproctitle"},
    ("check {folder}/muse.yaml", 0): {*CLI, *CONFIG, *SCORING, *KAFKA, "rich"},
    ("status {folder}/store", 1): {*CLI, "rich", "structlog"},
    ("generations {folder}/store", 0): {*CLI, "rich", "structlog"},
}
"""Command and exit code: a worker's supervisor before `prepare` is a `run` that is refused."""


@dataclass(frozen=True)
class Source:
    """What the rules ask of a module, in one walk through it."""

    imports: tuple[ast.Import | ast.ImportFrom, ...]
    functions: tuple[tuple[str, int], ...]
    """Names and lines."""
    docstring: str | None


@cache
def source(module: Path) -> Source:
    tree = ast.parse(module.read_text())
    imports: list[ast.Import | ast.ImportFrom] = []
    functions: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append((node.name, lines_without_docstring(node)))
    return Source(tuple(imports), tuple(functions), ast.get_docstring(tree))


def name(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def imported(module: Path) -> Iterator[tuple[str, int]]:
    """Every absolute import, wherever it stands: a lazy import is an import."""
    for node in source(module).imports:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif node.module and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def at_home(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(home + "/") for home in homes)


def test_imports_go_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    code = lint_imports(config_filename=str(PACKAGE.parent / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_rooms_meet_at_their_faces() -> None:
    """`from muse_stream.kafka import client`, never a module inside another room; ENTRANCES name their modules."""
    astray = []
    for module in MODULES:
        own = name(module).partition("/")[0]
        for node in source(module).imports:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muse_stream."):
                room, *inside = (node.module or "").split(".")[1:]
                if inside and room not in {own, *ENTRANCES}:
                    astray.append(f"{name(module)}:{node.lineno} imports {node.module}")
    assert astray == []


def test_one_vendor_one_room() -> None:
    astray = [
        f"{name(module)}:{line} imports {target}"
        for module in MODULES
        for target, line in imported(module)
        if (vendor := target.partition(".")[0]) not in EVERYWHERE | sys.stdlib_module_names
        and not at_home(name(module), HOMES.get(vendor, ()))
    ]
    assert astray == []


def test_of_scipy_only_the_special_functions() -> None:
    """Anything else (stats, interpolate) is slow to import and one more thing whose bits may move."""
    targets = {target for module in MODULES for target, _ in imported(module) if target.startswith("scipy")}
    assert {target for target in targets if not target.startswith("scipy.special")} == set()


def test_nothing_unpickles_or_evaluates() -> None:
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    assert [
        f"{name(module)}:{line}"
        for module in MODULES
        for target, line in imported(module)
        if target.partition(".")[0] in forbidden
    ] == []


def test_nobody_asks_an_admin_client_for_the_offsets_of_a_group() -> None:
    """The client ends the process where the coordinator has moved (`kafka/cluster_state.py`, `_committed`)."""
    told = {path.name for path in MODULES if "list_consumer_group_offsets(" in path.read_text(encoding="utf-8")}
    assert told == set()


NEAR = ("muse_stream.calibration", "muse_stream.scoring")
"""What is tried in `make test`: each is an interpreter that is started."""


@pytest.mark.parametrize("room", [pytest.param(one, marks=() if one in NEAR else pytest.mark.long) for one in LOADS])
def test_importing_a_room_loads_no_other_vendor(room: str) -> None:
    code = f"import sys, {room}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert (loaded & HOMES.keys()) - LOADS[room] == set()


@pytest.fixture(scope="module")
def plain_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's configuration, without the two things that need scipy, and with a store of it."""
    folder = tmp_path_factory.mktemp("bank")
    shutil.copytree(PACKAGE.parent / "deploy" / "config", folder, dirs_exist_ok=True)
    text = (folder / "muse.yaml").read_text()
    for kept, instead in (
        (r"    aggregate: logit_mean .*\n    quantile_map: .*\n", "    aggregate: mean\n"),
        (r"smooth: \{beta_mixture: .*", "smooth: {alert_rates: {0.2: 0.70, 0.5: 0.35}}"),
    ):
        text, found = re.subn(kept, instead, text)
        assert found == 1
    (folder / "muse.yaml").write_text(text)
    opened = open_store(folder / "store")
    opened.move_current(opened.current(), opened.publish(load_document(folder / "muse.yaml")))
    return folder


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(*one, marks=() if one[0] in ("--help", "check {folder}/muse.yaml") else pytest.mark.long)
        for one in PROCESSES
    ],
)
def test_a_command_loads_no_other_vendor(command: str, code: int, plain_bank: Path) -> None:
    script = (
        "import sys; from muse_stream.__main__ import main; code = main(sys.argv[1:]);"
        "print('loaded', *{m.partition('.')[0] for m in sys.modules}); sys.exit(code)"
    )
    words = command.format(folder=plain_bank).split()
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert (loaded & (HOMES.keys() | {"numpy"})) - PROCESSES[command, code] == set()


DATACLASSES = {
    *("muse_stream.errors.Problem", "muse_stream.errors.Rejected"),  # imported before it is known what is installed
    "muse_stream.config.kafka_properties.Property",  # a field of pydantic's
    # a field that is not compared, or not printed, or not given
    *("muse_stream.avro.schemas.Schema", "muse_stream.avro.types.Type", "muse_stream.config.source.Source"),
    *("muse_stream.control.records.Manifest", "muse_stream.control.records.Head"),
    *("muse_stream.control.store.Generation", "muse_stream.control.store.Note"),
    *("muse_stream.kafka.partition.Standing", "muse_stream.worker.batch.Topology"),
    "muse_stream.control.lease.Lease",  # has state of its own beside its fields
}
"""What a worker is forked from and is no `msgspec.Struct` (docs/decisions/0066)."""


def test_what_a_worker_is_forked_from_has_few_dataclasses() -> None:
    code = (
        "import sys, dataclasses, muse_stream.cli.run, muse_stream.runtime.worker_process;"
        "print(*{f'{one.__module__}.{one.__qualname__}' for name, module in list(sys.modules.items())"
        " if name.startswith('muse_stream.') for one in vars(module).values()"
        " if isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == name})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) == DATACLASSES


@pytest.mark.long  # as the rooms that a worker is of, above
def test_of_onnx_a_worker_loads_the_messages_alone() -> None:
    shown = "*(m for m in sys.modules if m.partition('.')[0] == 'onnx')"
    code = f"import sys, muse_stream.runtime.worker_process; print({shown})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["onnx.onnx_ml_pb2"]


def test_every_module_says_what_it_is_for() -> None:
    silent = [name(module) for module in MODULES if not source(module).docstring]
    assert silent == []


def test_functions_stay_small() -> None:
    long = {
        f"{name(module)}:{function}": size
        for module in MODULES
        for function, size in source(module).functions
        if size > AT_MOST_FUNCTION_LINES
    }
    assert long == {}


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines
