"""The package from Python: what stands at its top, and what it does without a terminal and without Kafka."""

import builtins
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import muse_stream
from muse_stream import __main__ as entrance
from muse_stream import errors
from muse_stream.commands.produce import Sending
from muse_stream.extras import EXTRAS, missing_extra

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "deploy" / "config"


def test_every_public_name_is_there() -> None:
    missing = object()
    assert [name for name in muse_stream.__all__ if getattr(muse_stream, name, missing) is missing] == []
    assert set(muse_stream.__all__) <= set(dir(muse_stream))
    with pytest.raises(AttributeError, match="nothing"):
        muse_stream.nothing  # noqa: B018


def test_every_public_name_is_in_the_reference() -> None:
    """`make docs` builds it and resolves each name."""
    named = {name for page in ROOT.glob("docs/api/*.md") for name in page.read_text(encoding="utf-8").split()}
    public = set(muse_stream.__all__) - {"__version__"}
    assert {f"muse_stream.{name}" for name in public} <= named


def test_every_exception_is_exported() -> None:
    raised = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    assert raised <= set(muse_stream.__all__)


def test_a_store_is_published_loaded_and_scored(tmp_path: Path) -> None:
    document, folder = EXAMPLE / "muse.yaml", tmp_path / "store"
    assert muse_stream.check(str(document)).ok
    done = muse_stream.publish(document, folder.as_uri())
    assert (done.number, done.current) == (1, True)
    assert muse_stream.open_store(folder).current() == 1
    of_file = muse_stream.load(document)
    assert of_file.number == 0
    for address in (folder, str(folder), folder.as_uri()):
        of_store = muse_stream.load(address)
        assert of_store.number == 1
        assert (of_store.tenants, of_store.predictors) == (of_file.tenants, of_file.predictors)
    written = []
    sending = Sending(headers={"region": "pt"})
    sources: tuple[str | Path, ...] = (str(document), folder)
    for number, source in enumerate(sources):
        output = tmp_path / f"{number}.parquet"
        muse_stream.replay(source, "acme", str(EXAMPLE / "events.jsonl"), output, sending=sending)
        written.append(pq.read_table(output)["score"].to_pylist())
    assert written[0] == written[1] != []


def test_a_store_that_holds_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(muse_stream.StoreError, match="holds no generation"):
        muse_stream.load(tmp_path)
    with pytest.raises(muse_stream.StoreError, match="redis://"):
        muse_stream.load("redis://host/0")


def test_the_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "muse_stream", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"muse-stream {version('muse-stream')}\n"
    assert muse_stream.__version__ == version("muse-stream")


def test_without_the_extra_the_program_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; sys.modules['typer'] = None; from muse_stream.__main__ import main; sys.exit(main(['check']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: typer is not installed: pip install 'muse-stream[cli]'\n"
    imported = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name == "muse_stream.cli.main":
            raise ModuleNotFoundError("No module named 'rich'", name="rich.console")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    assert entrance.main([]) == 1
    assert "muse-stream[cli]" in capsys.readouterr().err


def test_extras_are_those_of_the_package() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    names = set(re.findall(r"^([a-z]+) = \[", declared, flags=re.MULTILINE))
    assert set(EXTRAS.values()) <= names
    assert missing_extra(ModuleNotFoundError("x", name="numpy.linalg")) is None
