"""The mapping file: the Handbook's is right, and every mistake is said with its line, all at once."""

from pathlib import Path

import pytest

from muse_stream.demo.mapping import HANDBOOK, read_mapping
from muse_stream.errors import ConfigError

SMALL = """\
id: nr
time: at
label: fraud
features: [amount, hour]
tenants: {column: bank}
days: {old: [0, 3], past: [4, 6], new: [0, 6], stream: 7}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mapping.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read_mapping(written(folder, text))
    return [f"{one.line}: {one.path}: {one.message}" for one in refused.value.problems]


def test_the_handbook_has_fifteen_features_and_none_that_tells_the_label() -> None:
    mapping = read_mapping(HANDBOOK)
    assert len(mapping.features) == 15
    assert not {"TX_FRAUD", "TX_FRAUD_SCENARIO"} & set(mapping.features)
    assert mapping.tenant_column == "TERMINAL_ID"
    assert mapping.training.new == (0, 29) and mapping.training.stream == 30
    assert (mapping.training.trees, mapping.training.leaves) == (100, 31)
    assert set(mapping.thresholds) == set(mapping.names)


def test_little_is_enough(tmp_path: Path) -> None:
    mapping = read_mapping(written(tmp_path, SMALL))
    assert mapping.names == () and mapping.tenant_column == "bank"
    assert mapping.key == "nr" and mapping.channel is None and mapping.entities == ()
    assert mapping.rate is None and mapping.drifts is False


def test_the_label_is_no_feature(tmp_path: Path) -> None:
    assert problems(tmp_path, SMALL.replace("hour", "fraud")) == ["4: features: the label fraud cannot be a feature"]


def test_maps_are_not_fitted_to_what_the_model_has_seen(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, SMALL.replace("past: [4, 6]", "past: [3, 6]"))
    assert problem.startswith("6: days.past: must not overlap")


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("id: nr\n", "") + "rate: 0\nkeys: [x]\nentities: [a, b, c]\nmodels: {keep: {old: 2}}\n"
    found = problems(tmp_path, text.replace("stream: 7", "stream: 6"))
    assert [line.split(": ", 2)[1] for line in found] == [
        "keys", "entities", "id", "days.past", "days.new", "models.keep.old", "rate",
    ]  # fmt: skip
    assert found[0].startswith("7: keys: is not a key")


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("[amount, hour]", "[]", "features"),
        ("[amount, hour]", "[amount, amount]", "features"),
        ("[amount, hour]", "amount", "features"),
        ("{column: bank}", "{by: bank}", "tenants.column"),
        ("{column: bank}", "{names: [a, b]}", "tenants.by"),
        ("{column: bank}", "[bank]", "tenants"),
        ("at", "7", "time"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, old: str, new: str, path: str) -> None:
    assert any(f" {path}: " in line for line in problems(tmp_path, SMALL.replace(old, new, 1)))


def test_thresholds_are_scores(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, SMALL + "thresholds: {a: 80}\n")
    assert problem.startswith("7: thresholds.a: a number")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mapping(tmp_path / "nowhere.yaml")
