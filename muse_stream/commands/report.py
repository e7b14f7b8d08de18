"""A report of live and shadow predictors, tenant by tenant, as one HTML file.

Records come from the topics, or from files that `audit` has written; what is promised, and the history of generations,
from the configuration. Nothing is written to Kafka or to the store.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from muse_stream.calibration import (
    CELLS,
    GROUPS,
    Arrivals,
    Drift,
    DriftLimits,
    MapCounts,
    Recent,
    Reference,
    ScoreHistogram,
    calibration_curve,
    design_effect,
    distance_from,
    drift,
    expected,
    expected_calibration_error,
    grouped_rate,
    population_stability,
    quantile_pairs,
    rank_agreement,
    stability_edges,
    wilson,
)
from muse_stream.commands import html_file
from muse_stream.commands.audit import NoRecords, Selection, audit
from muse_stream.commands.configuration import Configuration
from muse_stream.commands.fit_samples import Sample
from muse_stream.commands.report_records import (
    MOST,
    Floats,
    Gathering,
    Kept,
    Name,
    PairRecords,
    ReportError,
    TenantRecords,
    read_labels,
)
from muse_stream.config import Document, KafkaSettings
from muse_stream.control import is_store, open_store
from muse_stream.errors import StoreError
from muse_stream.report import (
    Calibration,
    Change,
    Day,
    Days,
    Fact,
    History,
    Pair,
    Report,
    Spread,
    Tenant,
    Threshold,
    html,
)
from muse_stream.runtime.score_reader import Contents, content_of
from muse_stream.scoring import promised_rates, reference_from

DAY_MS = 86_400_000
EXACT = 10**12
"""Events that a map is fitted to which is not fitted at all."""
BINS = 50
TOLERANCE = 0.2
EVIDENCE = 160
"""Characters of the evidence of a generation that are shown."""

Told = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is to be of."""

    tenants: Sequence[str] = ()
    """All of the configuration, if none is named."""
    files: Sequence[Path] = ()
    """Tables that `audit` has written; without any, the topics are read."""
    selection: Selection = Selection()  # noqa: RUF009 - it is frozen
    labels: Path | None = None
    id_column: str = "event_id"
    label_column: str = "label"
    tolerance: float = TOLERANCE
    """Share of a promised rate by which a rate may differ from it."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    file: str
    tenants: Sequence[str]
    events: int
    """That two predictors have scored."""
    bytes: int
    notes: Sequence[str]


def report(
    configuration: Configuration,
    settings: KafkaSettings | None,
    path: Path,
    asked: Asked | None = None,
    told: Told = lambda _text: None,
) -> Made:
    """Write the report to `path`, which appears whole or not at all; `settings` are needed where topics are read.

    Raises ReportError and MuseError for what no report can be made of, and the errors of Kafka.
    """
    asked = asked or Asked()
    html_file.check(path)
    document = configuration.loaded.document
    names = [configuration.tenant(name) for name in asked.tenants] or list(document.tenants)
    promises = _Promises(document)
    labels = read_labels(asked.labels, asked.id_column, asked.label_column) if asked.labels is not None else None
    gathering = Gathering(dict.fromkeys(names, promises.thresholds), labels)
    notes: list[str] = []
    if asked.files:
        for file in asked.files:
            told(str(file))
            gathering.read(file)
    else:
        notes += _of_topics(configuration, settings or KafkaSettings.from_environment(), names, asked, gathering, told)
    notes += _missing(names, asked, gathering)
    if labels is not None and not gathering.labelled:
        raise ReportError(f"{asked.labels}: none of its {len(labels):,} ids is an event of this report")
    served = _Served(configuration, sum(len(one.scores) + len(one.pairs) for one in gathering.tenants.values()))
    made = _Making(document, promises, asked.tolerance, served)
    tenants = [made.tenant(name, gathering.tenants[name]) for name in names if name in gathering.tenants]
    answered = {number for one in gathering.tenants.values() for number in one.generations}
    whole = Report(
        f"Live and shadow scores of {_some([one.name for one in tenants])}",
        datetime.now(UTC),
        _facts(configuration, asked, gathering, labels),
        asked.tolerance,
        tenants,
        _history(configuration, answered),
        notes,
    )
    told("figures")
    text = html(whole).encode()
    html_file.write(path, text)
    events = sum(pair.events for one in tenants for pair in one.pairs)
    return Made(str(path), [one.name for one in tenants], events, len(text), notes)


def _of_topics(
    configuration: Configuration,
    settings: KafkaSettings,
    names: Sequence[str],
    asked: Asked,
    gathering: Gathering,
    told: Told,
) -> list[str]:
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="muse-stream-report-") as folder:
        for place, name in enumerate(names):
            told(f"records of {name}")
            table = Path(folder) / f"{place}.parquet"
            try:
                notes += audit(configuration, settings, name, table, asked.selection).notes
            except NoRecords:
                continue
            gathering.read(table)
            table.unlink()
    return notes


def _missing(names: Sequence[str], asked: Asked, gathering: Gathering) -> list[str]:
    without = [name for name in names if name not in gathering.tenants]
    if len(without) == len(names):
        there = f"; the files have {_some(sorted(gathering.strangers))}" if gathering.strangers else ""
        raise ReportError(f"there are no records of {_some(names)}{there}")
    if asked.tenants and without:
        raise ReportError(f"there are no records of {_some(without)}")
    notes = [f"No records of {_some(without)}."] if without else []
    if gathering.strangers and not asked.tenants:
        notes.append(f"Left out, as the configuration does not have them: {_some(sorted(gathering.strangers))}.")
    return notes


def _facts(configuration: Configuration, asked: Asked, gathering: Gathering, labels: Any) -> list[Fact]:
    kept = [one for tenant in gathering.tenants.values() for one in tenant.scores.values()]
    kept += [one.kept for tenant in gathering.tenants.values() for one in tenant.pairs.values()]
    moments = [_moment(int(edge(one.columns()["time"]))) for one in kept if one.seen for edge in (np.min, np.max)]
    facts = [Fact("Configuration", configuration.named)]
    if configuration.number:
        facts.append(Fact("Generation", str(configuration.number)))
    facts.append(
        Fact("Records from", _some([str(one) for one in asked.files]) if asked.files else "the topics of Kafka")
    )
    if moments:
        facts.append(Fact("Event times", f"{min(moments):%Y-%m-%d %H:%M} to {max(moments):%Y-%m-%d %H:%M} UTC"))
    if labels is not None:
        facts.append(Fact("Labels", f"{asked.labels}: {len(gathering.labelled):,} of the events here have one"))
    return facts


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Scores of one predictor; every array is [events]."""

    score: Floats
    time: Any
    group: Any
    generation: Any


