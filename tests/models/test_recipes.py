"""docs/for-model-owners.md does what it says: each recipe is run, served, and compared with the library itself.

A recipe's Python block makes `model.onnx` and `predictions.parquet` in a folder of its own, in a process and an
environment of its own (`make exporters`: the libraries are gigabytes); its YAML block is what the configuration says of
the model. Then `golden` writes the golden events and `check` accepts the configuration, as a reader would do.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from muse_stream.commands.check import check
from muse_stream.commands.golden import write_golden

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "for-model-owners.md").read_text(encoding="utf-8")
RECIPES = dict(
    re.findall(r"^### (.+?)\n(.*?)(?=^##)", PAGE.partition("\n## Recipes\n")[2] + "\n##", re.DOTALL | re.MULTILINE)
)
PREAMBLE = re.findall(r"^```python\n(.*?)^```", PAGE.partition("\n## Recipes\n")[2], re.DOTALL | re.MULTILINE)[0]
PYTHON = ROOT / ".cache" / "exporters" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the libraries of the recipes are not installed (6 GB): make exporters"
)
LOCK = ROOT / "requirements-exporters.lock"
MADE = ROOT / ".cache" / "recipes"
"""What recipes made, by the content of the recipe and of the lock: it is the same as long as they are."""
EXPORTED = Path(__file__).parent / "exported"
"""What the recipe of the explainable boosting machine made (ebm2onnx 3.3.1, interpret 0.7.8, `max_rounds=20,
max_bins=32, max_interaction_bins=8` to keep it small): ebm2onnx has no wheel, and nothing is built from source here."""
SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "string"},
        *(
            {"name": name, "type": ["null", kind], "default": None}
            for name, kind in {
                **dict.fromkeys(("amount", "hour", "hundreds", "hours", "thousands", "day"), "double"),
                "mcc": "int",
                "country": "string",
            }.items()
        ),
    ],
}


def block(recipe: str, language: str) -> str:
    return str(re.findall(rf"^```{language}\n(.*?)^```", RECIPES[recipe], re.DOTALL | re.MULTILINE)[0])


class Runner:
    """Runs recipes (tests/models/recipe_runner.py)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, script: str, place: Path) -> None:
        """Run a recipe's Python, and put what it makes in place when it is whole."""
        MADE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=MADE) as name:
            folder = Path(name) / "made"
            folder.mkdir()
            (folder / "recipe.py").write_text(script, encoding="utf-8")
            code = self._ask(str(folder))
            assert code == 0, (folder / "said").read_text(encoding="utf-8")[-3000:]
            with suppress(OSError):  # another test has made it meanwhile
                folder.rename(place)

    def _ask(self, folder: str) -> int:
        if self._process is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            self._process = subprocess.Popen(
                [str(PYTHON), str(Path(__file__).with_name("recipe_runner.py"))],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        if self._process:
            self._process.communicate()


def made(runner: Runner, recipe: str, folder: Path) -> None:
    """Run a recipe's Python in a folder; where its exporter is not installed, take what it made before."""
    if "import ebm2onnx" in block(recipe, "python") and not list(
        PYTHON.parents[1].glob("lib/*/site-packages/ebm2onnx")
    ):
        shutil.copy(EXPORTED / "ebm.onnx", folder / "model.onnx")
        shutil.copy(EXPORTED / "ebm.parquet", folder / "predictions.parquet")
        return
    script = PREAMBLE + block(recipe, "python")
    place = MADE / hashlib.sha256(LOCK.read_bytes() + script.encode()).hexdigest()[:16]
    if not place.exists():
        runner.run(script, place)
    shutil.copytree(place, folder, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Started with the first recipe that was not run before."""
    started = Runner()
    yield started
    started.close()


def configured(recipe: str, folder: Path, golden: Mapping[str, Any]) -> Path:
    """Write the configuration that a recipe's YAML is the model of."""
    model = YAML(typ="safe").load(block(recipe, "yaml")) | {
        "uri": "model.onnx",
        "sha256": _sha256(folder / "model.onnx"),
        "backend": "auto",
    }
    if "data" in model:
        model["data"]["sha256"] = _sha256(folder / model["data"]["file"])
    model.pop("golden", None)
    document = {
        "version": 1,
        "categories": {"countries": {"DE": 0, "FR": 1, "IT": 2, "*": -1}},
        "models": {"cards": model | ({"golden": dict(golden)} if golden else {})},
        "predictors": {"cards": {"version": 1, "experts": [{"model": "cards"}]}},
        "events": {"event": {"schema": "event.avsc", "id": "id"}},
        "routes": [{"live": "cards"}],
        "tenants": {"acme": {"event": "event"}},
    }
    if "countries" not in block(recipe, "yaml"):
        del document["categories"]
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / "event.avsc").write_text(json.dumps(SCHEMA), encoding="utf-8")
    path = folder / "muse.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)
    return path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


SLOW = ("Keras", "PyTorch, a fixed number of rows")
"""Half a minute each, and they do what PyTorch's does. test_inputs.py has graphs of a fixed number of rows."""
SHORT = "Explainable boosting machine (interpret)"
"""What is made already, and costs no start of the libraries: the recipes that are run are long. test_libraries.py has
models of the libraries that are installed here."""


def mark(recipe: str) -> pytest.MarkDecorator | tuple[()]:
    if recipe in SLOW:
        return pytest.mark.slow
    return () if recipe == SHORT else pytest.mark.long


COMPILED = {
    *("CatBoost", "LightGBM", "XGBoost"),
    *("scikit-learn, a forest with labels", "scikit-learn, several classes"),
}
"""What has one ensemble of trees: docs/compiled-trees.md."""


@pytest.mark.parametrize("recipe", [pytest.param(one, marks=mark(one)) for one in RECIPES])
def test_recipe_is_served_and_answers_as_its_library(runner: Runner, recipe: str, tmp_path: Path) -> None:
    made(runner, recipe, tmp_path)
    told = YAML(typ="safe").load(block(recipe, "yaml")).get("golden", {"tolerance": 1e-5, "differing": 0.01})
    golden = {"file": "cards.golden.json", **told}
    path = configured(recipe, tmp_path, {})
    before = check(path)
    assert before.ok, before.problems
    assert [one.message.partition(":")[0] for one in before.warnings] == ["no golden rows"]
    (tmp_path / "cards.golden.json").write_text('{"inputs": {"x": [[1]]}, "scores": [1]}', encoding="utf-8")
    path = configured(recipe, tmp_path, golden)
    written = write_golden(path, "cards", tmp_path / "predictions.parquet", "score", tmp_path / golden["file"])
    assert written.agrees, written.agreement.shown
    assert written.agreement.rows > 150
    after = check(path)
    assert after.ok, after.problems
    assert after.warnings == ()
    assert (after.backends["cards"].name == "compiled") == (recipe in COMPILED), after.backends


@pytest.mark.long  # as above
@pytest.mark.parametrize("recipe", ["CatBoost", "LightGBM", "XGBoost"])
def test_extreme_and_missing_rows_are_among_the_golden_events(runner: Runner, recipe: str, tmp_path: Path) -> None:
    made(runner, recipe, tmp_path)
    path = configured(recipe, tmp_path, {})
    write_golden(path, "cards", tmp_path / "predictions.parquet", "score", tmp_path / "golden.json")
    events = json.loads((tmp_path / "golden.json").read_text())["events"]
    assert len(events) == pq.read_metadata(tmp_path / "predictions.parquet").num_rows
    assert {"amount": None, "hour": 12.0} in [{name: event[name] for name in ("amount", "hour")} for event in events]
    assert 1e9 in [event["amount"] for event in events]
