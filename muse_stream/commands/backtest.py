"""Walk forward over labelled history, and compare what policies for quantile maps would have served.

A configuration and a file of labelled events, sorted by time, give a `Backtest`. Period by period: maps are fitted to
what was known when a period began, the period's events are scored as workers score them, and each policy's scores are
measured. The file is read once, in chunks; what is kept are histograms, and up to 40,000 scores of each tenant and
period. So memory does not grow with the file.
"""

import time as clock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import (
    HINDSIGHT,
    MAPPED,
    POLICIES,
    AlertRate,
    FittedMap,
    QuantileMap,
    Refresher,
    ScoreHistogram,
    Segments,
    Served,
    Window,
    of_histogram,
)
from muse_stream.commands.backtest_models import Answers
from muse_stream.commands.backtest_plan import Plan, Question, plan_of
from muse_stream.commands.backtest_report import (
    Backtest,
    Period,
    Plain,
    against_labels,
    alert_rates,
    measures,
    medians,
    rates_of,
)
from muse_stream.commands.configuration import Configuration, open_configuration
from muse_stream.errors import MuseError
from muse_stream.files import Chunk, History, LabelledRows, moment, row_count

Cells = list[tuple[int, int, list[AlertRate]]]
"""Period, tenant, alert rates."""
Progress = Callable[[int, int | None, str], object]


def backtest(
    configuration: Configuration | str | Path,
    path: str | Path,
    question: Question,
    progress: Progress = lambda _done, _of, _what: None,
) -> Backtest:
    """Walk through a file.

    `configuration` is a YAML file, or a store's folder or URL. Raises ConfigError for it and for what is asked,
    MuseError for the file.
    """
    if not isinstance(configuration, Configuration):
        configuration = open_configuration(configuration)
    path = Path(path)
    started = clock.monotonic()
    plan = plan_of(configuration, question)
    known = tuple(configuration.loaded.document.tenants)
    tenants = tuple(question.only) or known
    history = History(question.label, question.time, question.tenant, question.period_ms, question.allow_gaps)
    rows = LabelledRows(path, history, known, tenants)
    walk = _Walk(rows, plan, question, tenants)
    total = row_count(path)
    for chunk in rows.chunks(list(plan.scorer.columns.values())):
        walk.add(chunk)
        progress(rows.read, total, f"period {chunk.period + 1}")
    found = walk.finished()
    found.seconds = clock.monotonic() - started
    return found