class _Promises:
    """What the configuration promises of each predictor's scores."""

    def __init__(self, document: Document) -> None:
        names = {name: one.graph().promise() for name, one in document.predictors.items()}
        specs = document.references
        self._rates = {name: promised_rates(specs[one]) for name, one in names.items() if one is not None}
        self._references = {name: reference_from(specs[one]) for name, one in names.items() if one is not None}
        self.thresholds = sorted({at for rates in self._rates.values() for at in rates})

    def of(self, *predictors: Name) -> tuple[Mapping[float, float], Reference | None]:
        """Return the rates and the reference of the first of these that has a promise."""
        for name, _version in predictors:
            if name in self._rates:
                return self._rates[name], self._references[name]
        return {}, None


class _Served:
    """Tells drift of records: those that the map gave which the configuration has now."""

    def __init__(self, configuration: Configuration, subjects: int) -> None:
        """`subjects`: tenants and predictors that are looked at."""
        self._loaded, self._document = configuration.loaded, configuration.loaded.document
        self._named, self._subjects = configuration.named, max(subjects, 1)

    def drift(
        self, tenant: str, predictor: str, rates: Mapping[float, float], reference: Reference, columns: _Columns
    ) -> tuple[Drift | None, int]:
        """Return the drift, and the days that index and distance are of."""
        spec = self._document.drift_of(tenant)
        chosen = np.isin(columns.generation, self._same(tenant, predictor, np.unique(columns.generation).tolist()))
        day = columns.time // DAY_MS
        if not chosen.any():
            return None, spec.recent
        last = int(day[chosen].max())
        chosen &= (day >= last - spec.days) & (day <= last)
        recent = columns.score[chosen & (day > last - spec.recent)]
        distances = Recent(len(recent), *_distances(reference, recent)) if len(recent) else Recent(0)
        days = [_counted(columns, chosen & (day == one), tuple(rates)) for one in np.unique(day[chosen]).tolist()]
        limits = DriftLimits(spec.tolerance, spec.psi, spec.ks)
        alpha = spec.false_alarm / self._subjects
        samples = self._samples(tenant, predictor)
        return drift(days, distances, samples, rates, limits, alpha, spec.days), spec.recent

    def _same(self, tenant: str, predictor: str, generations: Sequence[int]) -> list[int]:
        """Return those under which the predictor had the content and the map that it has now; all, where none tells."""
        if not is_store(self._named):
            return list(generations)
        now = content_of(self._document, tenant, predictor)
        store = open_store(self._named)
        try:
            contents = Contents(store)
            return [one for one in generations if contents.of(one, tenant, predictor) == now]
        except StoreError:
            return list(generations)
        finally:
            store.close()

    def _samples(self, tenant: str, predictor: str) -> int:
        node = self._document.predictors[predictor].graph().nearest_map()
        name = node.map_of(tenant) if node is not None else None
        return self._loaded.fitted.maps[name].samples if name is not None else EXACT


