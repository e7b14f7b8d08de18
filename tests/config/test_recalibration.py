"""Recalibrations and prior corrections in a document: what is accepted, what is refused and where."""

import hashlib
import json
from pathlib import Path
from shutil import copytree

import pytest

from muse_stream.commands.check import check
from muse_stream.commands.difference import differences
from muse_stream.config import load_document, pre_map_hash, referenced_files
from tests.config.example_config import ROOT, TEXT, changed, problems_of, said

CURVE = {"scores": [0, 0.1, 1], "probabilities": [0, 0.3, 0.9], "samples": 900, "positives": 40}
BARE = changed(
    (
        "      a: {model: cards-2026q2}\n      b: {model: cards-2026q3}\n"
        "      score: {aggregate: {how: mean, inputs: [a, b], weights: [1, 2]}}\n",
        "      a: {model: cards-2026q2}\n"
        "      a-true: {recalibration: {input: a, default: settled-curve}}\n"
        "      b: {model: cards-2026q3}\n"
        "      b-now: {prior_correction: {input: b, trained: 0.1, prior: 0.02, tenants: {acme: 0.05}}}\n"
        "      score: {aggregate: {how: mean, inputs: [a-true, b-now], weights: [1, 2]}}\n",
    ),
)


def with_curve(fitted_for: str, **change: object) -> str:
    curve = json.dumps({"fitted_for": fitted_for, **CURVE, **change})
    return BARE.replace("\npredictors:\n", f"\nrecalibrations:\n  settled-curve: {curve}\n\npredictors:\n", 1)


def edited(text: str, old: str, new: str) -> str:
    """Change what stands under `predictors`: a comment above shows the same keys."""
    head, middle, tail = text.partition("\npredictors:\n")
    assert old in tail
    return head + middle + tail.replace(old, new, 1)


@pytest.fixture(scope="module")
def content() -> str:
    """The hash that a curve at `a-true` is pinned to, as `check` says it."""
    from muse_stream.config.loading import examine_source  # noqa: PLC0415 - a draft, which is not well
    from muse_stream.config.source import parse  # noqa: PLC0415

    draft = examine_source(parse(ROOT / "muse.yaml", with_curve("0" * 64).encode()), ROOT).draft
    return pre_map_hash(draft.document, "unmapped", "a-true")


def test_a_document_with_both_loads(content: str) -> None:
    assert not problems_of(with_curve(content)), said(problems_of(with_curve(content)))


def test_a_curve_for_another_content_is_refused_where_it_is_used() -> None:
    (problem,) = problems_of(with_curve("0" * 64))
    assert problem.path == "predictors.unmapped.nodes.a-true.recalibration.default"
    assert "recalibration 'settled-curve' was fitted for 000000000000" in problem.message


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"scores": [0, 0.1, 0.1]}, "recalibrations.settled-curve.scores", "does not exceed"),
        ({"probabilities": [0, 0.9, 0.3]}, "recalibrations.settled-curve.probabilities", "below"),
        ({"probabilities": [0, 2.0, 3.0]}, "recalibrations.settled-curve.probabilities", "outside"),
        ({"probabilities": [0, 1.0]}, "recalibrations.settled-curve", "3 scores but 2"),
        ({"positives": 900}, "recalibrations.settled-curve", "900 positives of 900"),
        ({"method": "platt"}, "recalibrations.settled-curve.method", "isotonic"),
    ],
)
def test_a_curve_that_is_none_is_refused(content: str, change: dict[str, object], path: str, says: str) -> None:
    problems = problems_of(with_curve(content, **change))
    assert [problem.path for problem in problems] == [path], said(problems)
    assert says in problems[0].message


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("trained: 0.1", "trained: 0.0", "trained", "greater than 0"),
        ("prior: 0.02", "prior: 1.0", "prior", "less than 1"),
        ("{acme: 0.05}", "{acmee: 0.05}", "tenants.acmee", "unknown tenant"),
        ("prior: 0.02, tenants: {acme: 0.05}", "tenants: {}", "", "no new share"),
    ],
)
def test_a_prior_correction_that_is_none_is_refused(content: str, old: str, new: str, path: str, says: str) -> None:
    problems = problems_of(edited(with_curve(content), old, new))
    where = "predictors.unmapped.nodes.b-now.prior_correction" + (f".{path}" if path else "")
    assert [problem.path for problem in problems] == [where], said(problems)
    assert says in problems[0].message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("default: settled-curve", "default: settled-curv", "unknown recalibration 'settled-curv'"),
        ("input: a, default: settled-curve", "input: a", "no curve is given"),
        ("default: settled-curve}", "default: settled-curve, tenants: {nobody: settled-curve}}", "unknown tenant"),
    ],
)
def test_a_recalibration_node_names_what_there_is(content: str, old: str, new: str, says: str) -> None:
    assert says in said(problems_of(edited(with_curve(content), old, new)))


@pytest.fixture
def folder(tmp_path: Path, content: str) -> Path:
    copytree(ROOT, tmp_path / "config")
    (tmp_path / "config" / "muse.yaml").write_text(with_curve(content))
    return tmp_path / "config"


def in_file(folder: Path, content: str, **change: object) -> Path:
    data = json.dumps({"fitted_for": content, **CURVE, **change}).encode()
    (folder / "curve.json").write_bytes(data)
    entry = json.dumps({"file": "curve.json", "sha256": hashlib.sha256(data).hexdigest()})
    text = BARE.replace("\npredictors:\n", f"\nrecalibrations:\n  settled-curve: {entry}\n\npredictors:\n", 1)
    path = folder / "filed.yaml"
    path.write_text(text)
    return path


def test_a_curve_in_a_file_is_verified_listed_and_loaded(folder: Path, content: str) -> None:
    loaded = load_document(in_file(folder, content))
    assert Path("curve.json") in referenced_files(loaded)
    assert loaded.fitted.recalibrations["settled-curve"].probabilities.tolist() == CURVE["probabilities"]
    (folder / "curve.json").write_text("{}")
    assert "another sha256" in said(check(folder / "filed.yaml").problems)
    (folder / "curve.json").unlink()
    assert "curve.json" in said(check(folder / "filed.yaml").problems)


def test_check_compiles_it_and_says_what_a_curve_is_pinned_to(folder: Path, content: str) -> None:
    checked = check(folder / "muse.yaml")
    assert checked.ok, said(checked.problems)
    assert checked.contents["unmapped/a-true"] == content


def test_diff_says_what_became_of_a_curve(folder: Path, content: str) -> None:
    old = load_document(folder / "muse.yaml")
    (folder / "refitted.yaml").write_text(with_curve(content, samples=1000, positives=50, fitted_on=["globex"]))
    found = {str(change): change.harm for change in differences(old, load_document(folder / "refitted.yaml"))}
    assert "recalibration settled-curve: refitted on 1,000 events, 50 of them positive" in found
    text = (
        (folder / "refitted.yaml")
        .read_text()
        .replace("default: settled-curve}", "default: settled-curve, tenants: {acme: settled-curve}}")
    )
    (folder / "astray.yaml").write_text(text)
    astray = {str(change): change.harm for change in differences(old, load_document(folder / "astray.yaml"))}
    said_of = "tenant acme: unmapped: recalibration settled-curve was fitted on the events of globex"
    assert astray[said_of] == "its scores are no probabilities"
    (folder / "without.yaml").write_text(TEXT)
    assert "recalibration settled-curve: gone" in map(str, differences(old, load_document(folder / "without.yaml")))
