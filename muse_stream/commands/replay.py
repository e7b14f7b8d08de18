"""Score a file without a broker, by the code that scores the stream.

A configuration, a tenant and a file of its events give a Parquet or Avro file of score (or audit) records, and what
became dead letters. The same bytes go through the same scorer as in a worker, in batches; the file's rows stand for the
offsets of one partition, so the same event under the same generation gets the same score, to the bit.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from muse_stream.avro import Decoder, Fields, decode_records
from muse_stream.commands.configuration import Configuration, open_configuration
from muse_stream.commands.produce import Sending, event_file
from muse_stream.config import Role
from muse_stream.errors import MuseError, Rejected
from muse_stream.files import ResultFile
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, output_schemas
from muse_stream.runtime.batch_scorer import build_scorer
from muse_stream.worker import Batch, DeadLetter, Header

BATCH = 10_000
FIRST_DEAD = 100
"""Dead letters that are described one by one in the answer."""


@dataclass(slots=True)
class Replayed:
    """What became of the file."""

    events: int = 0
    answers: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    """Reason -> events."""
    letters: list[tuple[int, str, str]] = field(default_factory=list)
    """The first dead letters: row in the file from 1 (of JSON lines the line), reason, message."""
    seconds: float = 0.0


def replay(
    configuration: Configuration | str | Path,
    tenant: str,
    path: str | Path,
    output: str | Path,
    *,
    role: Role = "live",
    sending: Sending | None = None,
    progress: Callable[[int], object] = lambda _done: None,
) -> Replayed:
    """Score the events of `path` as those of `tenant` and write the answers to `output` (.parquet or .avro).

    `configuration` is a YAML file, or a store's folder or URL: its current generation. `role="shadow"` writes audit
    records instead of scores. `progress` gets the number of events done. Raises MuseError for the files, ConfigError
    for the configuration. An output that was not finished does not appear.
    """
    if not isinstance(configuration, Configuration):
        configuration = open_configuration(configuration)
    sending, path, output = sending or Sending(), Path(path), Path(output)
    file = event_file(configuration, tenant, path, sending)
    if output.exists() and output.samefile(path):
        raise MuseError(f"{output}: the answers would take the place of the events; give another --output")
    document = configuration.loaded.document
    scorer = build_scorer(configuration.loaded, configuration.number, role, document.tenants[tenant].lane)
    topic = document.tenant_topics(tenant).events
    headers: list[Header] = [(name, value.encode()) for name, value in sending.headers.items()]
    rows = _Rows(role)
    done = Replayed()
    started = time.monotonic()
    with ResultFile(output, output_schemas().by_file(OUTPUT_SCHEMA[role])) as result:
        for events in file.events(BATCH, first=sending.first, limit=sending.limit):
            values = events.values
            answer = scorer.score(_batch(topic, values, done.events, headers), 0)
            if answer.values:
                result.write(rows.columns(answer.values), len(answer.values))
            _count(done, events.rows, len(answer.values), answer.dead)
            progress(done.events)
    done.seconds = time.monotonic() - started
    return done


class _Rows:
    """Turns published records back into columns: what is written is what a reader of the topic would read."""

    def __init__(self, role: Role) -> None:
        self._schemas = output_schemas()
        self._schema = self._schemas.by_file(OUTPUT_SCHEMA[role])
        self._names = [one.name for one in self._schema.type.fields]
        plain = [name for name in self._names if name not in ("event_id", "tenant", "event_time")]
        # audit records hold lists and maps, which make no columns
        fields = Fields("event_id", "event_time", "tenant", tuple(plain))
        self._decoder = Decoder(self._schemas, self._schema, fields) if role == "live" else None

    def columns(self, values: Sequence[bytes]) -> dict[str, Any]:
        if self._decoder is None:
            records = decode_records(self._schemas, values)
            refused = next((one for one in records if isinstance(one, Rejected)), None)
            if refused is not None:
                raise MuseError(f"an answer cannot be read back: {refused.message}")
            kept = [one for one in records if not isinstance(one, Rejected)]
            return {name: [_milliseconds(one[name]) for one in kept] for name in self._names}
        decoded = self._decoder.decode(values)
        if len(decoded.rows) != len(values):
            raise MuseError(f"an answer cannot be read back: {decoded.rejected[0].message}")
        return {**decoded.columns, "event_id": decoded.ids, "tenant": decoded.tenants, "event_time": decoded.times}


def _milliseconds(value: Any) -> Any:
    """Return a time as the schema stores it; anything else as it is."""
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def _batch(topic: str, values: list[bytes], first: int, headers: list[Header]) -> Batch:
    count = len(values)
    now = time.time_ns() // 1_000_000
    return Batch(
        [topic] * count,
        [0] * count,
        list(range(first, first + count)),
        [None] * count,
        list(values),
        lambda: [now] * count,
        lambda: [headers] * count,
    )


def _count(done: Replayed, rows: Sequence[int], answers: int, dead: Sequence[DeadLetter]) -> None:
    for letter in islice(dead, FIRST_DEAD - len(done.letters)):
        done.letters.append((rows[letter.rejected.row], letter.rejected.reason, letter.rejected.message))
    for letter in dead:
        reason = str(letter.rejected.reason)
        done.dead[reason] = done.dead.get(reason, 0) + 1
    done.events += len(rows)
    done.answers += answers
