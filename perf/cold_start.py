"""How wrong a new tenant's first maps are: `python -m perf.cold_start FILE.parquet [--blur B] [--starts 60,70,80]`.

FILE has the Fraud Detection Handbook's transactions. A model is trained on days 0 to 29; 20 tenants are made of
customers by their mean spending (blurred by a normal deviation of B). From each starting day, each tenant's first n
events are its own, the other tenants' events of the 15 days before are the pool, and all its later events are the
judge. Printed is the median relative error of the alert rates 10, 5, 2, 1 and 0.5 %. Seeds are fixed. Decision 0025.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from muse_stream.calibration import FittedMap, Floats, Pool, QuantileMap, Reference, posterior_correction
from muse_stream.config import ModelSpec
from muse_stream.demo.training import INPUT, OUTPUT, train_experts
from muse_stream.models import load_model

SIZES = (100, 300, 1_000, 3_000, 10_000)
RATES = {0.6: 0.10, 0.7: 0.05, 0.75: 0.02, 0.8: 0.01, 0.9: 0.005}
PROMISE = Reference.from_alert_rates({0.2: 0.7, 0.5: 0.35, **RATES, 0.95: 0.001})
TENANTS, TRAINED_DAYS, POOL_DAYS = 20, 30, 15
BLOCK = 100_000
Codes = NDArray[np.int64]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m perf.cold_start", description="First maps of new tenants.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--blur", type=float, default=0.0)
    parser.add_argument("--starts", default="60,70,80")
    asked = parser.parse_args()
    scores, day, tenant = _stream(asked.file, asked.blur)
    errors: dict[tuple[str, int], list[list[float]]] = {}
    for start in map(int, asked.starts.split(",")):
        for one in range(TENANTS):
            _cold_start(scores, day, tenant, one, start, errors)
    names = list(dict.fromkeys(name for name, _ in errors))
    print(f"{'events seen':12}" + "".join(f"{size:>9,}" for size in SIZES))
    for name in names:
        medians = (100 * float(np.median(np.array(errors[name, size]))) for size in SIZES)
        print(f"{name:12}" + "".join(f"{median:8.1f}%" for median in medians))
    return 0


def _stream(file: Path, blur: float) -> tuple[Floats, Codes, Codes]:
    """Return score, day and tenant of each transaction."""
    table = pq.read_table(file)
    prefixes = ("TX_AMOUNT", "TX_DURING", "CUSTOMER_ID_", "TERMINAL_ID_")
    columns = {
        name: table[name].to_numpy().astype(np.float64) for name in table.column_names if name.startswith(prefixes)
    }
    day = table["TX_TIME_DAYS"].to_numpy().astype(np.int64)
    day = day - day.min()
    past = day < TRAINED_DAYS
    label = table["TX_FRAUD"].to_numpy()
    experts = train_experts({name: one[past] for name, one in columns.items()}, label[past], seed=1, undersample=0.1)
    rows = np.column_stack(list(columns.values())).astype(np.float32)
    answers = {}
    for kind, expert in experts.items():
        output = {"name": OUTPUT, "positive": 1}
        spec = {"uri": "-", "sha256": expert.sha256, "inputs": {INPUT: list(expert.features)}, "output": output}
        model = load_model(expert.onnx, ModelSpec.model_validate(spec), max_bytes=len(expert.onnx))
        raw = np.concatenate([model.predict([rows[at : at + BLOCK]]) for at in range(0, len(rows), BLOCK)])
        answers[kind] = posterior_correction(raw, expert.beta)
    customer = table["CUSTOMER_ID"].to_numpy().astype(np.int64)
    amount = columns["TX_AMOUNT"]
    spent = np.bincount(customer[past], amount[past], minlength=customer.max() + 1)
    mean = spent / np.maximum(np.bincount(customer[past], minlength=customer.max() + 1), 1)
    rank = np.argsort(np.argsort(mean + np.random.default_rng(0).normal(0.0, blur, len(mean))))
    tenant: Codes = (rank * TENANTS // len(rank))[customer]
    return np.asarray((3.0 * answers["trees"] + answers["linear"]) / 4.0), day, tenant


def _cold_start(
    scores: Floats, day: Codes, tenant: Codes, one: int, start: int, errors: dict[tuple[str, int], list[list[float]]]
) -> None:
    rows = np.flatnonzero((tenant == one) & (day >= start))
    for size in SIZES:
        own, later, today = scores[rows[:size]], scores[rows[size:]], day[rows[size]]
        window = (day >= today - POOL_DAYS) & (day < today)
        pool = Pool.fit([scores[window & (tenant == other)] for other in range(TENANTS) if other != one])
        maps = {
            "own": FittedMap.fit(own, PROMISE),
            "pooled": pool.pooled(PROMISE),
            "shrinkage": pool.shrunken(own, PROMISE),
        }
        for name, fitted in maps.items():
            served = QuantileMap(fitted, PROMISE).apply(later)
            wrong = [abs(float(np.mean(served >= at)) / rate - 1.0) for at, rate in RATES.items()]
            errors.setdefault((name, size), []).append(wrong)


if __name__ == "__main__":
    sys.exit(main())
