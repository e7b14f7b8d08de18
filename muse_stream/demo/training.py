"""Train the demo's experts; `python -m muse_stream.demo.training` writes assets/ again.

Feature columns and a label give ONNX files (input `features` [N, F] float, output `probabilities` [N, 2]) with the
share of negatives they were trained on. Two experts of different kind (boosted trees, a scaled logistic regression),
both on undersampled negatives, so that the posterior correction has something to correct. The ONNX file is the model:
whatever is fitted afterwards (corrections, quantile maps, golden rows) is fitted on *its* answers.

Training requires the `train` extra, which is imported when it is asked for; reading the manifest and scoring do not.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muse_stream.config import ModelSpec
from muse_stream.demo.generator import EVENTS_PER_DAY, FEATURES, feature_table, generate
from muse_stream.errors import MuseError
from muse_stream.extras import missing_extra
from muse_stream.models import load_model

ASSETS = Path(__file__).parent / "assets"
INPUT, OUTPUT = "features", "probabilities"
GOLDEN_ROWS = 12

ModelFamily = Literal["trees", "linear"]


@dataclass(frozen=True, slots=True)
class Expert:
    """One trained model as its ONNX file."""

    kind: ModelFamily
    onnx: bytes
    beta: float
    """Share of the negatives that training saw: what the posterior correction undoes."""
    features: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the file, as a configuration pins it."""
        return hashlib.sha256(self.onnx).hexdigest()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the experts of one generation are trained."""

    generation: int
    first_day: int
    days: int
    seed: int
    undersample: Mapping[ModelFamily, float]
    trees: int
    leaves: int


RECIPES = (
    Recipe(1, first_day=0, days=28, seed=1, undersample={"trees": 0.10, "linear": 0.20}, trees=60, leaves=15),
    # Later data, fewer negatives, other trees: raw scores move visibly though the model is a better one.
    Recipe(2, first_day=49, days=28, seed=2, undersample={"trees": 0.03, "linear": 0.05}, trees=100, leaves=8),
)


def train_experts(
    features: Mapping[str, NDArray[Any]],
    label: NDArray[Any],
    *,
    seed: int = 1,
    undersample: float | Mapping[ModelFamily, float] = 0.1,
    trees: int = 100,
    leaves: int = 31,
) -> dict[ModelFamily, Expert]:
    """Train both experts on columns by name (numbers; NaN is missing) and a label of 0 and 1.

    `undersample`: share of negatives kept, in (0, 1], one for both or by kind. Raises ValueError when a class is absent
    or a share is out of range. Same arguments, same bytes.
    """
    fit = _exporters()
    names = tuple(features)
    table = np.column_stack([np.asarray(features[name], dtype=np.float32) for name in names])
    positive = np.asarray(label) > 0
    if positive.all() or not positive.any():
        raise ValueError("the label needs both classes: 0 (genuine) and 1 (fraud)")
    experts: dict[ModelFamily, Expert] = {}
    kinds: tuple[ModelFamily, ...] = ("trees", "linear")
    for position, kind in enumerate(kinds):
        share = undersample if isinstance(undersample, float | int) else undersample[kind]
        rows, beta = kept_rows(positive, share, np.random.default_rng([seed, position]))
        sample, answer = table[rows], positive[rows].astype(np.int64)
        data = fit.trees(sample, answer, seed, trees, leaves) if kind == "trees" else fit.linear(sample, answer)
        experts[kind] = Expert(kind, data, beta, names)
    return experts


def kept_rows(
    positive: NDArray[np.bool_], share: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """All positives and a random share of the negatives, in order; and the share that was exactly kept."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"undersample is the share of negatives kept, in (0, 1], not {share}")
    negatives = np.flatnonzero(~positive)
    keep = max(1, round(share * len(negatives)))
    chosen = random.choice(negatives, keep, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(positive), chosen])), keep / len(negatives)


def _exporters() -> ModuleType:
    try:
        from muse_stream.demo import exporters  # noqa: PLC0415 - the `train` extra is not there at run time
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    return exporters


def train_generation(recipe: Recipe) -> dict[ModelFamily, Expert]:
    """Generate the recipe's stretch of the stream and train on it."""
    columns = generate(recipe.days * EVENTS_PER_DAY, first_day=recipe.first_day)
    return train_experts(
        feature_table(columns),
        columns["label"],
        seed=recipe.seed,
        undersample=recipe.undersample,
        trees=recipe.trees,
        leaves=recipe.leaves,
    )


def write_assets(folder: Path = ASSETS) -> dict[str, Any]:
    """Train all generations; write models, golden rows and manifest, pin muse.yaml to them; return the manifest."""
    for name in ("models", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    recent = feature_table(generate(GOLDEN_ROWS, first_day=RECIPES[-1].first_day + RECIPES[-1].days))
    models: dict[str, Any] = {}
    for recipe in RECIPES:
        for kind, expert in train_generation(recipe).items():
            name = f"{kind}-g{recipe.generation}"
            (folder / "models" / f"{name}.onnx").write_bytes(expert.onnx)
            (folder / "golden" / f"{name}.json").write_text(golden_rows(expert, recent), encoding="utf-8")
            models[name] = {
                "file": f"models/{name}.onnx",
                "sha256": expert.sha256,
                "beta": expert.beta,
                "kind": kind,
                "generation": recipe.generation,
                "trained_on": {"first_day": recipe.first_day, "days": recipe.days, "events_per_day": EVENTS_PER_DAY},
            }
    manifest = {"input": INPUT, "output": OUTPUT, "positive": 1, "features": list(FEATURES), "models": models}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    pin(folder / "muse.yaml", models)
    return manifest


def golden_rows(expert: Expert, table: Mapping[str, NDArray[np.float64]]) -> str:
    """The ONNX file's own answers to some rows, as `models.read_golden` reads them."""
    rows = np.column_stack([table[name] for name in expert.features]).astype(np.float32)
    spec = {
        "uri": "-",
        "sha256": expert.sha256,
        "inputs": {INPUT: list(expert.features)},
        "output": {"name": OUTPUT, "positive": 1},
    }
    model = load_model(expert.onnx, ModelSpec.model_validate(spec), max_bytes=len(expert.onnx))
    lines = ",\n".join(re.sub(r"\bNaN\b", "null", json.dumps(row)) for row in rows.tolist())
    return f'{{"inputs": {{"{INPUT}": [\n{lines}\n]}},\n"scores": {json.dumps(model.predict([rows]).tolist())}}}\n'


def pin(document: Path, models: Mapping[str, Mapping[str, Any]]) -> None:
    """Write each model's hash and beta into the demo's configuration, which is otherwise kept by hand."""
    text = document.read_text(encoding="utf-8")
    for name, entry in models.items():
        text, hashes = re.subn(rf"(uri: {entry['file']}\n\s+sha256: )\w+", rf"\g<1>{entry['sha256']}", text)
        text, betas = re.subn(rf"(model: {name}, beta: )[\d.]+", rf"\g<1>{entry['beta']!r}", text)
        if (hashes, betas) != (1, 1):
            raise MuseError(f"{document}: expected one sha256 and one beta of {name}, found {hashes} and {betas}")
    document.write_text(text, encoding="utf-8")


def read_manifest(folder: Path = ASSETS) -> dict[str, Any]:
    """What write_assets wrote: input, output, features in order; by model: file, sha256, beta, kind, generation."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest


if __name__ == "__main__":
    for model, entry in write_assets()["models"].items():
        print(f"{model:12} {entry['sha256'][:16]}  beta {entry['beta']:.4f}")
