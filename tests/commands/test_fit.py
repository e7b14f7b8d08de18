"""Maps fitted to files: what is written, what it rests on, and what nothing can be fitted to."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from muse_stream import FileColumns, Fit, FitError, Fitting, QuantileMap, fit_maps
from muse_stream.calibration import FittedMap
from muse_stream.commands.check import check
from muse_stream.commands.replay import replay
from muse_stream.config import load_document, pre_map_hash
from muse_stream.control import open_store
from muse_stream.demo.generator import generate
from muse_stream.demo.training import ASSETS
from muse_stream.errors import ConfigError, MuseError

EVENTS = 2_000
COLUMNS = FileColumns(entity="customer_id")
OLD = "cards-g1"


@pytest.fixture(scope="module")
def events() -> dict[str, Any]:
    return generate(EVENTS, first_day=80)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, events: dict[str, Any]) -> Path:
    """The demo's configuration with a file of events; to be read only."""
    folder = tmp_path_factory.mktemp("fit") / "config"
    shutil.copytree(ASSETS, folder)
    pq.write_table(pa.table(events), folder / "events.parquet")
    return folder


@pytest.fixture(scope="module")
def fitted(kept: Path) -> Fit:
    return fit_maps(kept / "muse.yaml", OLD, kept / "events.parquet", fitting=Fitting(COLUMNS))


@pytest.fixture(scope="module")
def own(kept: Path) -> Fit:
    """Maps of each tenant's own events."""
    return fit_maps(kept / "muse.yaml", OLD, kept / "events.parquet", fitting=Fitting(COLUMNS, policy="own"))


@pytest.fixture
def config(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "config")) / "muse.yaml"


