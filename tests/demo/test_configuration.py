"""The generations: each accepted by `check`, and a promotion that changes routes and nothing else."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from muse_stream.calibration.quantile_map import FittedMap
from muse_stream.commands.check import check
from muse_stream.config import load_document, pre_map_hash, promote
from muse_stream.demo import configuration as made
from muse_stream.demo.scenario import BARE_NEW, BARE_OLD, NEW, OLD
from muse_stream.demo.training import ASSETS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ASSETS, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def base(folder: Path) -> dict[str, Any]:
    document = load_document(folder / "muse.yaml").document
    return made.named(document.model_dump(by_alias=True, exclude_none=True), "mine", "lane-7")


def maps(base: dict[str, Any], folder: Path, predictor: str, seed: int) -> dict[str, FittedMap]:
    random = np.random.default_rng(seed)
    return made.fitted(base, folder, predictor, {tenant: random.beta(1, 20, 2_000) for tenant in base["tenants"]})


def generations(base: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    first = made.served(base, folder, maps(base, folder, OLD, 1))
    second = made.shadowed(first)
    return [first, second, made.calibrated(second, folder, maps(base, folder, OLD, 2), maps(base, folder, NEW, 3))]


def test_every_generation_is_accepted(base: dict[str, Any], folder: Path) -> None:
    for number, tree in enumerate(generations(base, folder), 1):
        checked = check(made.write(tree, folder / f"{number}.yaml"))
        assert [str(problem) for problem in checked.problems] == []


def test_a_promotion_changes_the_routes_and_nothing_else(base: dict[str, Any], folder: Path) -> None:
    third = made.write(generations(base, folder)[-1], folder / "3.yaml")
    promoted = promote(third.read_text(), NEW)
    before, after = (YAML(typ="safe").load(text) for text in (third.read_text(), promoted.text))
    assert {key for key in before if before[key] != after[key]} == {"routes"}
    assert after["routes"] == [{"live": NEW, "shadow": [OLD, BARE_NEW]}]


def test_the_new_predictor_has_maps_only_when_they_were_fitted(base: dict[str, Any], folder: Path) -> None:
    first, second, third = generations(base, folder)
    assert "quantile_map" not in second["predictors"][NEW]
    assert first["maps"] == second["maps"] != third["maps"]
    assert len(third["maps"]) == 2 * len(base["tenants"])


def test_maps_are_pinned_to_the_predictor_they_were_fitted_for(base: dict[str, Any], folder: Path) -> None:
    *_, third = generations(base, folder)
    path = made.write(third, folder / "3.yaml")
    document = load_document(path).document
    third["predictors"][NEW]["experts"][0]["beta"] = 0.5
    assert any("was fitted for" in str(one) for one in check(made.write(third, path)).problems)
    assert pre_map_hash(document, NEW) != pre_map_hash(document, OLD)


def test_without_muse_nothing_is_corrected_or_mapped(base: dict[str, Any]) -> None:
    predictors = made.with_bare(base)["predictors"]
    for bare, of in ((BARE_OLD, OLD), (BARE_NEW, NEW)):
        assert [one["model"] for one in predictors[bare]["experts"]] == [
            one["model"] for one in predictors[of]["experts"]
        ]
        assert {one["beta"] for one in predictors[bare]["experts"]} == {1.0}
        assert "quantile_map" not in predictors[bare]
    assert base["predictors"][OLD]["experts"][0]["beta"] != 1.0


def test_topics_and_lane_are_the_runs_own(base: dict[str, Any], folder: Path) -> None:
    document = load_document(made.write(generations(base, folder)[0], folder / "1.yaml")).document
    assert document.tenant_topics("acme").scores == "mine.scores.acme"
    assert list(document.lanes()) == ["lane-7"]
    assert document.unknown_topic("lane-7") == "mine.dlq.lane-7"


def test_yaml_keeps_numbers_as_keys_and_text_as_it_is(tmp_path: Path) -> None:
    path = made.write({"a": {"b": {0.2: 0.7}}, "c": [{"d": 'é "x": #'}], "e": True, "f": {}}, tmp_path / "x.yaml")
    text = path.read_text(encoding="utf-8")
    assert text == 'a:\n  "b": {0.2: 0.7}\nc:\n  - {"d": "é \\"x\\": #"}\ne: true\nf: {}\n'
