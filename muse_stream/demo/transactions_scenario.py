"""The guided run on somebody's own transactions: a Parquet file and its mapping.

Nothing of the stream is seen in training: the old model learns from the first days, its maps from days after those; the
new one from all of the past; the maps that are compared come from the stream's own audit records. The file is read
twice, once for columns and once as events on their way to Kafka; it is never held whole.
"""

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.demo import transactions
from muse_stream.demo.mapping import HANDBOOK, Days, FileMapping, read_mapping
from muse_stream.demo.past import aggregates
from muse_stream.demo.scenario import NEW, OLD, Plan, Scenario, Slice, StreamEvents
from muse_stream.demo.screen import Screen
from muse_stream.demo.training import INPUT, OUTPUT, Expert, train_experts
from muse_stream.demo.transactions import CHANNEL, EVENT_FILE, ID, TIME, Strings, Transactions
from muse_stream.errors import MuseError
from muse_stream.scoring import Categorical, EventTable

PLACES = {"first": 0.08, "audited": 0.38, "before": 0.68}
"""Where in the stream the next generation is published, as shares of all events."""
WEIGHTS = {"trees": 3.0, "linear": 1.0}
PROMISE = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}
"""The reference of Feedzai's study: alert rates by threshold."""
THRESHOLD = 0.8
MOST_TENANTS = 50


def scenario(path: Path, mapping_file: Path | None, folder: Path, screen: Screen) -> Scenario:
    """Read, train, and say what is to be streamed. Raises ConfigError for the mapping, MuseError for the file."""
    mapping = read_mapping(mapping_file or HANDBOOK)
    with screen.live():
        rows = transactions.read(path, mapping, lambda done: screen.reading(f"{done:,} rows read", 0.0))
    names, tenant = _tenants(mapping, rows.tenant)
    first = rows.first_streamed(mapping.training.stream)
    if first in (0, len(rows.ids)):
        raise MuseError(f"{path}: day {mapping.training.stream}, the first to be streamed, is not inside the file")
    screen.line(
        f"{len(rows.ids):,} rows of {int(rows.day[-1]) + 1} days; training two models on the first "
        f"{mapping.training.stream} days",
        style="dim",
    )
    base = _document(mapping, names, _experts(mapping, rows, folder))
    schemas = folder / "schemas"
    schemas.mkdir(parents=True)
    (schemas / EVENT_FILE).write_text(transactions.event_schema(mapping).text, encoding="utf-8")
    streamed = slice(first, None)
    count = len(rows.ids) - first
    return Scenario(
        title=path.name,
        story=(
            f"{count:,} transactions from day {mapping.training.stream} on, {len(names)} tenants by "
            f"{mapping.tenant_column}",
            _trained(mapping),
        ),
        folder=folder,
        base=base,
        events=StreamEvents(
            names,
            tenant[streamed],
            rows.ids[streamed],
            rows.time_ms[streamed],
            tuple(one.codes[streamed].astype(np.int64) for one in rows.entities),
        ),
        slices=partial(_slices, path, mapping, first, tenant, rows.key),
        first_aggregates=aggregates(base, folder, _table(mapping, names, tenant, rows)),
        thresholds={name: mapping.thresholds.get(name, THRESHOLD) for name in names},
        plan=Plan(**{name: round(share * count) for name, share in PLACES.items()}, from_start=True),
        rate=mapping.rate,
        drifts=mapping.drifts,
    )


def _trained(mapping: FileMapping) -> str:
    how = mapping.training
    return (
        f"old model: days {how.old[0]}-{how.old[1]}, new model: days {how.new[0]}-{how.new[1]}; each of "
        f"{how.trees} trees x {how.leaves} leaves and a logistic regression, {len(mapping.features)} features"
    )


