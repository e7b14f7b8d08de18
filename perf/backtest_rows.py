"""How much memory and time does `backtest` take for many rows?

    python -m perf.backtest_rows [--rows 100000000] [--tenants 60] [--folder /tmp]

Writes a Parquet file of labelled scores in order of time (removed at the end), runs `muse-stream
backtest --score` on it in a process of its own, and prints its largest resident memory and its CPU time.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

EXAMPLE = Path(__file__).parents[1] / "deploy" / "config"
START_MS, DAY_MS = 1_767_225_600_000, 86_400_000
DAYS = 70
ROWS = 1_000_000
"""At once."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--tenants", type=int, default=60)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muse-backtest-", dir=asked.folder) as place:
        names = [f"tenant-{number}" for number in range(asked.tenants)]
        config = _config(Path(place), names)
        file = Path(place) / "history.parquet"
        began = time.monotonic()
        _write(file, asked.rows, names)
        size, seconds = file.stat().st_size / 1e9, time.monotonic() - began
        print(f"{asked.rows:,} rows of {asked.tenants} tenants, {size:.2f} GB, written in {seconds:.0f} s", flush=True)
        words = ["backtest", str(file), "--config", str(config), "--score", "score", "--label", "label"]
        words += ["--time", "time", "--tenant", "tenant", "--reference", "standard", "--period", "7d", "--json"]
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "muse_stream", *words], stdout=subprocess.DEVNULL, check=False)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"exit code {done.returncode}; {used.ru_maxrss / 1e6:.2f} GB resident at most; "
        f"{used.ru_utime + used.ru_stime:.0f} s of CPU, {time.monotonic() - began:.0f} s"
    )
    return done.returncode


def _config(folder: Path, tenants: list[str]) -> Path:
    """Write the example's configuration with other tenants."""
    shutil.copytree(EXAMPLE, folder / "config")
    path = folder / "config" / "muse.yaml"
    yaml = YAML(typ="safe")
    document = yaml.load(path)
    document["tenants"] = {name: {"event": "card-event"} for name in tenants}
    document["topics"] = {"scores": "muse.scores.{lane}", "dlq": "muse.dlq.{lane}", "audit": "muse.audit.{lane}"}
    cards = document["predictors"]["cards"]
    cards["quantile_map"] = {"reference": "standard", "default": "next-pooled"}
    document["predictors"] = {"cards": {key: value for key, value in cards.items() if key != "quantile_map"}}
    document["routes"] = [{"live": "cards"}]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return path


def _write(path: Path, rows: int, tenants: list[str]) -> None:
    """Write labelled scores: each tenant's own distribution, and another one in each period."""
    random = np.random.default_rng(0)
    names = pa.array(tenants)
    odds = random.normal(-3.0, 0.5, len(tenants))
    schema = pa.schema(
        [
            ("time", pa.timestamp("ms", "UTC")),
            ("tenant", pa.dictionary(pa.int32(), pa.string())),
            ("label", pa.int8()),
            ("score", pa.float64()),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["tenant"]) as file:
        for first in range(0, rows, ROWS):
            count = min(ROWS, rows - first)
            moments = START_MS + (first + np.arange(count)) * (DAYS * DAY_MS) // rows
            tenant = random.integers(0, len(tenants), count).astype(np.int32)
            label = random.random(count) < 0.01
            logit = random.normal(odds[tenant] + 0.02 * first * 10 / rows, 1.0) + 2.0 * label
            columns = [
                pa.array(moments, pa.timestamp("ms", "UTC")),
                pa.DictionaryArray.from_arrays(pa.array(tenant), names),
                pa.array(label.astype(np.int8)),
                pa.array(1.0 / (1.0 + np.exp(-logit))),
            ]
            file.write_batch(pa.record_batch(columns, schema=schema))


if __name__ == "__main__":
    sys.exit(main())
