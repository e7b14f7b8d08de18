"""Cold start: a tenant's map before it has events enough for one of its own.

Scores of tenants that are there already (`Pool.fit`) and the few of a new one (`Pool.shrunken`) give a fitted map that
starts as the pool's and becomes the tenant's own as its events arrive. The experiment behind every choice here:
docs/decisions/0025.

The distribution is cut into cells at levels of the pool that are dense in the upper tail. What is estimated of the new
tenant is, cell by cell, the chance q of lying beyond the next edge for who lies beyond this one (Efron, "Logistic
regression, survival analysis, and the Kaplan-Meier curve", 1988), as its distance from the pool's on the logit scale:

    logit q_j = logit q_j(pool) + h_j      h ~ Normal(0, K)      count beyond j+1 ~ Binomial(count beyond j, q_j)

K says how tenants differ from the pool, and how a difference in the body goes with one in the tail: so the 100 events
of a new tenant, which hold none of its 1-in-1,000 scores, say something about those. It is estimated from the pool's
own tenants (empirical Bayes: Efron and Morris, 1973; Robbins, 1956) as the covariance of what the first half of each
one's events says with what the second half says, so that neither sampling error nor what does not last is taken for a
difference between tenants. Counts are divided by a design effect (Kish, "Survey Sampling", 1965): events come in herds,
of a card or of an hour. It is measured on runs of as many events, one after the other, of the pool's tenants.

The maximum of the posterior is one Newton iteration on a concave function. Inside a cell the new tenant's own scores
are mixed with the pool's. Everything is monotone by construction, and with events enough it is the tenant's own
distribution.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.quantile_map import FittedMap, knots_of, sound_scores
from muse_stream.calibration.reference import Reference

BODY = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
TAIL = tuple(0.2 * 0.75**n for n in range(24))
"""Shares of the pool beyond each edge of a cell, down to 1 in 3,700."""
EDGE_EVENTS = 50
"""An edge has at least so many of the pool's events beyond it."""
WEIGHTIEST = 20_000
"""A tenant with more events than this counts in the pool as if it had so many."""
LEARNED_FROM = 200
"""A tenant tells how tenants differ if it has so many events."""
FEWEST_TENANTS = 4
"""So many such tenants are needed to learn it from."""
COMMON, USUAL = 0.3, 0.05
"""With fewer, this is assumed: a difference that all cells have in common, and one of each cell's own (variances)."""
UNEXPLAINED = 0.2
"""Every cell may differ on its own as well, by this share of the mean variance: a new tenant is not one of the old."""
LEAST_VARIANCE = 1e-3
HALF = 2.0
"""Of a half's events at an edge, so many are the pool's: no logarithm of 0."""
DRIFT = 2.0
"""What the design effect is multiplied by: a run of events is compared with the weeks around it, and used for later."""
INSIDE = 50.0
"""Inside a cell the pool counts as so many events."""
STEPS, SMALLEST_STEP, SETTLED = 60, 1e-6, 1e-10


class Posterior(Struct, frozen=True, eq=False):
    """What is known of a new tenant's distribution."""

    beyond: Floats
    """[K] the share of its events at or above each edge, falling strictly."""
    error: Floats
    """[K] standard error of the logarithm of that."""
    own_share: Floats
    """[K] how much of it its own events have decided: 1 - posterior variance / prior variance."""

    def interval(self, rate: float) -> tuple[float, float]:
        """Return within what a tenant's true alert rate lies where the map says `rate`, with 95 % confidence."""
        spread = 1.96 * _at(self, rate, self.error)
        return rate * float(np.exp(-spread)), min(rate * float(np.exp(spread)), 1.0)

    def share(self, rate: float) -> float:
        """Return `own_share` where the alert rate is `rate`."""
        return _at(self, rate, self.own_share)


def _at(known: Posterior, rate: float, of: Floats) -> float:
    return float(np.interp(np.log(rate), np.log(known.beyond[::-1]), of[::-1]))


