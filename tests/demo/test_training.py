"""Experts: trained on columns, exported, and the shipped assets that belong together."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from muse_stream import config
from muse_stream.calibration import posterior_correction
from muse_stream.demo import exporters, training
from muse_stream.demo.generator import EVENTS_PER_DAY, FEATURES, feature_table, generate
from muse_stream.demo.training import ASSETS, RECIPES, Expert, ModelFamily, kept_rows, read_manifest, train_experts
from muse_stream.errors import MuseError
from muse_stream.models import OnnxModel, check_golden, load_model, read_golden

LIMIT = 1 << 22
KINDS: tuple[ModelFamily, ...] = ("trees", "linear")


def _columns(rows: int = 6_000) -> tuple[dict[str, NDArray[Any]], NDArray[np.int8]]:
    """Columns as a parquet file has them: several types, an empty place here and there."""
    random = np.random.default_rng(5)
    amount = random.lognormal(3, 1, rows).astype(np.float32)
    features: dict[str, NDArray[Any]] = {
        "TX_AMOUNT": amount,
        "COUNT": random.poisson(3, rows).astype(np.int16),
        "NIGHT": random.random(rows) < 0.1,
        "RISK": np.where(random.random(rows) < 0.1, np.nan, random.random(rows)),
        "EMPTY": np.full(rows, np.nan),
    }
    label = (np.log(amount) + 2 * np.nan_to_num(features["RISK"]) + random.normal(0, 0.7, rows) > 6).astype(np.int8)
    return features, label


def _load(expert: Expert) -> OnnxModel:
    document = {
        "uri": "-",
        "sha256": expert.sha256,
        "inputs": {training.INPUT: list(expert.features)},
        "output": {"name": training.OUTPUT},
    }
    return load_model(expert.onnx, config.ModelSpec.model_validate(document), max_bytes=LIMIT)


@pytest.fixture(scope="module")
def experts() -> dict[ModelFamily, Expert]:
    features, label = _columns()
    return train_experts(features, label, seed=3, undersample=0.2, trees=20, leaves=8)


def test_both_kinds_answer_with_the_columns_given(experts: dict[ModelFamily, Expert]) -> None:
    features, label = _columns()
    table = np.column_stack([column.astype(np.float32) for column in features.values()])
    assert tuple(experts) == KINDS
    for kind, expert in experts.items():
        assert (expert.kind, expert.features) == (kind, tuple(features))
        scores = _load(expert).predict([table])
        assert np.isfinite(scores).all()  # also where RISK is missing
        assert scores[label == 1].mean() > 2 * scores[label == 0].mean()


def test_beta_is_the_share_of_negatives_that_was_kept(experts: dict[ModelFamily, Expert]) -> None:
    features, label = _columns()
    table = np.column_stack([column.astype(np.float32) for column in features.values()])
    for kind, expert in experts.items():
        assert expert.beta == pytest.approx(0.2, abs=1e-3)
        raw = _load(expert).predict([table])
        corrected = posterior_correction(raw, expert.beta)
        assert raw.mean() > 1.5 * label.mean(), kind
        assert corrected.mean() == pytest.approx(label.mean(), rel=0.25), kind


def test_a_share_for_each_kind_and_none_removed() -> None:
    features, label = _columns(2_000)
    trained = train_experts(features, label, undersample={"trees": 1, "linear": 0.5}, trees=5, leaves=4)
    assert trained["trees"].beta == 1.0
    assert trained["linear"].beta == pytest.approx(0.5, abs=1e-3)


def test_same_arguments_give_the_same_bytes(experts: dict[ModelFamily, Expert]) -> None:
    features, label = _columns()
    again = train_experts(features, label, seed=3, undersample=0.2, trees=20, leaves=8)
    assert {kind: expert.sha256 for kind, expert in again.items()} == {
        kind: expert.sha256 for kind, expert in experts.items()
    }


def test_only_the_coefficients_say_whether_a_regression_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor's "invalid value" flag of a product of finite numbers is nothing; a coefficient that is NaN is."""
    fit = LogisticRegression.fit
    table, label = np.random.default_rng(1).random((200, 2), dtype=np.float32), np.arange(200) % 2
    sound = exporters.linear(table, label)

    def flagged(model: Any, *given: Any) -> Any:
        assert np.isnan(np.float32(np.inf) - np.float32(np.inf))  # raises the flag
        return fit(model, *given)

    def broken(model: Any, *given: Any) -> Any:
        fit(model, *given).coef_[0, 0] = np.nan
        return model

    monkeypatch.setattr(LogisticRegression, "fit", flagged)
    assert exporters.linear(table, label) == sound
    monkeypatch.setattr(LogisticRegression, "fit", broken)
    with pytest.raises(MuseError, match="no finite coefficients"):
        exporters.linear(table, label)


def test_sampling_keeps_every_positive_and_the_order() -> None:
    positive = np.random.default_rng(1).random(1_000) < 0.1
    rows, beta = kept_rows(positive, 0.25, np.random.default_rng(2))
    negatives = int((~positive).sum())
    assert positive[rows].sum() == positive.sum()
    assert (np.diff(rows) > 0).all()
    assert beta == (len(rows) - positive.sum()) / negatives == round(0.25 * negatives) / negatives


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    features, label = _columns(200)
    with pytest.raises(ValueError, match="share of negatives"):
        train_experts(features, label, undersample=share)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_of_one_class_is_refused(value: int) -> None:
    features, label = _columns(200)
    with pytest.raises(ValueError, match="both classes"):
        train_experts(features, np.full_like(label, value))


