"""The guided run on the synthetic stream: five tenants, three channels, models of the package.

Everything streamed lies behind the days that models were trained on, and behind the generator's drift, so the stream is
one stationary population with a weekly rhythm: windows are whole weeks, and no rate may move at all. A few records are
broken on purpose (cut short): each must come out as one dead letter and disturb nothing else.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.config import load_document
from muse_stream.demo.generator import EVENTS_PER_DAY, FEATURES, TENANTS, generate
from muse_stream.demo.past import aggregates
from muse_stream.demo.population import CHANNELS
from muse_stream.demo.scenario import Later, Plan, Scenario, Slice, StreamEvents
from muse_stream.demo.training import ASSETS, RECIPES
from muse_stream.scoring import Categorical, EventTable

THRESHOLDS = {"acme": 0.8, "globex": 0.6, "initech": 0.8, "umbrella": 0.6, "hooli": 0.5}
"""What each tenant has written into its own systems, once."""
PAST_DAYS = 14
FIRST_DAY = max(recipe.first_day + recipe.days for recipe in RECIPES)
WINDOW_DAYS = 7
SPARE = 1.06
"""A window is asked for with so many more events than it needs on average, to hold whole weeks of every tenant."""
PATIENCE_S = 90.0
BROKEN_EVERY = 10_000
CUT = 12
"""Bytes left of a broken record: its frame and a little more."""
SLICE = 2_000
LATER_EVENTS, LATER_DAYS = 64_000, 200
"""Of all tenants, about two weeks: two halves of the same weekdays."""
DEARER = 2.0
"""How many times the amounts are in the last chapter: a drift that every run calls. 1.5 is called in most runs only,
and the chapter waits in vain in the others."""

Columns = Mapping[str, NDArray[Any]]


def scenario(
    folder: Path, *, window_days: float = WINDOW_DAYS, rate: float | None = 3_600.0, patience_s: float = PATIENCE_S
) -> Scenario:
    """Make the scenario; `window_days` of events calibrate the maps, and as many are compared before and after.

    `patience_s`: how long all generations together may take to be published and to take effect.
    """
    shutil.copytree(ASSETS, folder, dirs_exist_ok=True)
    base = load_document(folder / "muse.yaml").document.model_dump(by_alias=True, exclude_none=True)
    window = round(window_days * EVENTS_PER_DAY * SPARE)
    first = window // 5
    # a generation takes effect some moments after it is published, many on a busy machine, and the stream must go on
    more = first + 3 * window if rate is None else round(rate * patience_s)
    columns = generate(first + 3 * window + more, first_day=FIRST_DAY)
    past = generate(PAST_DAYS * EVENTS_PER_DAY, first_day=FIRST_DAY - PAST_DAYS)
    whole = _stream(columns, folder / base["schemas"])
    rows = _with_broken(len(columns["label"]))
    events = _events(columns, rows)

    def slices() -> Iterator[Slice]:
        keys = np.char.encode(columns["customer_id"].astype(np.str_))
        for start in range(0, len(rows), SLICE):
            part = rows[start : start + SLICE]
            good = part >= 0
            values = [whole[row] if row >= 0 else whole[-row][:CUT] for row in part.tolist()]
            owner = np.where(good, part, -part)
            yield Slice(events.tenant[start : start + SLICE], values, keys[owner].tolist())

    return Scenario(
        title="a synthetic card stream",
        story=(
            f"{len(TENANTS)} tenants with customers of their own, {len(CHANNELS)} channels, four patterns of fraud",
            "two generations of two experts each: boosted trees and a logistic regression",
        ),
        folder=folder,
        base=base,
        events=events,
        slices=slices,
        first_aggregates=aggregates(base, folder, _table(past)),
        thresholds=THRESHOLDS,
        plan=Plan(first, window, window, window),
        rate=rate,
        later=lambda: _later(folder / base["schemas"]),
    )


def _later(schemas: Path) -> Later:
    """Return events of the first tenant, of days that nobody has streamed, after prices have risen."""
    columns = generate(LATER_EVENTS, first_day=FIRST_DAY + LATER_DAYS)
    own = columns["tenant"] == TENANTS[0].name
    dearer = {name: column[own] for name, column in columns.items()}
    dearer["amount"] = dearer["amount"] * DEARER
    keys = np.char.encode(dearer["customer_id"].astype(np.str_)).tolist()
    return Later(TENANTS[0].name, "amounts have doubled", _stream(dearer, schemas), keys)


def _stream(columns: Columns, schemas: Path) -> list[bytes]:
    schema = SchemaDirectory.open(schemas).by_file("event.avsc")
    names = {field.name for field in schema.type.fields}
    given: dict[str, Any] = {name: column for name, column in columns.items() if name in names}
    return Encoder(schema, "confluent" if schema.id is not None else "single-object").encode(
        given, len(columns["label"])
    )


def _with_broken(events: int) -> NDArray[np.int64]:
    """Return the records of the stream: the row of an event, or minus the row of which a broken copy is sent."""
    rows = np.arange(events)
    after = rows[BROKEN_EVERY // 2 :: BROKEN_EVERY]
    return np.insert(rows, after + 1, -after)


def _events(columns: Columns, rows: NDArray[np.int64]) -> StreamEvents:
    owner = np.abs(rows)
    names = tuple(tenant.name for tenant in TENANTS)
    tenant = np.select([columns["tenant"] == name for name in names], list(range(len(names)))).astype(np.int32)
    ids = columns["transaction_id"].astype(np.bytes_)[owner]
    ids[rows < 0] = b""
    return StreamEvents(
        tenants=names,
        tenant=tenant[owner],
        ids=ids,
        time_ms=columns["event_time"][owner],
        entities=(columns["customer_id"][owner], columns["terminal_id"][owner]),
    )


def _table(columns: Columns) -> EventTable:
    """Return generated events as the scoring core takes them."""
    names = tuple(tenant.name for tenant in TENANTS)
    codes = np.select([columns["tenant"] == name for name in names], list(range(len(names)))).astype(np.int32)
    channel = np.select([columns["channel"] == name for name in CHANNELS], list(range(len(CHANNELS)))).astype(np.int32)
    features = {name: columns[name] for name in FEATURES if name != "channel"}
    return EventTable(
        len(codes),
        Categorical(names, codes),
        {"channel": Categorical(CHANNELS, channel)},
        {**features, "channel": Categorical(CHANNELS, channel)},
    )