def _counted(columns: _Columns, rows: Any, thresholds: tuple[float, ...]) -> MapCounts:
    found = MapCounts.empty(thresholds)
    cells = columns.time[rows] % DAY_MS * CELLS // DAY_MS
    scores, groups = columns.score[rows], columns.group[rows] % GROUPS
    found.add(Arrivals("", np.empty(0, dtype=np.int64), scores, scores, cells, groups, "", thresholds))
    return found


class _Making:
    """Makes the content of records."""

    def __init__(self, document: Document, promises: _Promises, tolerance: float, served: _Served) -> None:
        self._document, self._promises, self._tolerance, self._served = document, promises, tolerance, served

    def tenant(self, name: str, own: TenantRecords) -> Tenant:
        notes, pairs = [], []
        for (live, shadow), records in own.pairs.items():
            if len(records.kept.columns()["time"]):
                pairs.append(self._pair(live, shadow, records))
            else:
                notes.append(f"{_named(shadow)} could not score any of {records.failed:,} events.")
        days = [self._days(name, one, "live", kept.columns(), "score") for one, kept in own.scores.items()]
        if not own.scores and own.pairs:
            notes.append("There are no score records here: what was live is taken from audit records.")
            live, first = next(((live, one) for (live, _), one in own.pairs.items()))
            days.append(self._days(name, live, "live", first.kept.columns(), "live"))
        days += [
            self._days(name, shadow, "shadow", one.kept.columns(), "shadow") for (_, shadow), one in own.pairs.items()
        ]
        notes += _gaps(own)
        if any(one.seen > MOST for one in _all_kept(own)):
            notes.append(f"Of each predictor the latest {MOST:,} events are shown.")
        days = [one for one in days if one.days]
        return Tenant(name, own.score_records, own.audit_records, pairs, days, notes)

    def _pair(self, live: Name, shadow: Name, records: PairRecords) -> Pair:
        columns = records.kept.columns()
        rates, _reference = self._promises.of(shadow, live)
        thresholds = [self._threshold(columns, at, rates[at]) for at in rates]
        crossed = [(columns["live"] >= at) != (columns["shadow"] >= at) for at in rates]
        changing = int(np.any(crossed, axis=0).sum()) if crossed else 0
        word, verdict = _verdict(thresholds)
        return Pair(
            _named(live),
            _named(shadow),
            len(columns["time"]),
            len(np.unique(columns["group"])),
            records.failed,
            _generations(records.generations),
            rank_agreement(columns["live"], columns["shadow"]),
            _spread(columns),
            thresholds,
            [
                Change(event, _moment(time), was, would, tuple(at for at in rates if (was >= at) != (would >= at)))
                for _by, event, time, was, would in records.largest
                if any((was >= at) != (would >= at) for at in rates)
            ],
            changing,
            verdict,
            word,
            _calibrations(live, shadow, columns),
        )

    def _threshold(self, columns: Mapping[str, Any], at: float, promised: float) -> Threshold:
        live, shadow, groups = columns["live"], columns["shadow"], columns["group"]
        found = expected(live, shadow, at, groups)
        before, after = live >= at, shadow >= at
        allowed = self._tolerance * promised
        off, was_off = abs(found.candidate - promised), abs(found.live - promised)
        if abs(found.change) > found.margin and off > max(allowed, was_off):
            word = "moves"
        elif found.margin > allowed:
            word = "few"
        elif off <= allowed:
            word = "kept"
        else:
            word = "nears" if abs(found.change) > found.margin else "equal"
        return Threshold(
            at, promised, grouped_rate(before, groups), grouped_rate(after, groups), found.change, found.margin,
            int((after & ~before).sum()), int((before & ~after).sum()), found.agreement, word,
        )  # fmt: skip

    def _days(self, tenant: str, predictor: Name, role: str, columns: Mapping[str, Any], which: str) -> Days:
        rates, reference = self._promises.of(predictor)
        scores, groups = columns[which], columns["group"]
        day = np.asarray(columns["time"], dtype=np.int64) // DAY_MS
        effects = [design_effect(scores >= at, groups) if len(scores) else 1.0 for at in rates]
        found = []
        for one in np.unique(day).tolist():
            mine = scores[day == one]
            shares = [
                wilson(float((mine >= at).mean()), len(mine) / effect)
                for at, effect in zip(rates, effects, strict=True)
            ]
            stability, distance = (None, None) if reference is None else _distances(reference, mine)
            found.append(Day(_moment(one * DAY_MS), len(mine), shares, stability, distance))
        drifted, recent = None, 0
        if reference is not None and len(scores):
            which_generation = "live_generation" if which == "live" else "generation"
            some = _Columns(scores, np.asarray(columns["time"]), np.asarray(groups), columns[which_generation])
            drifted, recent = self._served.drift(tenant, predictor[0], rates, reference, some)
        return Days(_named(predictor), role, list(rates), list(rates.values()), found, drifted, recent)


