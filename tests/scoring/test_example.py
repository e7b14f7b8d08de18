"""The shipped example on its real ONNX models: every graph form, both roles, single rows and batches, the same bits."""

from pathlib import Path

import numpy as np
import pytest

from muse_stream.config import Role, load_document
from muse_stream.models import load_model
from muse_stream.scoring import Categorical, EventTable, Model
from muse_stream.scoring.snapshot import Snapshot, compile_snapshot, models_needed

CONFIG = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
ROWS = 257


def compiled(role: Role) -> Snapshot:
    loaded = load_document(CONFIG)
    limit = loaded.document.limits.model_bytes
    models: dict[str, Model] = {
        name: load_model(loaded.root / loaded.document.models[name].uri, loaded.document.models[name], max_bytes=limit)
        for name in models_needed(loaded.document, role)
    }
    return compile_snapshot(loaded.document, models, loaded.fitted.maps, number=1, role=role)


def batch(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> EventTable:
    """Return some of 257 random events."""
    rng = np.random.default_rng(11)

    def text(*values: str, nulls: bool = False) -> Categorical:
        return Categorical(values, rng.integers(-int(nulls), len(values), ROWS).astype(np.int32)[rows])

    channel = text("pos", "ecom", "atm", "fax")  # fax is another string; a null would be NaN to these linear models
    risk = np.where(rng.random(ROWS) < 0.2, np.nan, rng.random(ROWS))
    return EventTable(
        len(rows),
        Categorical(("acme", "globex", "initech"), rng.integers(0, 3, ROWS).astype(np.int32)[rows]),
        {
            "channel": channel,
            "region": text("br", "eu", nulls=True),
            "use_case": Categorical.constant("fraud", len(rows)),
        },
        {
            "amount": rng.gamma(2.0, 30.0, ROWS)[rows],
            "terminal.risk_7d": risk[rows],
            "channel": channel,
            "cross_border": (rng.random(ROWS) < 0.3)[rows],
            "customer.tx_per_day": rng.gamma(1.0, 2.0, ROWS)[rows],
            "customer.age": rng.integers(18, 90, ROWS)[rows],
        },
        np.array([f"tx-{row}" for row in rows], dtype=np.bytes_),
    )


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_the_example_gives_the_same_bits_alone_and_in_company(role: Role) -> None:
    made, everything = compiled(role), np.arange(ROWS)
    whole = made.execute(batch(everything))
    assert whole.rejected == ()
    assert {live.predictor for live in whole.live} == {"cards", "cautious"}
    bits = {int(row): live.score[place].tobytes() for live in whole.live for place, row in enumerate(live.rows)}
    assert len(bits) == ROWS
    for rows in (everything[:1], everything[100:103], everything[::5], everything[200:]):
        part = made.execute(batch(rows))
        assert {
            int(rows[row]): live.score[place].tobytes() for live in part.live for place, row in enumerate(live.rows)
        } == {int(row): bits[int(row)] for row in rows}
    assert {one.predictor for one in whole.shadow} == (
        {"blended", "cards-next", "unmapped"} if role == "shadow" else set()
    )


def test_live_and_shadow_role_agree_to_the_bit() -> None:
    everything = batch(np.arange(ROWS))
    for one, other in zip(
        compiled("live").execute(everything).live, compiled("shadow").execute(everything).live, strict=True
    ):
        assert one.predictor == other.predictor
        assert one.score.tobytes() == other.score.tobytes()
