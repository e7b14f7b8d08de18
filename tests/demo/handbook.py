"""A small file under the Handbook's column names: a part of the real one if it is there, else the synthetic stream."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muse_stream.demo.generator import EVENTS_PER_DAY, generate
from muse_stream.demo.mapping import HANDBOOK

REAL = Path(__file__).parents[3] / "shared/data/handbook_transactions.parquet"
SOURCE = "handbook" if REAL.exists() else "synthetic"
DAYS = 42
RENAMED = {
    "transaction_id": "TRANSACTION_ID",
    "customer_id": "CUSTOMER_ID",
    "terminal_id": "TERMINAL_ID",
    "amount": "TX_AMOUNT",
    "label": "TX_FRAUD",
    "weekend": "TX_DURING_WEEKEND",
    "night": "TX_DURING_NIGHT",
}


def small(path: Path) -> Path:
    """Write some 40,000 rows of the first 42 days."""
    pq.write_table(_of_the_handbook() if SOURCE == "handbook" else _of_the_generator(), path)
    return path


def mapping(path: Path) -> Path:
    """Write the Handbook's mapping: two tenants, small models, a rate that leaves a busy machine time to promote."""
    text = HANDBOOK.read_text(encoding="utf-8")
    for old, new in (
        ("names: [alpha, beta, gamma, delta, epsilon, zeta]", "names: [alpha, beta]"),
        ("{alpha: 0.8, beta: 0.8, gamma: 0.6, delta: 0.6, epsilon: 0.5, zeta: 0.5}", "{beta: 0.6}"),
        ("trees: 100", "trees: 20"),
        ("leaves: 31", "leaves: 7"),
        ("rate: 10000", "rate: 250"),
        ("drifts: false", "drifts: true"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


def _of_the_handbook() -> pa.Table:
    table = pq.read_table(REAL, filters=[("TX_TIME_DAYS", "<", DAYS)])
    return table.filter(pc.equal(pc.bit_wise_and(table["CUSTOMER_ID"].cast(pa.int64()), 7), 0))


def _of_the_generator() -> pa.Table:
    columns = generate(DAYS * EVENTS_PER_DAY, first_day=63)
    keep = np.flatnonzero(columns["customer_id"] % 5 == 0)
    names = {
        f"{who}_{what}_{days}d": f"{who.upper()}_ID_{what.upper()}_{days}DAY_WINDOW"
        for who, what in (
            ("customer", "nb_tx"),
            ("customer", "avg_amount"),
            ("terminal", "nb_tx"),
            ("terminal", "risk"),
        )
        for days in (1, 7, 30)
    }
    given = {new: columns[old][keep] for old, new in (RENAMED | names).items()}
    times = pa.array(columns["event_time"][keep]).cast(pa.timestamp("ms"))
    return pa.table({**{name: pa.array(values) for name, values in given.items()}, "TX_DATETIME": times})