def _distances(reference: Reference, scores: Floats) -> tuple[float, float]:
    edges = np.concatenate([[-np.inf], stability_edges(reference), [np.inf]])
    actual = np.histogram(scores, edges)[0]
    inner = reference.alert_rate(edges[1:-1])
    promised = -np.diff(np.concatenate([[1.0], inner, [0.0]]))
    return population_stability(promised, actual), distance_from(reference, scores)


def _spread(columns: Mapping[str, Any]) -> Spread:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    live, shadow = (np.histogram(columns[name], edges)[0] / len(columns[name]) for name in ("live", "shadow"))
    return Spread(edges, live, shadow, *quantile_pairs(columns["live"], columns["shadow"]))


def _calibrations(live: Name, shadow: Name, columns: Mapping[str, Any]) -> list[Calibration]:
    labelled = ~np.isnan(columns["label"])
    positive = columns["label"][labelled] == 1.0
    if not positive.any() or positive.all():
        return []
    found = []
    for predictor, name in ((live, "live_aggregate"), (shadow, "aggregate")):
        values = columns[name][labelled]
        if np.isnan(values).any():
            return []
        histogram = ScoreHistogram.of(values, positive)
        curve = calibration_curve(histogram)
        low, high = np.array([one.positives.interval for one in curve]).T
        found.append(
            Calibration(
                _named(predictor),
                len(values),
                int(positive.sum()),
                expected_calibration_error(histogram),
                np.array([one.score for one in curve]),
                np.array([one.positives.value for one in curve]),
                low,
                high,
            )
        )
    return found


