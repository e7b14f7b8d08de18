"""`make backtest`: policies for quantile maps on the Handbook's transactions, with a model retrained on the way.

Takes the transactions of the Fraud Detection Handbook (MUSE_BACKTEST_EVENTS, or `../shared/data` beside the project;
they are no part of it) and a folder for what is made of them. Two generations of experts are trained on undersampled
negatives; the second goes into service with the second of two periods of 35 days. `muse-stream backtest` walks over
the rest. What the figures must be (TARGETS) decides the exit code.

    days 5-32          first experts are trained       (10 % of the negatives)
    days 24-51         second experts are trained      (5 %)
    days 52-121        the walk: 35 days with the first experts, which maps are fitted to; 35 with the second, judged

So no map is fitted to events that its expert was trained on. Maps are judged on a predictor of one expert, `trees`;
recall on the `ensemble` of two kinds of experts.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from ruamel.yaml import YAML

from muse_stream import environment
from muse_stream.calibration import HINDSIGHT
from muse_stream.commands.backtest import backtest
from muse_stream.commands.backtest_plan import Question
from muse_stream.commands.backtest_report import Backtest
from muse_stream.demo.training import Expert, train_experts
from muse_stream.errors import MuseError
from perf.workload import HANDBOOK, HANDBOOK_FEATURES

FIRST, SECOND, HISTORY, RETRAINED = (5, 32), (24, 51), 52, 87
PERIOD_DAYS, DAY_MS = 35, 86_400_000
KEEP = {"first": 0.10, "second": 0.05}
PREDICTORS = {"trees": {"trees": 1.0}, "ensemble": {"trees": 3.0, "linear": 1.0}}
COMMON, RARE = (0.70, 0.35, 0.10, 0.05), (0.02, 0.01, 0.005, 0.001)
ALERT_RATES = dict(zip((0.2, 0.5, 0.6, 0.8, 0.9, 0.95, 0.97, 0.99), (*COMMON, *RARE), strict=True))
TARGETS = {"common": 0.01, "rare": 0.035, "tenfold": 10.0}


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What is walked over and with what."""

    config: Path
    events: Path
    retrained_ms: int