def test_without_the_train_extra_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "muse_stream.demo.exporters", raising=False)
    monkeypatch.delattr("muse_stream.demo.exporters", raising=False)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    features, label = _columns(200)
    with pytest.raises(MuseError, match=r"lightgbm is not installed: pip install 'muse-stream\[train\]'"):
        train_experts(features, label)


@pytest.fixture(scope="module")
def shipped() -> dict[str, OnnxModel]:
    """The models of assets/muse.yaml, as a worker would load them."""
    loaded = config.load_document(ASSETS / "muse.yaml")
    return {
        name: load_model(loaded.root / entry.uri, entry, max_bytes=LIMIT)
        for name, entry in loaded.document.models.items()
    }


@pytest.fixture(scope="module")
def recent() -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    columns = generate(14 * EVENTS_PER_DAY, first_day=RECIPES[-1].first_day + RECIPES[-1].days)
    return np.column_stack(list(feature_table(columns).values())).astype(np.float32), columns


def test_manifest_and_configuration_name_the_same_files(shipped: dict[str, OnnxModel]) -> None:
    manifest = read_manifest()
    document = config.load_document(ASSETS / "muse.yaml").document
    assert manifest["models"].keys() == shipped.keys()
    assert tuple(manifest["features"]) == FEATURES
    betas = {
        expert.model: expert.beta
        for predictor in document.predictors.values()
        if isinstance(predictor, config.ShortPredictor)
        for expert in predictor.experts
    }
    for name, entry in manifest["models"].items():
        assert entry["sha256"] == shipped[name].sha256
        assert entry["file"] == document.models[name].uri
        assert entry["beta"] == betas[name]
        assert [feature.field for feature in document.models[name].features()] == list(FEATURES)


def test_golden_rows_are_the_files_answers(shipped: dict[str, OnnxModel]) -> None:
    for name, model in shipped.items():
        golden = read_golden((ASSETS / "golden" / f"{name}.json").read_bytes())
        assert len(golden.scores) == training.GOLDEN_ROWS
        check_golden(model, golden)


def test_assets_are_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 2_000_000


def test_the_retrained_generation_moves_the_raw_scores_and_is_better(
    shipped: dict[str, OnnxModel], recent: tuple[NDArray[np.float32], dict[str, NDArray[Any]]]
) -> None:
    table, columns = recent
    label = columns["label"] == 1
    for kind in KINDS:
        old, new = shipped[f"{kind}-g1"].predict([table]), shipped[f"{kind}-g2"].predict([table])
        assert (new > 0.5).mean() > 2 * (old > 0.5).mean(), kind  # a tenant at 0.5 would get twice the alerts
        worst = [np.argsort(-scores)[: label.sum()] for scores in (old, new)]
        caught = [float(label[rows].mean()) for rows in worst]
        assert caught[1] > caught[0], kind
    assert caught[1] > 10 * label.mean()


def test_the_script_makes_the_shipped_models_again(
    shipped: dict[str, OnnxModel], recent: tuple[NDArray[np.float32], dict[str, NDArray[Any]]]
) -> None:
    # Bytes repeat on one machine; another processor's BLAS may move a coefficient's last bits, answers stay.
    table, _ = recent
    manifest = read_manifest()["models"]
    for kind, expert in training.train_generation(RECIPES[-1]).items():
        name = f"{kind}-g{RECIPES[-1].generation}"
        assert expert.beta == manifest[name]["beta"]
        moved = np.abs(_load(expert).predict([table]) - shipped[name].predict([table]))
        assert np.quantile(moved, 0.99) < 1e-3, name


def test_writing_assets_pins_the_configuration_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, label = _columns(2_000)
    tiny = train_experts(features, label, trees=3, leaves=4)
    rows = {name: column.astype(np.float64)[:5] for name, column in features.items()}
    monkeypatch.setattr(training, "train_generation", lambda recipe: tiny)
    monkeypatch.setattr(training, "feature_table", lambda columns: rows)
    (tmp_path / "muse.yaml").write_text((ASSETS / "muse.yaml").read_text("utf-8"), "utf-8")
    manifest = training.write_assets(tmp_path)
    assert manifest == read_manifest(tmp_path)
    text = (tmp_path / "muse.yaml").read_text("utf-8")
    for name, entry in manifest["models"].items():
        assert entry["sha256"] in text
        assert f"{{model: {name}, beta: {entry['beta']!r}" in text
        assert (tmp_path / entry["file"]).read_bytes() == tiny[entry["kind"]].onnx
        golden = read_golden((tmp_path / "golden" / f"{name}.json").read_bytes())
        check_golden(_load(tiny[entry["kind"]]), golden)


def test_a_configuration_without_the_models_is_not_pinned(tmp_path: Path) -> None:
    (tmp_path / "muse.yaml").write_text("version: 1\n", "utf-8")
    with pytest.raises(MuseError, match="expected one sha256 and one beta of trees-g1, found 0 and 0"):
        training.pin(tmp_path / "muse.yaml", read_manifest()["models"])