def _verdict(thresholds: Sequence[Threshold]) -> tuple[str, str]:
    """Return the word that counts most, and all that is to be said."""
    said = {
        "moves": "would move alert rates away from the promise: {rates}",
        "few": "too few events to tell at {places}",
        "equal": "no change shown at {places}, where both are away from the promise",
        "nears": "would come nearer to the promise at {places}, and still be away from it",
        "kept": "keeps the promise at {places}",
    }
    by_word = {word: [one for one in thresholds if one.word == word] for word in said}
    if not thresholds:
        return "few", "nothing is promised of either, so there is no threshold to compare at"
    if len(by_word["kept"]) == len(thresholds):
        return "kept", "keeps the promise at every threshold"

    def text(word: str, found: Sequence[Threshold]) -> str:
        rates = [f"{100 * one.live.value:.3g} to {100 * one.shadow.value:.3g} % at {one.threshold:g}" for one in found]
        return said[word].format(rates=", ".join(rates), places=", ".join(f"{one.threshold:g}" for one in found))

    there = {word: found for word, found in by_word.items() if found}
    return next(iter(there)), "; ".join(text(word, found) for word, found in there.items())


def _gaps(own: TenantRecords) -> list[str]:
    notes = []
    kept = [(f"scores of {_named(name)}", one) for name, one in own.scores.items()]
    kept += [(f"audit records of {_named(name)}", one.kept) for (_, name), one in own.pairs.items()]
    for what, one in kept:
        times = np.sort(one.columns()["time"])
        gap = Sample(times, times).gap() if len(times) else None
        if gap is not None:
            start, end = (f"{_moment(one):%Y-%m-%d %H:%M}" for one in gap)
            notes.append(f"There is a gap: no {what} for events from {start} to {end} UTC.")
    return notes


def _all_kept(own: TenantRecords) -> list[Kept]:
    return [*own.scores.values(), *(one.kept for one in own.pairs.values())]


def _history(configuration: Configuration, answered: set[int]) -> list[History] | None:
    if not is_store(configuration.named):
        return None
    store = open_store(configuration.named)
    try:
        current = store.current()
        return [
            History(
                one.number,
                one.number == current,
                one.created,
                one.author,
                one.message,
                one.parent,
                _evidence(one.evidence),
                one.problem,
                one.number in answered,
            )
            for one in reversed(store.list())
        ]
    finally:
        store.close()


def _evidence(evidence: Mapping[str, Any] | None) -> str:
    """Say in words what a generation rests on."""
    said = []
    for name, value in (evidence or {}).items():
        if name == "fitted" and isinstance(value, Mapping) and isinstance(value.get("tenants"), Mapping):
            events = sum(int(one.get("events", 0)) for one in value["tenants"].values() if isinstance(one, Mapping))
            said.append(f"maps of {value.get('predictor')} fitted to {events:,} events")
        elif isinstance(value, str | int | float):
            said.append(f"{name}: {value}")
        elif isinstance(value, Sequence):
            said.append(f"{name} of {len(value)} tenants" if name == "evidence" else f"{name}: {len(value)}")
        else:
            said.append(name)
    text = "; ".join(said)
    return text if len(text) <= EVIDENCE else f"{text[:EVIDENCE]} ..."


def _named(predictor: Name) -> str:
    return f"{predictor[0]} v{predictor[1]}"


def _generations(numbers: set[int]) -> str:
    found = [str(one) for one in sorted(numbers)]
    if len(found) == 1:
        return f"generation {found[0]}"
    return f"generations {', '.join(found[:-1])} and {found[-1]}: between them a map may have changed"


def _moment(stamp_ms: int) -> datetime:
    return datetime.fromtimestamp(stamp_ms / 1000, UTC)


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = [name if len(name) <= 80 else f"{name[:80]}..." for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