def main() -> int:
    """Train, walk, judge."""
    parser = argparse.ArgumentParser(prog="make backtest", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=Path, help="the Handbook's transactions as one Parquet file, sorted by time")
    parser.add_argument("--tenants", type=int, default=1, help="terminals are hashed into so many tenants (default 1)")
    parser.add_argument("--json", action="store_true", help="everything that was found, as JSON")
    asked = parser.parse_args()
    environment.check()
    path = asked.events or Path(environment.read("MUSE_BACKTEST_EVENTS") or HANDBOOK)
    if not path.is_file():
        print(
            f"make backtest: no file {path}. It takes the transactions of the Fraud Detection Handbook "
            "(github.com/Fraud-Detection-Handbook/simulated-data-transformed) as one Parquet file sorted by time: "
            'MUSE_BACKTEST_EVENTS=FILE make backtest, or make backtest ARGS="--events FILE"',
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        made = make(path, Path(folder), asked.tenants)
        found = {kind: walk(made, kind) for kind in PREDICTORS}
    figures = judged(found["trees"], found["ensemble"])
    walks = {kind: one.to_json() for kind, one in found.items()}
    print(json.dumps({"figures": figures, **walks}, indent=2) if asked.json else shown(figures))
    return int(not all(one["kept"] for one in figures))


def make(path: Path, folder: Path, tenants: int) -> Made:
    """Train the experts, and write configuration and labelled history into a folder."""
    table = pq.read_table(path, columns=["TX_DATETIME", "TERMINAL_ID", "TX_FRAUD", *HANDBOOK_FEATURES])
    times = table["TX_DATETIME"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    midnight = int(times[0]) // DAY_MS * DAY_MS
    day = (times - midnight) // DAY_MS
    features = {name: table[name].to_numpy().astype(np.float64) for name in HANDBOOK_FEATURES}
    label = table["TX_FRAUD"].to_numpy()
    experts: dict[str, Expert] = {}
    for number, (name, days) in enumerate((("first", FIRST), ("second", SECOND)), start=1):
        rows = (day >= days[0]) & (day <= days[1])
        some = {feature: column[rows] for feature, column in features.items()}
        made = train_experts(some, label[rows], seed=number, undersample=KEEP[name])
        experts |= {f"{kind}-{name}": expert for kind, expert in made.items()}
    names = [f"tenant-{number + 1}" for number in range(tenants)]
    owner = _owners(table["TERMINAL_ID"].to_numpy(), names)
    kept = day >= HISTORY
    whole = table.append_column("tenant", owner).filter(pa.array(kept))
    pq.write_table(whole, folder / "history.parquet")
    return Made(configure(folder, experts, names), folder / "history.parquet", midnight + RETRAINED * DAY_MS)


def _owners(terminal: NDArray[Any], names: Sequence[str]) -> pa.Array:
    distinct, where = np.unique(terminal, return_inverse=True)
    codes = np.array([zlib.crc32(str(one).encode()) % len(names) for one in distinct.tolist()], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes[where.reshape(-1)]), pa.array(names)).dictionary_decode()


def configure(folder: Path, experts: Mapping[str, Expert], tenants: Sequence[str]) -> Path:
    """Write a configuration with a predictor of each generation of experts."""
    (folder / "schemas").mkdir()
    fields = [{"name": "id", "type": "string"}, *({"name": name, "type": "double"} for name in HANDBOOK_FEATURES)]
    schema = {"type": "record", "name": "Event", "fields": fields}
    (folder / "schemas" / "event.avsc").write_text(json.dumps(schema), encoding="utf-8")
    for name, expert in experts.items():
        (folder / f"{name}.onnx").write_bytes(expert.onnx)
    document = {
        "version": 1,
        "models": {
            name: {
                "uri": f"{name}.onnx",
                "sha256": expert.sha256,
                "inputs": {"features": list(expert.features)},
                "output": {"name": "probabilities", "positive": 1},
            }
            for name, expert in experts.items()
        },
        "references": {"standard": {"alert_rates": ALERT_RATES}},
        "predictors": {
            f"{kind}-{generation}": {
                "version": number,
                "experts": [
                    {"model": f"{one}-{generation}", "beta": experts[f"{one}-{generation}"].beta, "weight": weight}
                    for one, weight in weights.items()
                ],
            }
            for kind, weights in PREDICTORS.items()
            for number, generation in enumerate(("first", "second"), start=1)
        },
        "events": {"event": {"schema": "event.avsc", "id": "id"}},
        "routes": [{"live": "trees-first"}],
        "tenants": {name: {"event": "event"} for name in tenants},
    }
    with (folder / "muse.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)
    return folder / "muse.yaml"


def walk(made: Made, kind: str) -> Backtest:
    """Run the backtest with both generations of a predictor."""
    question = Question(
        label="TX_FRAUD",
        time="TX_DATETIME",
        tenant="tenant",
        predictors=[(f"{kind}-first", 0), (f"{kind}-second", made.retrained_ms)],
        period_ms=PERIOD_DAYS * DAY_MS,
        reference="standard",
    )
    return backtest(made.config, made.events, question)


Figure = dict[str, Any]


def judged(found: Backtest, ensemble: Backtest) -> list[Figure]:
    """Return what was found beside what it must be."""
    figures: list[Figure] = []

    def add(what: str, value: float, target: str, kept: bool, noise: float | None = None) -> None:
        figures.append({"what": what, "value": value, "target": target, "kept": kept, "noise": noise})

    for policy in (*found.policies, HINDSIGHT):
        for name, rates in (("common", COMMON), ("rare", RARE)):
            value, noise = _median(found, policy, rates)
            limit = TARGETS[name]
            what = f"{policy}: median error at {'/'.join(f'{100 * rate:g}' for rate in rates)} %"
            target = f"at most {100 * limit:g} %" if policy == "last" else ""
            add(what, value, target, policy != "last" or value <= limit, noise)
    for expert in (name.removesuffix(", raw") for name in ensemble.experts if name.endswith(", raw")):
        both = (ensemble.experts[f"{expert}, {kind}"]["expected_calibration_error"] for kind in ("raw", "corrected"))
        raw, corrected = both
        add(f"{expert}: calibration error as it answers", raw, "", True)
        add(
            f"{expert}: calibration error corrected",
            corrected,
            "at most a tenth",
            raw >= TARGETS["tenfold"] * corrected,
        )
    best = max(one["recall_at_1_false_positives"] for name, one in ensemble.experts.items() if name.endswith(", raw"))
    whole = ensemble.policies["last"]["overall"]["recall_at_1_false_positives"]
    add("recall at 1 % false positives, the best expert", best, "", True)
    add("recall at 1 % false positives, the ensemble, both levels", whole, "at least the best", whole >= best)
    return figures


def _median(found: Backtest, policy: str, rates: Sequence[float]) -> tuple[float, float]:
    """Return the median error over tenants, periods and thresholds, and what chance alone would give."""
    periods = (found.hindsight if policy == HINDSIGHT else found.policies[policy])["periods"]
    cells = [one for cell in periods for one in cell["alert_rates"] if one["promised"] in rates]
    return float(np.median([one["error"] for one in cells])), float(np.median([one["noise"] for one in cells]))


def shown(figures: Sequence[Figure]) -> str:
    """Return the figures as lines."""
    lines = []
    for one in figures:
        value = f"{100 * one['value']:.2f} %"
        noise = f"  (chance alone {100 * one['noise']:.2f} %)" if one["noise"] is not None else ""
        verdict = ("" if one["kept"] else "  MISSED") if one["target"] else ""
        lines.append(f"{one['what']:<70} {value:>9}  {one['target']}{noise}{verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MuseError as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