def _tenants(mapping: FileMapping, column: Strings) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Return the tenants, and whose each row is."""
    if (column.codes < 0).any():
        raise MuseError(f"rows without {mapping.tenant_column} have no tenant")
    if mapping.names:
        # a stable hash of the text: the same terminal is the same tenant's in every run
        owner = [zlib.crc32(value.encode()) % len(mapping.names) for value in column.values]
        return mapping.names, np.array(owner, dtype=np.int32)[column.codes]
    if len(column.values) > MOST_TENANTS:
        raise MuseError(
            f"{mapping.tenant_column} has {len(column.values):,} values, more than {MOST_TENANTS} tenants: "
            "hash it into a few with `tenants: {by: ..., names: [...]}`"
        )
    return column.values, column.codes


def _experts(mapping: FileMapping, rows: Transactions, folder: Path) -> dict[str, Expert]:
    """Train both models, two experts each, and write their files."""
    how = mapping.training
    experts: dict[str, Expert] = {}
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for number, days, keep in ((1, how.old, how.keep_old), (2, how.new, how.keep_new)):
        inside = _inside(rows, days)
        made = train_experts(
            {name: column[inside] for name, column in rows.past.items()},
            rows.label[inside],
            seed=number,
            undersample=keep,
            trees=how.trees,
            leaves=how.leaves,
        )
        for kind, expert in made.items():
            experts[f"{kind}-g{number}"] = expert
            (folder / "models" / f"{kind}-g{number}.onnx").write_bytes(expert.onnx)
    return experts


def _inside(rows: Transactions, days: Days) -> NDArray[np.bool_]:
    """Return which rows before the stream lie within some days, both ends included."""
    day = rows.day[: len(rows.label)]
    return np.asarray((day >= days[0]) & (day <= days[1]))


def _document(mapping: FileMapping, names: tuple[str, ...], experts: dict[str, Expert]) -> dict[str, Any]:
    """Return the base configuration."""
    event: dict[str, Any] = {"schema": EVENT_FILE, "id": ID, "time": TIME}
    if mapping.channel:
        event["intent"] = {CHANNEL: {"field": CHANNEL}}
    features = list(transactions.feature_fields(mapping))
    return {
        "version": 1,
        "schemas": "schemas",
        "models": {
            name: {
                "uri": f"models/{name}.onnx",
                "sha256": expert.sha256,
                "inputs": {INPUT: features},
                "output": {"name": OUTPUT, "positive": 1},
            }
            for name, expert in experts.items()
        },
        "references": {"standard": {"alert_rates": PROMISE}},
        "predictors": {
            predictor: {
                "version": number,
                "experts": [
                    {"model": f"{kind}-g{number}", "beta": experts[f"{kind}-g{number}"].beta, "weight": weight}
                    for kind, weight in WEIGHTS.items()
                ],
                "aggregate": "mean",
            }
            for number, predictor in ((1, OLD), (2, NEW))
        },
        "events": {"transaction": event},
        "routes": [{"live": OLD}],
        "tenants": {name: {"event": "transaction"} for name in names},
    }


def _table(mapping: FileMapping, names: tuple[str, ...], tenant: NDArray[np.int32], rows: Transactions) -> EventTable:
    """Return the events that the old model's first maps are fitted to."""
    inside = np.flatnonzero(_inside(rows, mapping.training.past))
    intent: dict[str, Categorical] = {}
    if rows.channel is not None:
        intent[CHANNEL] = Categorical(rows.channel.values, rows.channel.codes[inside])
    features = {name: column[inside] for name, column in rows.past.items()}
    return EventTable(len(inside), Categorical(names, tenant[inside]), intent, features)


def _slices(path: Path, mapping: FileMapping, first: int, tenant: NDArray[np.int32], key: Strings) -> Iterator[Slice]:
    keys = [value.encode() for value in key.values]
    row = first
    for values in transactions.framed(path, mapping, first):
        part = slice(row, row + len(values))
        yield Slice(tenant[part], values, [keys[code] for code in key.codes[part].tolist()])
        row += len(values)
