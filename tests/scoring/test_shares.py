"""Several live predictors with shares: which one answers is a function of the event's id alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.config import Role
from muse_stream.scoring import EventTable
from muse_stream.scoring.required_fields import required_fields_of
from muse_stream.scoring.sampling import place, position
from muse_stream.scoring.scores import Scored
from tests.scoring.doubles import document, loaded, part, snapshot, table

FROZEN = ["0.755017912501062", "0.082507733858365", "0.083932322137751"]
SHARES = {"one": 0.7, "two": 0.2, "meta": 0.1}


def whole(rows: int) -> EventTable:
    """A batch without rejected rows: no feature is missing where it is required."""
    return table(rows, risk=np.random.default_rng(1).random(rows))


def live_of(scored: Scored) -> dict[int, tuple[str, bytes]]:
    """Row -> which predictor answered, and with which bits; each row once."""
    found = [
        (int(row), (one.predictor, score.tobytes()))
        for one in scored.live
        for row, score in zip(one.rows, one.score, strict=True)
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_each_event_is_answered_by_one_predictor_and_shares_are_kept() -> None:
    batch = whole(6000)
    scored = snapshot(document([{"live": SHARES}])).execute(batch)
    answered = live_of(scored)
    assert sorted([*answered, *(one.row for one in scored.rejected)]) == list(range(6000))
    for name, share in SHARES.items():
        seen = sum(predictor == name for predictor, _ in answered.values()) / len(answered)
        assert seen == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(answered)))


def test_which_one_depends_on_nothing_but_the_id() -> None:
    """Not on the batch, the role, the route or the shadows."""
    batch = whole(800)
    spec = document([{"live": SHARES, "shadow": ["three", {"predictor": "two", "sample": 0.5}]}])
    answered = live_of(snapshot(spec).execute(batch))
    assert live_of(snapshot(spec, role="shadow").execute(batch)) == answered
    rows = np.random.default_rng(3).permutation(800)[:311]
    some = live_of(snapshot(spec).execute(part(batch, rows)))
    assert {int(rows[row]): answer for row, answer in some.items()} == {
        int(row): answered[int(row)] for row in rows if int(row) in answered
    }
    split = document([{"when": {"channel": ["pos", "ecom"]}, "live": SHARES}, {"live": SHARES}])
    assert live_of(snapshot(split).execute(batch)) == answered


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_routes_with_and_without_shares_stand_beside_each_other(role: Role) -> None:
    batch = whole(600)
    rules: list[dict[str, object]] = [
        {"when": {"tenant": "acme"}, "live": {"one": 0.5, "two": 0.5}, "shadow": ["meta"]},
        {"when": {"tenant": ["globex"]}, "live": "three", "shadow": ["one"]},
        {"when": {"tenant": "initech"}, "live": {"two": 1.0}},
    ]
    scored = snapshot(document(rules), role=role).execute(batch)
    of_tenant = {"acme": {"one", "two"}, "globex": {"three"}, "initech": {"two"}}
    tenants = batch.tenant.to_list()
    for row, (predictor, _) in live_of(scored).items():
        assert predictor in of_tenant[tenants[row] or ""]
    assert {one.row for one in scored.rejected if one.reason == "no-route"} == {
        row for row, name in enumerate(tenants) if name == "nobody"
    }


def test_a_predictor_with_a_share_shadows_the_other_events() -> None:
    """So live and shadow go on being compared on every event while the shares move."""
    spec = document([{"live": {"one": 0.9, "two": 0.1}, "shadow": ["one", {"predictor": "two", "sample": 0.5}]}])
    batch = whole(2000)
    scored = snapshot(spec, role="shadow").execute(batch)
    live = {one.predictor: set(one.rows.tolist()) for one in scored.live}
    shadow = {one.predictor: set(one.rows.tolist()) for one in scored.shadow}
    assert shadow["one"] == live["two"]
    assert shadow["two"] < live["one"]
    assert len(shadow["two"]) / len(live["one"]) == pytest.approx(0.5, abs=0.05)


def test_a_model_runs_on_its_share_alone() -> None:
    spec = document([{"live": {"one": 0.9, "three": 0.1}}])
    models = loaded(spec)
    scored = snapshot(spec, models).execute(whole(2000))
    (share,) = [len(one.rows) for one in scored.live if one.predictor == "three"]
    assert models["a"].rows == 2000
    assert models["c"].rows == models["b"].rows < 300
    assert share <= models["c"].rows


@settings(max_examples=50)
@given(st.floats(0.01, 0.98), st.floats(0.001, 0.5))
def test_who_met_the_second_predictor_meets_it_when_its_share_grows(share: float, more: float) -> None:
    ids = np.array([f"id-{number}" for number in range(500)], dtype=np.bytes_)
    before, after = place(ids) >= 1.0 - share, place(ids) >= 1.0 - min(share + more, 0.99)
    assert not (before & ~after).any()


def test_shares_are_independent_of_samples() -> None:
    ids = np.array([f"tx-{number:09d}" for number in range(40_000)], dtype=np.bytes_)
    both = np.stack([place(ids) * 4, position(ids) * 4]).astype(int)
    counts = np.bincount(both[0] * 4 + both[1], minlength=16)
    assert (np.square(counts - 2500) / 2500).sum() < 50  # chi-square, 15 degrees: beyond once in 100,000
    assert abs(np.corrcoef(place(ids), position(ids))[0, 1]) < 0.025


def test_the_place_is_frozen() -> None:
    """Another function would move events between predictors in the middle of a promotion, on an upgrade."""
    ids = np.array(["a", "tx-000000001", "0190f5f4-0d6d-7b1a-9f3e-2f5a6c7d8e9f"], dtype=np.bytes_)
    assert [f"{one:.15f}" for one in place(ids)] == FROZEN


def test_ids_are_asked_for_where_events_are_shared_out() -> None:
    shared = document([{"when": {"channel": "pos"}, "live": {"one": 0.5, "two": 0.5}}, {"live": "one"}])
    assert required_fields_of(shared, "card", "live").ids
    assert snapshot(shared).needs_ids
    assert not snapshot(document([{"live": {"one": 1.0}}])).needs_ids
    with pytest.raises(ValueError, match="the table has no ids"):
        batch = whole(5)
        snapshot(shared).execute(EventTable(5, batch.tenant, batch.intent, batch.features))
