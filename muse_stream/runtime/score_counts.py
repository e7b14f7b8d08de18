"""How many scores each tenant got from each predictor, and how many of them at or above each promised threshold.

Each score gets one small number, its *group*: a tenant, a predictor and the count of thresholds that the score reaches;
of a shadow predictor also how many of them the live score of the event reaches, which tells where the two agree.
Groups are counted once the scores are committed. Nothing is done per score in Python.

Invariant: a pair of tenant and predictor has groups only where routes can lead the one to the other, so a worker's
series are bounded by its document. Counters never go down; those of a tenant that has left are dropped with it, those
of a predictor that no route names any more with the generation after.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.config import Document, Role
from muse_stream.scoring import Categorical, predictors_of, promised_rates
from muse_stream.worker import Groups

GroupNumbers = NDArray[np.int32]
Label = tuple[str, str, float | None]
"""Tenant, predictor, and a threshold; None means all scores."""
Part = Literal["reached", "agreed"]
"""Scores at or above the threshold; scores that stand on the same side of it as the live score of their event."""


class Pair(Struct, frozen=True):
    """A tenant and a predictor that can answer it."""

    tenant: str
    predictor: str
    thresholds: tuple[float, ...]
    first: int
    """Group of scores below every threshold; those that reach `n` of them have the group `first + n * width`."""
    width: int = 1
    """1 for a live predictor; for a shadow, the group is `first + n * width + m` where the live score reaches `m`."""

    @property
    def size(self) -> int:
        """How many groups it has."""
        return (len(self.thresholds) + 1) * self.width


class ScoreGroups:
    """The groups of one generation in one lane and role."""

    def __init__(self, document: Document, lane: str, role: Role) -> None:
        self.tenants = document.lanes().get(lane, ())
        self.pairs: list[Pair] = []
        self.size = 0
        reached = {tenant: predictors_of(document, tenant, role) for tenant in self.tenants}
        names = dict.fromkeys(name for found in reached.values() for name in found)
        self.promised = _promised(document, names)
        """Predictor -> threshold -> promised share at or above it; predictors without a promise are left out."""
        self._wide = role == "shadow"
        room = max((len(self.promised.get(name, ())) + 1 for name in names), default=1) ** (1 + self._wide)
        for tenant, found in reached.items():
            for name in found:
                thresholds = tuple(self.promised.get(name, ()))
                self.pairs.append(Pair(tenant, name, thresholds, self.size, self._width(name)))
                self.size += self.pairs[-1].size
        self.length = self.size + room
        """Groups from `size` on are of nobody: records without a score."""
        tenant_number = {tenant: place for place, tenant in enumerate(self.tenants)}
        self._number = {name: place for place, name in enumerate(names)}
        self._first = np.full((len(names) + 1, len(self.tenants) + 1), self.size, dtype=np.int32)
        """[predictors + 1, tenants + 1] first groups of pairs; the last of both are of nobody."""
        for pair in self.pairs:
            self._first[self._number[pair.predictor], tenant_number[pair.tenant]] = pair.first

    def _width(self, predictor: str) -> int:
        return len(self.promised.get(predictor, ())) + 1 if self._wide else 1

    def of(
        self,
        predictor: Categorical,
        tenant: Categorical,
        scores: NDArray[np.float64],
        live: NDArray[np.float64] | None = None,
    ) -> GroupNumbers:
        """Return the group of each score, by columns of the same rows; one that is NaN counts as nobody's.

        `live`: the live score beside each score of a shadow predictor.
        """
        first = self._first
        if tenant.values != self.tenants:  # parts of several formats may be numbered otherwise
            number = {name: place for place, name in enumerate(self.tenants)}
            first = first[:, [*(number.get(name or "", -1) for name in tenant.values), -1]]
        numbers = np.array([self._number.get(name or "", -1) for name in predictor.values], dtype=np.intp)
        groups = first[numbers[predictor.codes], tenant.codes]
        thresholds = [tuple(self.promised.get(name or "", ())) for name in predictor.values]
        kinds = dict.fromkeys(thresholds)  # one as a rule: all predictors promise the same
        for each in kinds:
            these = True if len(kinds) == 1 else np.array([one == each for one in thresholds])[predictor.codes]
            width = len(each) + 1 if self._wide else 1
            for threshold in each:
                groups += width * ((scores >= threshold) & these)
                if live is not None:
                    groups += (live >= threshold) & these
        failed = np.isnan(scores)
        if failed.any():
            groups[failed] = self.size
        return groups


def _promised(document: Document, names: Iterable[str]) -> dict[str, Mapping[float, float]]:
    references = {name: document.predictors[name].graph().promise() for name in names}
    used = {reference for reference in references.values() if reference is not None}
    rates = {reference: promised_rates(document.references[reference]) for reference in used}
    return {name: rates[reference] for name, reference in references.items() if reference is not None}


class _State(Struct, frozen=True, eq=False):
    """What another thread may read at any moment: replaced whole, but for `totals`, whose entries only grow."""

    groups: ScoreGroups
    totals: NDArray[np.int64]
    """Scores of each group under this generation."""
    before: Mapping[tuple[Part, Label], int]
    """What was counted under earlier ones."""


class ScoreCounters:
    """The counters, over changes of generation. One thread counts, another may read."""

    def __init__(self) -> None:
        self._state: _State | None = None

    def serve(self, groups: ScoreGroups) -> None:
        """Go over to another generation's groups; what no series is left for is dropped."""
        known, before = {_key(pair) for pair in groups.pairs}, Counter[tuple[Part, Label]]()
        if self._state is not None:
            known |= {_key(pair) for pair in self._state.groups.pairs}
            before = self._all()
        kept = {key: n for key, n in before.items() if key[1][:2] in known and key[1][0] in groups.tenants}
        self._state = _State(groups, np.zeros(groups.length, dtype=np.int64), kept)

    def add(self, groups: ScoreGroups, scores: Groups) -> None:
        """Count committed scores; `groups` gave them their numbers, and may be those of the generation before."""
        state = self._state
        if state is None or not scores:
            return
        numbers = np.frombuffer(scores, dtype=np.int32)
        if groups is state.groups:
            np.add.at(state.totals, numbers, 1)
            return
        late = Counter(state.before)
        for key, count in _labelled(groups, np.bincount(numbers, minlength=groups.length)):
            if key[1][0] in state.groups.tenants:
                late[key] += count
        self._state = replace(state, before=late)

    def series(self, wanted: Part = "reached") -> Mapping[Label, int]:
        """Return every counter of a pair that has ever scored."""
        return {label: count for (part, label), count in self._all().items() if part == wanted}

    def _all(self) -> Counter[tuple[Part, Label]]:
        state = self._state
        if state is None:
            return Counter()
        counted = Counter(state.before)
        counted.update(dict(_labelled(state.groups, state.totals)))
        return counted


def _key(pair: Pair) -> tuple[str, str]:
    return pair.tenant, pair.predictor


def _labelled(groups: ScoreGroups, totals: NDArray[np.int64]) -> Iterator[tuple[tuple[Part, Label], int]]:
    """Yield the counters of pairs that have scored; a score that reaches a threshold reaches all below it."""
    if not groups.pairs:
        return
    of_pair = np.add.reduceat(totals[: groups.size], [pair.first for pair in groups.pairs])
    for place in np.flatnonzero(of_pair).tolist():
        pair = groups.pairs[place]
        both = totals[pair.first : pair.first + pair.size].reshape(-1, pair.width)
        reaching = both.sum(axis=1)[::-1].cumsum()[::-1].tolist()
        for threshold, count in zip((None, *pair.thresholds), reaching, strict=True):
            yield ("reached", (pair.tenant, pair.predictor, threshold)), count
        for above, threshold in enumerate(pair.thresholds if pair.width > 1 else (), 1):
            agreed = int(both[:above, :above].sum() + both[above:, above:].sum())
            yield ("agreed", (pair.tenant, pair.predictor, threshold)), agreed
