"""A generation is tried before it serves: made-up events of every format go the whole way through it.

A ConfigError names each event format or predictor that fails, and why. What no event could survive is refused here,
before a worker meets it: a decoder that raises, a model that cannot take the inputs, an output schema without a field.
What only follows from made-up values is not: a record is no event without its id, a required feature may be missing, no
route may match. Nothing is counted, logged or sent.

    per format     decode records of every schema that its events may be written with, every optional part left out once
    per predictor  score them for each tenant that routes can lead to it
    per form       encode some answers: those of predictors with as many experts look alike
    per lane       one event of every format in one batch, by the whole path of a worker
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.avro import Demands, SchemaDirectory, made_up
from muse_stream.config import Document, Role
from muse_stream.errors import ConfigError, Problem, Reason, SchemaError
from muse_stream.runtime.event_reader import EventReader, Events, Format
from muse_stream.runtime.record_writer import Writer
from muse_stream.scoring import MESSAGE_LENGTH, PredictorScores, Rehearsed, Snapshot, described, predictors_of, without
from muse_stream.worker import Batch, Header

ENCODED = 3
"""Answers of each predictor that are encoded: what can go wrong there does so with the first."""
UNREADABLE = (Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA)


class Candidate(Struct, frozen=True, eq=False):
    """A compiled generation in one role and lane, before it serves."""

    document: Document
    role: Role
    schemas: SchemaDirectory
    snapshot: Snapshot
    reader: EventReader
    writer: Writer


def warm_up(candidate: Candidate, score: Callable[[Batch], object]) -> None:
    """Try a generation; `score` is the whole path of its scorer. Raises ConfigError with every problem found."""
    trial = _Trial(candidate)
    batches = [trial.format(name, kind) for name, kind in candidate.reader.formats.items()]
    whole = _joined([batch.part(0, 1) for batch in batches])
    if not trial.problems and len(whole):
        with trial.reporting("events", "a batch of all event formats cannot be scored"):
            score(whole)
    if trial.problems:
        raise ConfigError(list(dict.fromkeys(trial.problems)))


class _Trial:
    """Finds what is wrong with one candidate, format by format."""

    def __init__(self, candidate: Candidate) -> None:
        self.problems: list[Problem] = []
        self._candidate = candidate

    def format(self, name: str, kind: Format) -> Batch:
        """Try one event format; returns the made-up events."""
        batch, own = _batch(self._candidate, name, kind)
        with self.reporting(f"events.{name}", "made-up events cannot be decoded"):
            events = self._candidate.reader.read(batch, ids=True)
            if own[events.rows].any():
                self._score(name, batch, events)
            else:
                refused = [one.message for one in events.rejected if own[one.row] and one.reason in UNREADABLE]
                self.problems += [
                    Problem(f"events.{name}.schema", f"no event of this format can be decoded: {message}")
                    for message in refused[:1]
                ]
        return batch

    def _score(self, name: str, batch: Batch, events: Events) -> None:
        tried = _predictors(self._candidate, name)
        with self.reporting(f"events.{name}", "made-up events cannot be scored"):
            rehearsed = self._candidate.snapshot.rehearse(events, tried)
            for one in rehearsed:
                self.problems += _score_problems(events, name, one)
            self._encode(batch, events, rehearsed)

    def _encode(self, batch: Batch, events: Events, rehearsed: Sequence[Rehearsed]) -> None:
        """Encode some answers of each predictor."""
        routes, role = self._candidate.document.routes, self._candidate.role
        live_names = {name for route in routes for name in route.live_shares}
        live = [_answered(one) for one in rehearsed if one.scores.predictor in live_names]
        if not live:
            return
        has_live = np.unique(np.concatenate([one.rows for one in live]))
        shadow_names = {one.predictor for route in routes for one in route.shadow}
        shadow = [one.scores for one in rehearsed if one.scores.predictor in shadow_names]
        writer = self._candidate.writer
        for one in _one_of_each_form(live if role == "live" else shadow):
            part = without(one, np.setdiff1d(one.rows, has_live))
            part = without(part, part.rows[ENCODED:])
            with self.reporting(f"predictors.{one.predictor}", "its answers cannot be encoded"):
                if role == "live":
                    writer.scores(batch, events, [part], 0, 0)
                else:
                    writer.audit(batch, events, live, [part], 0, 0)

    @contextmanager
    def reporting(self, path: str, what: str) -> Iterator[None]:
        """Note what is raised inside as a problem."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is, no event would fare better
            self.problems.append(Problem(path, f"{what}: {described(error)}"))
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of native code by way of pyo3; it cannot be imported
                raise
            self.problems.append(Problem(path, f"{what}: native code panicked: {str(error)[:MESSAGE_LENGTH]}"))