class _Walk:
    """Everything between two chunks."""

    def __init__(self, rows: LabelledRows, plan: Plan, question: Question, tenants: Sequence[str]) -> None:
        self._rows, self._plan, self._question, self._tenants = rows, plan, question, tuple(tenants)
        self._names = np.array(self._tenants, dtype=object)
        self._period = -1
        self._periods: list[Period] = []
        self._rejected = 0
        size, self._edges = len(tenants), plan.promise.edges()
        self._windows: dict[str, Window] = {}
        self._before: dict[str, ScoreHistogram] = {}
        """Predictor -> its aggregates of all periods before this one."""
        self._kept: list[QuantileMap] = []
        self._refresher = Refresher(size, plan.promise.rates)
        self._curves: dict[str, Segments] = {}
        """Policy -> the maps of this period; none in the first."""
        self._served: dict[str, Served] = {}
        self._total = {policy: Served.empty(size, self._edges) for policy in POLICIES}
        self._cells: dict[str, Cells] = {policy: [] for policy in (*POLICIES, HINDSIGHT)}
        self._experts: dict[str, ScoreHistogram] = {}
        self._seen = np.zeros((size, 2), dtype=np.int64)
        self._now = np.zeros(2, dtype=np.int64)
        """Events of this period by label."""
        self._notes: list[str] = []

    def add(self, chunk: Chunk) -> None:
        """Score some rows of one period and add them to everything."""
        if chunk.period > self._period:
            self._turn(chunk.period)
        names = self._plan.serve_from(self._rows.begins(chunk.period))
        answers = self._plan.scorer.score(chunk.columns, self._names[chunk.tenant], names)
        self._refuse_no_scores(answers, chunk)
        sound = np.logical_and.reduce([np.isfinite(one.aggregate) & np.isfinite(one.raw) for one in answers.values()])
        self._rejected += int((~sound).sum())
        tenant, labels = chunk.tenant[sound], chunk.labels[sound]
        np.add.at(self._seen, (tenant, labels.astype(np.int64)), 1)
        self._now += np.bincount(labels, minlength=2)
        for name, one in answers.items():
            self._windows.setdefault(name, Window(len(self._tenants))).add(one.aggregate[sound], tenant)
        if self._curves:
            self._serve(names[0], answers[names[0]], sound, tenant, labels)

    def _serve(
        self,
        name: str,
        answer: Answers,
        sound: NDArray[np.bool_],
        tenant: NDArray[np.int64],
        labels: NDArray[np.bool_],
    ) -> None:
        aggregate = answer.aggregate[sound]
        self._served["raw"].add(answer.raw[sound], labels, tenant)
        self._served["corrected"].add(aggregate, labels, tenant)
        for policy, curves in self._curves.items():
            self._served[policy].add(curves.each(tenant.astype(np.intp), aggregate), labels, tenant)
        for expert, both in answer.experts.items():
            for kind, scores in zip(("raw", "corrected"), both, strict=True):
                held = self._experts.setdefault(f"{name}, {expert}, {kind}", ScoreHistogram.empty())
                held.add(scores[sound], labels)

    def _refuse_no_scores(self, answers: Mapping[str, Answers], chunk: Chunk) -> None:
        """Refuse what a column holds that is no score; what models answer was looked at when it was scored."""
        column = self._question.score
        if column is None:
            return
        scores = answers[column].aggregate
        wrong = np.flatnonzero(~((scores >= 0.0) & (scores <= 1.0)))
        if len(wrong):
            value = "NaN or null" if np.isnan(scores[wrong[0]]) else f"{scores[wrong[0]]:g}"
            raise self._rows.wrong(int(chunk.rows[wrong[0]]), column, f"is {value}; a score lies in [0, 1]")

    def _turn(self, upcoming: int) -> None:
        """End a period, and fit the maps of the next."""
        if self._period >= 0:
            self._judge()
            self._fit(self._plan.serve_from(self._rows.begins(upcoming))[0])
        self._period = upcoming
        self._windows = {}
        self._now[:] = 0

    def _fit(self, name: str) -> None:
        """Fit every policy's maps, for a predictor that serves next."""
        window, reference = self._windows[name], self._plan.promise.reference
        for other, one in self._windows.items():
            self._before.setdefault(other, ScoreHistogram.empty(len(self._tenants))).merge(one.histogram)
        common = window.pooled(reference)
        if common is None:
            number = len(self._periods)
            said = f"all scores of {name} in period {number} are the same: no map fits them"
            raise MuseError(f"{self._rows.path}: {said}")
        everyone = range(len(self._tenants))
        own = [window.own(tenant, reference) for tenant in everyone]
        self._note_lacking(own)
        shrunken = self._maps([window.shrunken(tenant, reference) for tenant in everyone], common)
        if not self._kept:
            first = self._windows[self._periods[0].predictor]
            self._kept = self._maps(
                [first.own(tenant, reference) for tenant in everyone], first.pooled(reference) or common
            )
        expanding = [of_histogram(self._before[name].one(tenant), reference) for tenant in everyone]
        maps = {
            "kept": self._kept,
            "last": self._maps(own, common),
            "expanding": self._maps(expanding, common),
            "pooled": self._maps([None for _ in everyone], common),
            "shrinkage": shrunken,
            "refresh": self._refresher.maps(name, shrunken, self._served.get("refresh")),
        }
        self._curves = {policy: Segments([one.knots for one in maps[policy]]) for policy in MAPPED}
        self._served = {policy: Served.empty(len(self._tenants), self._edges) for policy in POLICIES}

    def _maps(self, fitted: Sequence[FittedMap | None], common: FittedMap) -> list[QuantileMap]:
        return [QuantileMap(common if one is None else one, self._plan.promise.reference) for one in fitted]

    def _note_lacking(self, own: Sequence[FittedMap | None]) -> None:
        seen: list[bool] = [bool(counts.any()) for counts in self._seen]
        lacking = [name for name, one, there in zip(self._tenants, own, seen, strict=True) if one is None and there]
        if lacking:
            said = f"had fewer than two different scores in period {len(self._periods)}: the pooled map serves"
            self._notes.append(f"{', '.join(lacking)} {said}")

    def _judge(self) -> None:
        """Note what the period that ends has come to."""
        number, begins = len(self._periods) + 1, self._rows.begins(self._period)
        ends, serving = self._rows.begins(self._period + 1), self._plan.serve_from(begins)[0]
        counts = int(self._now.sum()), int(self._now[1])
        self._periods.append(Period(number, moment(begins), moment(ends), serving, *counts, judged=bool(self._curves)))
        for policy, served in self._served.items():
            self._total[policy].merge(served)
            for tenant in np.flatnonzero(served.counts.sum(axis=1)).tolist():
                self._cells[policy].append((number, tenant, alert_rates(served, tenant, self._plan.promise)))

        promise, window = self._plan.promise, self._windows.get(serving)
        if self._curves and window is not None:
            halves = (
                window.hindsight(tenant, promise.rates, promise.reference) for tenant in range(len(self._tenants))
            )
            self._cells[HINDSIGHT] += [(number, tenant, rates) for tenant, rates in enumerate(halves) if rates]

    def finished(self) -> Backtest:
        """Return what was found. Raises MuseError where there is nothing to compare."""
        path = self._rows.path
        silent = [name for name, seen in zip(self._tenants, self._seen, strict=True) if not seen.any()]
        if len(silent) == len(self._tenants) or (silent and self._question.only):
            raise MuseError(f"{path}: has no event of {', '.join(silent)}")
        self._judge()
        if not self._curves:
            said = "all events are of one period, and maps are fitted to the one before"
            raise MuseError(f"{path}: {said}: give a shorter --period")
        for label in (0, 1):
            if not self._seen[:, label].any():
                raise MuseError(f"{path}: {self._question.label} is never {label}; both classes are needed")
        self._notes += [f"no events of {', '.join(silent)}"] if silent else []
        self._notes.append(f"refresh fitted {self._refresher.fits} maps")
        return Backtest(
            file=str(path),
            events=int(self._seen.sum()),
            rejected=self._rejected,
            tenants=self._tenants,
            thresholds=self._plan.promise.rates,
            periods=self._periods,
            policies={policy: self._policy(policy) for policy in POLICIES},
            hindsight=self._hindsight(),
            experts={name: against_labels(one) for name, one in self._experts.items()},
            notes=[*self._rows.notes, *self._notes],
        )

    def _hindsight(self) -> Plain:
        cells = self._cells[HINDSIGHT]
        errors = medians([rates for _, _, rates in cells], self._plan.promise)
        return {"median_errors": errors, "periods": self._listed(cells)}

    def _listed(self, cells: Cells) -> list[Plain]:
        return [
            {"period": number, "tenant": self._tenants[tenant], "alert_rates": rates_of(rates)}
            for number, tenant, rates in cells
        ]

    def _policy(self, policy: str) -> Plain:
        promise, total, cells = self._plan.promise, self._total[policy], self._cells[policy]
        tenants: Plain = {}
        for code in np.flatnonzero(total.counts.sum(axis=1)).tolist():
            own = [rates for _, tenant, rates in cells if tenant == code]
            tenants[self._tenants[code]] = {
                **measures(total.some(code), promise),
                "alert_rates": rates_of(alert_rates(total, code, promise)),
                "median_errors": medians(own, promise),
            }
        overall = {
            **measures(total.some(None), promise),
            "alert_rates": rates_of(alert_rates(total.some(None), 0, promise)),
            "median_errors": medians([rates for _, _, rates in cells], promise),
        }
        return {"overall": overall, "tenants": tenants, "periods": self._listed(cells)}