class Pool(Struct, frozen=True, eq=False):
    """What the scores of several tenants say about those of one more. `fit` makes it."""

    values: Floats
    """[N] the pool's scores, ascending."""
    weights: Floats
    """[N] of each; they sum to 1."""
    edges: Floats
    """[K] scores that begin a cell, rising strictly."""
    beyond: Floats
    """[K] the pool's share at or above each edge."""
    covariance: Floats
    """[K, K] of `h` between tenants."""
    samples: tuple[Floats, ...]
    """Of each tenant, in order of time."""

    @classmethod
    def fit(cls, samples: Sequence[ArrayLike]) -> "Pool":
        """Learn from a sample of scores of each tenant, each in order of time, with the tenant in question left out.

        All of one predictor content, and of about the time for which the map is wanted. ValueError for no tenant, and
        for a sample that is empty or holds what is no score.
        """
        if not samples:
            raise ValueError("a pool needs the scores of at least one tenant")
        sound = tuple(sound_scores(one) for one in samples)
        values = np.concatenate(sound)
        weights = np.concatenate([np.full(len(one), min(len(one), WEIGHTIEST) / len(one)) for one in sound])
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order] / weights.sum()
        edges, beyond = _edges(values, weights)
        return cls(values, weights, edges, beyond, _covariance(sound, edges, beyond), sound)

    @property
    def events(self) -> int:
        """How many there are in it."""
        return len(self.values)

    def pooled(self, reference: Reference, fitted_for: str = "", fitted_on: Sequence[str] = ()) -> FittedMap:
        """Return the pool's own map: what a tenant without a single event starts from."""
        atoms = _Atoms(self.values, self.weights)
        levels, values = atoms.knots(self.events, reference)
        return FittedMap(levels, values, self.events, fitted_for, tuple(fitted_on))

    def shrunken(
        self, scores: ArrayLike, reference: Reference, fitted_for: str = "", fitted_on: Sequence[str] = ()
    ) -> FittedMap:
        """Return the map of a tenant that these scores are of, in order of time; an empty array is a tenant without.

        Its `own_share` is the mean over the tail, alert rates of 10 % and less. ValueError as in `FittedMap.fit`.
        """
        own = np.sort(_maybe(scores))
        known = self.posterior(own)
        tail = known.own_share[known.beyond <= 0.1]
        share = float(np.mean(tail if len(tail) else known.own_share))
        levels, values = self._mixed(own, known.beyond).knots(self.events, reference)
        return FittedMap(levels, values, len(own) or self.events, fitted_for, tuple(fitted_on), round(share, 6))

    def posterior(self, scores: ArrayLike) -> Posterior:
        """Return what these scores of a tenant, and the pool, say about its distribution."""
        own = np.sort(_maybe(scores))
        base = _logit(_chances(self.beyond))
        counts = _beyond(own, self.edges)
        effect = DRIFT * (self.design_effect(len(own)) if len(own) else np.ones(len(base)))
        trials, hits = counts[:-1] / effect, counts[1:] / effect
        h = _maximum(base, trials, hits, self.covariance)
        chance = _logistic(base + h)
        information = trials * chance * (1.0 - chance)
        # (K^-1 + W)^-1, without the inverse of K
        root = np.sqrt(information)
        inner = np.eye(len(base)) + root[:, None] * self.covariance * root[None, :]
        held = root[:, None] * self.covariance
        after = self.covariance - held.T @ np.linalg.solve(inner, held)
        # log S_j is the sum of log q_i up to j
        slope = np.tril(np.ones((len(base), len(base)))) * (1.0 - chance)[None, :]
        variance, prior = (np.einsum("ij,jk,ik->i", slope, one, slope) for one in (after, self.covariance))
        share = np.clip(1.0 - variance / np.maximum(prior, 1e-12), 0.0, 1.0)
        error: Floats = np.asarray(np.sqrt(np.maximum(variance, 0.0)), dtype=np.float64)
        beyond: Floats = np.asarray(np.cumprod(chance), dtype=np.float64)
        return Posterior(beyond, error, np.asarray(share, dtype=np.float64))

    def design_effect(self, events: int) -> Floats:
        """Return how much more than by chance the counts vary, cell by cell, among runs of `events` of one tenant."""
        excess, seen = np.zeros(len(self.edges)), np.zeros(len(self.edges))
        for sample in self.samples:
            run = min(events, len(sample) // 4)
            if run < 1:
                continue
            whole = _beyond(np.sort(sample), self.edges)
            chance = np.clip(whole[1:] / np.maximum(whole[:-1], 1.0), 0.01, 0.99)
            runs = len(sample) // run
            table = _run_counts(sample[: runs * run], runs, self.edges)
            trials, hits = table[:, :-1], table[:, 1:]
            there = trials > 0
            squares = (hits - trials * chance) ** 2 / (np.maximum(trials, 1.0) * chance * (1.0 - chance))
            excess += (squares * there).sum(axis=0) * runs / (runs - 1)
            seen += there.sum(axis=0)
        return np.asarray(np.maximum(excess / np.maximum(seen, 1.0), 1.0), dtype=np.float64)

    def _mixed(self, own: Floats, beyond: Floats) -> "_Atoms":
        """Return the distribution with these shares beyond the edges; inside a cell, the pool's scores and its own."""
        mass = -np.diff(np.concatenate(([1.0], beyond, [0.0])))
        cell, own_cell = (np.searchsorted(self.edges, one, side="right") for one in (self.values, own))
        of_pool = np.bincount(cell, weights=self.weights, minlength=len(mass))
        count = np.bincount(own_cell, minlength=len(mass)).astype(np.float64)
        mixed = count / (count + INSIDE)
        mixed[of_pool <= 0.0] = 1.0
        pooled = self.weights * ((1.0 - mixed) * mass / np.maximum(of_pool, 1e-300))[cell]
        owned = (mixed * mass / np.maximum(count, 1.0))[own_cell]
        return _Atoms(np.concatenate((self.values, own)), np.concatenate((pooled, owned)))


class _Atoms(Struct, frozen=True, eq=False):
    """A distribution by scores and the weight of each."""

    values: Floats
    weights: Floats

    def knots(self, samples: int, reference: Reference) -> tuple[Floats, Floats]:
        values, which = np.unique(self.values, return_inverse=True)
        weights = np.bincount(which.reshape(-1), weights=self.weights)
        values, weights = values[weights > 0.0], weights[weights > 0.0]
        weights = weights / weights.sum()
        levels = np.clip(np.cumsum(weights) - 0.5 * weights, 0.0, 1.0)
        rising = np.concatenate(([True], levels[1:] > np.maximum.accumulate(levels)[:-1]))  # a weight may round to none
        return knots_of(values[rising], levels[rising], samples, reference)


def _maybe(scores: ArrayLike) -> Floats:
    sample = np.asarray(scores, dtype=np.float64).reshape(-1)
    return sound_scores(sample) if sample.size else sample


def _edges(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the scores at which cells begin, and the pool's share at or above each."""
    above = np.concatenate((np.cumsum(weights[::-1])[::-1], [0.0]))
    wanted = np.array([*BODY, *TAIL])
    wanted = wanted[wanted * len(values) >= EDGE_EVENTS]
    # the smallest score at or above which lies no more than was wanted
    place = np.searchsorted(-above, -wanted - 1e-12)
    edges = np.unique(values[place[place < len(values)]])
    share = above[np.searchsorted(values, edges, side="left")]
    inside = share < 1.0 - 1e-9
    edges, share = edges[inside], share[inside]
    if not len(edges):
        return np.array([float(values[-1])]), np.array([min(float(share[0]) if len(share) else 0.5, 0.5)])
    return edges, share


def _beyond(ascending: Floats, edges: Floats) -> Floats:
    """Return how many scores there are, and how many at or above each edge."""
    found = len(ascending) - np.searchsorted(ascending, edges, side="left")
    return np.concatenate(([len(ascending)], found)).astype(np.float64)


def _run_counts(sample: Floats, runs: int, edges: Floats) -> Floats:
    """Return the same for each of some runs of equal length."""
    run = len(sample) // runs
    cell = np.searchsorted(edges, sample, side="right") + np.repeat(np.arange(runs), run) * (len(edges) + 1)
    table = np.bincount(cell, minlength=runs * (len(edges) + 1)).reshape(runs, -1)
    return np.asarray(np.cumsum(table[:, ::-1], axis=1)[:, ::-1], dtype=np.float64)


def _chances(beyond: Floats) -> Floats:
    return np.asarray(np.clip(beyond / np.concatenate(([1.0], beyond[:-1])), 1e-6, 1.0 - 1e-6), dtype=np.float64)


def _covariance(samples: Sequence[Floats], edges: Floats, beyond: Floats) -> Floats:
    """Return how `h` varies between tenants: first halves against second halves, made positive, with its own part."""
    chance = _chances(beyond)
    telling = [one for one in samples if len(one) >= LEARNED_FROM]
    size = len(edges)
    if len(telling) < FEWEST_TENANTS:
        return COMMON * np.ones((size, size)) + USUAL * np.eye(size)
    halves = []
    for sample in telling:
        middle = len(sample) // 2
        for part in (sample[:middle], sample[middle:]):
            counts = _beyond(np.sort(part), edges)
            halves.append(_logit((counts[1:] + HALF * chance) / (counts[:-1] + HALF)) - _logit(chance))
    table = np.array(halves).reshape(len(telling), 2, size)
    table = table - table.mean(axis=0)
    across = np.einsum("tj,tk->jk", table[:, 0], table[:, 1]) / (len(telling) - 1)
    roots, vectors = np.linalg.eigh(0.5 * (across + across.T))
    positive = (vectors * np.maximum(roots, 0.0)) @ vectors.T
    scale = max(float(np.trace(positive)) / size, LEAST_VARIANCE)
    return np.asarray(positive + UNEXPLAINED * scale * np.eye(size), dtype=np.float64)


def _maximum(base: Floats, trials: Floats, hits: Floats, covariance: Floats) -> Floats:
    """Return the `h` of the highest posterior: Newton's method on a concave function, never a step down."""
    precision = np.linalg.inv(covariance)
    h = np.zeros(len(base))

    def height(at: Floats) -> float:
        return float((hits * (base + at) - trials * np.logaddexp(0.0, base + at)).sum() - 0.5 * at @ precision @ at)

    best = height(h)
    for _ in range(STEPS):
        chance = _logistic(base + h)
        slope = hits - trials * chance - precision @ h
        step = np.linalg.solve(precision + np.diag(trials * chance * (1.0 - chance)), slope)
        length = 1.0
        while length > SMALLEST_STEP and (reached := height(h + length * step)) < best:
            length /= 2.0
        if length <= SMALLEST_STEP:
            break
        gain, best, h = reached - best, reached, h + length * step
        if gain < SETTLED:
            break
    return h


def _logit(p: Floats) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0))), dtype=np.float64)