def _predictors(candidate: Candidate, name: str) -> dict[str, list[str]]:
    """Return the predictors that events of a format can come to, each with the tenants whose events they are."""
    tried: dict[str, list[str]] = {}
    roles: tuple[Role, ...] = ("live",) if candidate.role == "live" else ("live", "shadow")
    for tenant, _topic in candidate.reader.senders(name):
        for predictor in dict.fromkeys(
            one for role in roles for one in predictors_of(candidate.document, tenant, role)
        ):
            tried.setdefault(predictor, []).append(tenant)
    return tried


def _score_problems(events: Events, name: str, one: Rehearsed) -> Iterator[Problem]:
    """Yield a problem for each tenant none of whose events the predictor can score, whatever they hold."""
    if not any(fault.reason == Reason.SCORING_ERROR for fault in one.faults.values()):
        return
    tenant = events.tenant
    codes = tenant.codes[one.scores.rows]
    failed = np.isin(one.scores.rows, list(one.faults))
    for code in np.unique(codes).tolist():
        of_tenant = codes == code
        faults = [one.faults[row] for row in one.scores.rows[of_tenant & failed].tolist()]
        broken = next((fault for fault in faults if fault.reason == Reason.SCORING_ERROR), None)
        if broken is not None and len(faults) == of_tenant.sum():
            message = f"cannot score any event of tenant '{tenant.values[code]}' (format '{name}'): {broken.message}"
            yield Problem(f"predictors.{one.scores.predictor}", message)


def _one_of_each_form(scores: Sequence[PredictorScores]) -> list[PredictorScores]:
    return list({(len(one.experts), bool(one.errors)): one for one in reversed(scores)}.values())


def _answered(one: Rehearsed) -> PredictorScores:
    return without(one.scores, np.array(sorted(one.faults), dtype=np.int64))


def _batch(candidate: Candidate, name: str, kind: Format) -> tuple[Batch, NDArray[np.bool_]]:
    """Return made-up events of every tenant that sends this format, and which are in the reader's own schema."""
    topics: list[str] = []
    values: list[bytes | None] = []
    headers: list[list[Header]] = []
    own: list[bool] = []
    tables = _tables(candidate.document, kind)
    source, times = kind.spec.tenant, {kind.spec.time: kind.times.allowed} if kind.spec.time else {}
    sent = [(source.header, b"") for source in kind.spec.intent.values() if source.header is not None]
    for tenant, topic in candidate.reader.senders(name):
        named: dict[str, tuple[tuple[str, ...], ...]] = {source.field: ((tenant,),)} if source and source.field else {}
        present = frozenset({kind.spec.id, *named})
        header = [(source.header, tenant.encode())] if source and source.header else []
        for file in candidate.schemas.files():
            schema = candidate.schemas.by_file(file)
            try:
                demands = Demands(present, tables | named, times, kind.spec.time_unit)
                made = made_up(kind.schema, schema, kind.decoder.paths, demands)
            except SchemaError:
                continue  # the schema of another format
            values += made
            topics += [topic] * len(made)
            headers += [[*sent, *header]] * len(made)
            own += [file == kind.schema.file] * len(made)
    return _raw(topics, values, headers), np.array(own, dtype=np.bool_)


def _tables(document: Document, kind: Format) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return the strings that category tables know, by the field they are for: without one a feature is missing."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for model in document.models.values():
        for feature in model.features():
            if feature.categories is not None and feature.field in kind.decoder.paths:
                known = tuple(text for text in document.categories[feature.categories] if text != "*")
                found.setdefault(feature.field, {})[known or ("*",)] = None
    return {field: tuple(tables) for field, tables in found.items()}


def _raw(topics: list[str], values: list[bytes | None], headers: list[list[Header]]) -> Batch:
    count = len(values)
    stamps, keys = [0] * count, list[bytes | None]([None]) * count
    return Batch(topics, [0] * count, list(range(count)), keys, values, lambda: stamps, lambda: headers)


def _joined(batches: Sequence[Batch]) -> Batch:
    topics = [topic for batch in batches for topic in batch.topics]
    values = [value for batch in batches for value in batch.values]
    return _raw(topics, values, [headers for batch in batches for headers in batch.headers()])