def scores_file(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def few(count: int = 200, seed: int = 1, **more: object) -> list[dict[str, Any]]:
    values = np.random.default_rng(seed).beta(1, 20, count).tolist()
    return [{"p": value, **more} for value in values]


SCORES = FileColumns(scores="p")


def of_scores(config: Path, path: Path, columns: FileColumns = SCORES, **options: Any) -> Fit:
    tenants = None if columns.tenant else ["acme"]
    return fit_maps(config, OLD, path, tenants=tenants, fitting=Fitting(columns, **options))


def replayed(config: Path, tmp_path: Path) -> dict[str, Any]:
    """What a worker says of acme's events; those of others are its dead letters."""
    replay(config, "acme", config.parent / "events.parquet", tmp_path / "scores.parquet")
    return {name: np.array(column) for name, column in pq.read_table(tmp_path / "scores.parquet").to_pydict().items()}


def test_the_values_are_those_that_a_worker_computes(kept: Path, own: Fit, tmp_path: Path) -> None:
    aggregate = replayed(kept / "muse.yaml", tmp_path)["aggregate"]
    expected = FittedMap.fit(aggregate, own.promise, own.fitted_for, ("acme",))
    assert own.maps["acme"].values.tobytes() == expected.values.tobytes()
    assert own.fitted_for == pre_map_hash(load_document(kept / "muse.yaml").document, OLD)


def test_each_threshold_has_its_evidence(fitted: Fit, events: dict[str, Any]) -> None:
    acme = fitted.tenants["acme"]
    mine = events["tenant"] == "acme"
    assert (acme.events, acme.entities) == (mine.sum(), len(np.unique(events["customer_id"][mine])))
    assert [one.threshold for one in acme.trust] == [0.2, 0.5, 0.6, 0.8]
    assert all(one.low < one.promised < one.high and one.needed > acme.events for one in acme.trust)
    hooli = fitted.tenants["hooli"]  # few events: between the pool's and its own
    assert hooli.policy == "shrinkage" and hooli.map.own_share is not None and 0.0 < hooli.map.own_share < 1.0
    said = fitted.to_json()["tenants"]["hooli"]
    assert (said["own_share"], said["events"]) == (hooli.map.own_share, hooli.events)
    assert said["first"].startswith("2026-") and said["first"] < said["last"]
    assert any("too little evidence at threshold 0.8" in line for line in hooli.warnings())


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_kind_of_file_gives_the_same_bits(kept: Path, fitted: Fit, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"events.{kind}"
    table = pq.read_table(kept / "events.parquet")
    if kind == "csv":
        pc.write_csv(table, path)
    else:
        scores_file(path, table.to_pylist())
    again = fit_maps(
        kept / "muse.yaml", OLD, path, tenants=["acme"], fitting=Fitting(replace(COLUMNS, tenant="tenant"))
    )
    assert again.maps["acme"].values.tobytes() == fitted.maps["acme"].values.tobytes()
    assert again.tenants["acme"].trust == fitted.tenants["acme"].trust


def test_maps_are_written_into_a_configuration_and_everything_else_stays(config: Path, fitted: Fit) -> None:
    before = config.read_text()
    fitted.write(config)
    after = config.read_text().splitlines()
    assert [line for line in before.splitlines() if line not in after] == []
    assert not check(config).problems
    loaded = load_document(config)
    assert loaded.document.predictors[OLD].graph().map_nodes()["quantile_map"].tenants == {
        name: f"{OLD}-{name}" for name in loaded.document.tenants
    }
    fit_maps(config, OLD, config.parent / "events.parquet", fitting=Fitting(COLUMNS)).write(config)
    assert config.read_text().splitlines() == after  # the same events, the same maps, the same files


def test_on_its_own_events_the_written_map_keeps_the_promise(config: Path, tmp_path: Path, own: Fit) -> None:
    own.write(config)
    score = replayed(config, tmp_path)["score"]
    for threshold, rate in {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}.items():
        assert abs(np.mean(score >= threshold) - rate) <= 1.0 / len(score)


def test_maps_are_published_as_the_next_generation(config: Path, fitted: Fit, tmp_path: Path) -> None:
    with fitted.proposed(tmp_path / "store") as first:
        assert first.publish().number == 1
    with fitted.proposed(tmp_path / "store") as second:
        assert second.changes == () and not second.publish().changed
    store = open_store(tmp_path / "store")
    assert set(load_document(store.open(1).path).document.maps) == {f"{OLD}-{name}" for name in fitted.maps}


def test_stale_maps_of_a_changed_predictor_are_fitted_anew(config: Path, fitted: Fit) -> None:
    fitted.write(config)
    config.write_text(config.read_text().replace("weight: 3.0", "weight: 2.0", 1))
    with pytest.raises(ConfigError, match="fitted for"):
        load_document(config)
    with pytest.raises(ConfigError, match="the maps were fitted for"):
        fitted.write(config)
    fit_maps(config, OLD, config.parent / "events.parquet", fitting=Fitting(COLUMNS)).write(config)
    assert not check(config).problems


def test_a_map_for_another_predictor_is_refused(config: Path, fitted: Fit) -> None:
    config.write_text(config.read_text().replace("cards-g1:", "cards-x:").replace("live: cards-g1", "live: cards-x"))
    with pytest.raises(ConfigError, match="no predictor 'cards-g1'"):
        fitted.write(config)


def test_a_beta_is_given_or_estimated_and_maps_are_fitted_behind_it(config: Path, fitted: Fit) -> None:
    path = config.parent / "events.parquet"
    given = fit_maps(config, OLD, path, fitting=Fitting(COLUMNS, betas={"linear-g1": 0.25}))
    given.write(config)
    assert "{model: linear-g1, beta: 0.25}" in config.read_text()
    assert not check(config).problems and given.fitted_for != fitted.fitted_for
    found = fit_maps(config, OLD, path, fitting=Fitting(replace(COLUMNS, label="label"), estimate_betas=True))
    betas = {name: one for name, one in found.betas.items() if not isinstance(one, float)}
    assert set(betas) == {"linear-g1", "trees-g1"}
    assert betas["trees-g1"].low < 0.2 < betas["trees-g1"].high * 1.5  # 0.1 was kept, with few frauds here
    with pytest.raises(ConfigError, match="'cards' is no expert of it"):
        fit_maps(config, OLD, path, fitting=Fitting(COLUMNS, betas={"cards": 0.25}))


def test_a_tenant_without_events_starts_from_the_pool(config: Path, tmp_path: Path) -> None:
    rows = [row for name in ("acme", "globex", "initech") for row in few(400, len(name), tenant=name)]
    path = scores_file(tmp_path / "s.jsonl", rows)
    columns = replace(SCORES, tenant="tenant")
    found = fit_maps(config, OLD, path, tenants=["hooli"], fitting=Fitting(columns, default=True))
    hooli = found.tenants["hooli"]
    assert (hooli.policy, hooli.events, hooli.map.own_share) == ("shrinkage", 0, 0.0)
    assert found.default is not None and found.default.samples == 1_200
    found.write(config)
    assert not check(config).problems
    assert load_document(config).document.predictors[OLD].graph().map_nodes()["quantile_map"].default == f"{OLD}-pooled"
    with pytest.raises(FitError, match="tenant hooli has no events"):
        fit_maps(config, OLD, path, tenants=["hooli"], fitting=Fitting(columns, policy="own"))


def test_it_moves_to_its_own_as_events_arrive(config: Path, tmp_path: Path) -> None:
    others = [row for name in ("acme", "globex", "initech", "umbrella") for row in few(2_000, len(name), tenant=name)]
    shares = []
    for events in (0, 100, 2_000):
        own = [{"p": 3 * row["p"] % 1.0, "tenant": "hooli"} for row in few(events, 9)]
        path = scores_file(tmp_path / "s.jsonl", [*others, *own])
        fitting = Fitting(replace(SCORES, tenant="tenant"), policy="shrinkage")
        shares.append(fit_maps(config, OLD, path, tenants=["hooli"], fitting=fitting).maps["hooli"].own_share)
    assert shares[0] == 0.0 and shares[0] < (shares[1] or 0.0) < (shares[2] or 0.0)


def rows_at(times: Sequence[object]) -> list[dict[str, Any]]:
    return [{**row, "at": at} for row, at in zip(few(len(times)), times, strict=True)]


HOUR = 3_600_000
TIMED = replace(SCORES, time="at")
OWNED = replace(SCORES, tenant="tenant")
Rows = list[dict[str, Any]]
BAD: dict[str, tuple[Callable[[], Rows], FileColumns, str]] = {
    "nothing": (list, SCORES, "tenant acme has no events: there is nothing to fit to"),
    "constant": (lambda: [{"p": 0.25}] * 50, SCORES, r"tenant acme: all 50 events have the score 0\.25"),
    "nan": (lambda: [*few(), {"p": "NaN"}], SCORES, r"1 values that are no score.*row 201"),
    "null": (lambda: [*few(), {"p": None}], SCORES, r"1 values that are no score.*row 201: None"),
    "outside": (
        lambda: [{"p": 1.5}, {"p": -0.1}, *few()],
        SCORES,
        r"2 values that are no score.*row 1: 1\.5, row 2: -0\.1",
    ),
    "text": (lambda: [*few(), {"p": "high"}], SCORES, r"row 201: high"),
    "no column": (lambda: [{"q": 0.5}], SCORES, r"no column 'p'; there is q"),
    "mixed zones": (
        lambda: rows_at(["2026-01-01T00:00:00Z", "2026-01-01T01:00:00"]),
        TIMED,
        r"cannot be put in order: row 1 has a time with a zone and row 2 has a time without one",
    ),
    "numbers and texts": (
        lambda: rows_at([1_780_000_000_000, "2026-07-01T01:00:00Z"]),
        TIMED,
        r"row 1 has a number and row 2 has a time with a zone",
    ),
    "unsorted": (
        lambda: rows_at([3, 2, 4]),
        TIMED,
        r"not in order of 'at': row 2 is earlier than row 1",
    ),
    "no time": (lambda: rows_at([1, "noon"]), TIMED, r"row 2: 'noon' in column 'at' is no time"),
    "gap": (
        lambda: rows_at([HOUR // 10 * row + (30 * HOUR if row > 300 else 0) for row in range(600)]),
        TIMED,
        r"the window has a gap: no events from 1970-01-02T06:00:00\+00:00 to 1970-01-03T12:06:00\+00:00, 30\.1 hours",
    ),
    "strangers": (
        lambda: few(tenant="nobody"),
        OWNED,
        r"names no tenant of the configuration that is asked for; it has nobody",
    ),
    "nobody": (
        lambda: [*few(tenant="acme"), {"p": 0.5, "tenant": None}],
        replace(SCORES, tenant="tenant"),
        "row 201: no tenant",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_nothing_can_be_fitted_to_is_refused_by_name(kept: Path, tmp_path: Path, name: str) -> None:
    rows, columns, says = BAD[name]
    with pytest.raises(MuseError, match=says):
        of_scores(kept / "muse.yaml", scores_file(tmp_path / "s.jsonl", rows()), columns)


@pytest.mark.parametrize("source", ["scores", "audit", "sketches", "events.jsonl"])
def test_an_unknown_predictor_and_a_missing_reference_are_refused_before_anything_is_read(
    kept: Path, source: str
) -> None:
    with pytest.raises(ConfigError, match="there is no predictor 'nope'"):
        fit_maps(kept / "muse.yaml", "nope", source)
    with pytest.raises(ConfigError, match="there is no reference 'nope'"):
        fit_maps(kept / "muse.yaml", OLD, source, fitting=Fitting(reference="nope"))


def test_times_with_different_offsets_are_one_order_and_a_gap_may_be_meant(kept: Path, tmp_path: Path) -> None:
    rows = rows_at(["2026-01-01T00:30:00+02:00", "2025-12-31T23:00:00Z", "2026-01-01T00:30:00+01:00"])
    found = of_scores(kept / "muse.yaml", scores_file(tmp_path / "s.jsonl", rows), replace(SCORES, time="at"))
    assert found.to_json()["tenants"]["acme"]["last"] == "2025-12-31T23:30:00+00:00"
    gap, columns, _ = BAD["gap"]
    assert of_scores(kept / "muse.yaml", scores_file(tmp_path / "g.jsonl", gap()), columns, gaps=True).maps


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (lambda n: [0] * n, "all 2000 labels are 0|all 2,000 labels are 0"),
        (lambda n: [2, *[0] * (n - 1)], "as 2"),
        (lambda n: ["no"] * n, "as nan"),
    ],
)
def test_labels_that_are_none_are_refused(
    kept: Path, tmp_path: Path, events: dict[str, Any], labels: Callable[[int], list[object]], says: str
) -> None:
    pq.write_table(pa.table({**events, "label": labels(EVENTS)}), tmp_path / "e.parquet")
    fitting = Fitting(FileColumns(label="label"), estimate_betas=True)
    with pytest.raises(FitError, match=says):
        fit_maps(kept / "muse.yaml", OLD, tmp_path / "e.parquet", fitting=fitting)


def test_events_of_nobody_in_particular_need_a_name(kept: Path, tmp_path: Path) -> None:
    path = scores_file(tmp_path / "s.jsonl", few())
    with pytest.raises(FitError, match=r"whose events are these\? Name one --tenant"):
        fit_maps(kept / "muse.yaml", OLD, path, fitting=Fitting(SCORES))
    with pytest.raises(ConfigError, match="there is no tenant 'nobody'"):
        fit_maps(kept / "muse.yaml", OLD, path, tenants=["nobody"], fitting=Fitting(SCORES))
    with pytest.raises(ConfigError, match="there is no predictor 'cards'"):
        fit_maps(kept / "muse.yaml", "cards", path, tenants=["acme"], fitting=Fitting(SCORES))


def test_events_without_a_score_are_counted_and_none_at_all_is_refused(
    kept: Path, tmp_path: Path, events: dict[str, Any]
) -> None:
    names = np.where(np.arange(EVENTS) % 2 == 0, "acme", "globex")
    pq.write_table(pa.table({**events, "tenant": names}), tmp_path / "e.parquet")
    found = fit_maps(kept / "muse.yaml", OLD, tmp_path / "e.parquet", tenants=["acme"], fitting=Fitting(policy="own"))
    assert (found.tenants["acme"].events, found.tenants["acme"].left_out) == (EVENTS // 2, EVENTS // 2)
    pq.write_table(pa.table({**events, "tenant": ["globex"] * EVENTS}), tmp_path / "e.parquet")
    with pytest.raises(FitError, match=r"none of 2,000 events of acme has a score; the first: (unknown|wrong)"):
        fit_maps(kept / "muse.yaml", OLD, tmp_path / "e.parquet", tenants=["acme"], fitting=Fitting(policy="own"))


def test_maps_are_saved_and_loaded_to_the_bit_in_a_format_with_a_number(fitted: Fit) -> None:
    one = QuantileMap(fitted.maps["acme"], fitted.promise)
    stored = json.loads(json.dumps(one.to_json()))
    assert (stored["format"], stored["fitted"]["format"], stored["reference"]["format"]) == (1, 1, 1)
    x = np.linspace(0, 1, 10_001)
    assert QuantileMap.from_json(stored).apply(x).tobytes() == one.apply(x).tobytes()
    stored["fitted"]["format"] = 2
    with pytest.raises(ValueError, match="format 2; this muse_stream reads formats up to 1"):
        QuantileMap.from_json(stored)
    del stored["fitted"]["format"]  # as the first were written
    assert QuantileMap.from_json(stored).fitted.fitted_for == fitted.fitted_for


def test_the_examples_of_the_document_run() -> None:
    text = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, "calibration.md", "exec"), {})  # noqa: S102
    assert len(blocks) == 3
