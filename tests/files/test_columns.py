"""Columns of a large table in parts: memory holds a part, not the file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from muse_stream.files.columns import column_chunks


def test_memory_holds_a_part_of_a_parquet_file_however_long_it_is(tmp_path: Path) -> None:
    """Arrow's own default keeps every byte that was read until the file is closed."""
    path, random = tmp_path / "long.parquet", np.random.default_rng(1)
    with pq.ParquetWriter(path, pa.schema([("score", pa.float64())])) as file:
        for _ in range(40):
            file.write_table(pa.table({"score": random.random(50_000)}))
    before, rows, most = pa.total_allocated_bytes(), 0, 0
    for columns in column_chunks(path, ["score"], 10_000):
        rows += len(columns["score"])
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 2_000_000
    assert most < path.stat().st_size / 4
