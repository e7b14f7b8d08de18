"""What is asked of a backtest, and what that means for a configuration: predictors, a reference, thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from muse_stream.commands.backtest_models import ColumnScorer, ModelScorer, Scorer
from muse_stream.commands.backtest_report import Promise
from muse_stream.commands.configuration import Configuration
from muse_stream.errors import ConfigError, Problem
from muse_stream.scoring import promised_rates, reference_from

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a file."""

    label: str
    time: str
    tenant: str
    predictors: Sequence[tuple[str, int]] = ()
    """Predictors and from when each serves (milliseconds since 1970; the first from the beginning)."""
    period_ms: int = 7 * DAY_MS
    reference: str | None = None
    thresholds: Sequence[float] = ()
    only: Sequence[str] = ()
    """Tenants; none: all of the configuration."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the file for a field, where the names differ."""
    score: str | None = None
    """A column of scores: no model runs."""
    allow_gaps: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is run and what it is compared with."""

    serving: Sequence[tuple[str, int]]
    promise: Promise
    scorer: Scorer

    def serve_from(self, moment: int) -> list[str]:
        """Return the predictor that serves a period which begins then, and after it those of later ones."""
        started = [place for place, (_, start) in enumerate(self.serving) if not place or start <= moment]
        return list(dict.fromkeys(name for name, _ in self.serving[started[-1] :]))


def plan_of(configuration: Configuration, question: Question) -> Plan:
    """Return the plan. Raises ConfigError."""
    serving = _serving(configuration, question)
    names = list(dict.fromkeys(name for name, _ in serving))
    for tenant in question.only:
        configuration.tenant(tenant)
    promise = _promise(configuration, question, names)
    if question.score is not None:
        return Plan(serving, promise, ColumnScorer(question.score))
    return Plan(serving, promise, ModelScorer(configuration.loaded, names, question.columns))


def _refused(configuration: Configuration, what: str, message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(what, message, hint, file=str(configuration.path))])


def _serving(configuration: Configuration, question: Question) -> list[tuple[str, int]]:
    document, option = configuration.loaded.document, "--predictor"
    serving = list(question.predictors)
    if question.score is not None:
        if serving:
            message = "a column of scores is given, and predictors as well"
            raise _refused(configuration, "--score", message, "give one of the two")
        return [(question.score, 0)]
    if not serving:
        live = sorted({name for route in document.routes for name in route.live_shares})
        if len(live) > 1:
            raise _refused(configuration, option, f"several are live: {', '.join(live)}", "name the one to look at")
        serving = [(live[0], 0)]
    for name, _ in serving:
        if name not in document.predictors:
            there = f"there is: {', '.join(document.predictors)}"
            raise _refused(configuration, option, f"there is no '{name}'", there)
    starts = [start for _, start in serving[1:]]
    if starts != sorted(set(starts)):
        hint = "name predictors in the order in which they serve"
        raise _refused(configuration, option, "their times do not rise", hint)
    return serving


def _promise(configuration: Configuration, question: Question, names: Sequence[str]) -> Promise:
    document = configuration.loaded.document
    chosen = {question.reference} if question.reference else set()
    if not chosen and question.score is None:
        chosen = {name for one in names if (name := document.predictors[one].graph().promise()) is not None}
    if not chosen and len(document.references) == 1:
        chosen = set(document.references)
    found = [name for name in chosen if name in document.references]
    if len(chosen) != 1 or not found:
        message = "there is none, or they keep to several" if not question.reference else "there is no such reference"
        hint = f"name one of: {', '.join(document.references)}"
        if not document.references:
            hint = "the configuration has none: add one, for example `standard: {alert_rates: {0.5: 0.35, 0.8: 0.05}}`"
        raise _refused(configuration, "--reference", message, hint)
    spec = document.references[found[0]]
    reference = reference_from(spec)
    asked = list(question.thresholds)
    if not asked:
        return Promise(reference, dict(promised_rates(spec)))
    if asked != sorted(set(asked)) or not all(0.0 < one < 1.0 for one in asked):
        message = f"{', '.join(f'{one:g}' for one in asked)} do not rise strictly within (0, 1)"
        raise _refused(configuration, "--thresholds", message, "for example 0.2,0.5,0.8")
    rates = {one: float(reference.alert_rate(one)) for one in asked}
    nothing = [one for one, rate in rates.items() if not 0.0 < rate < 1.0]
    if nothing:
        message = f"the reference promises that {'no event' if rates[nothing[0]] == 0 else 'every event'} reaches "
        raise _refused(configuration, "--thresholds", f"{message}{nothing[0]:g}", "leave it out")
    return Promise(reference, rates)
