"""Has an alert rate left its band since a promotion? A test that may be asked again and again.

Takes a tenant's events one batch after the other, each scored by the predictor that was promoted and by the one it
replaced, with the entity (card, customer) it belongs to. Gives a `Verdict` per threshold, whenever it is asked:

    moved    new - old, on the same events, is larger than the tolerance, away from the promise: the *predictor* has
             moved the rate. A move towards the promise harms nobody.
    stream   the new rate is further from the promise than the tolerance, and it is not known that the predictor did
             it: the stream has changed, and going back would not help.

Each is decided by a confidence sequence, which holds at all times at once: looking again costs nothing. For a sum S
of n differences with mean m and estimated variance V, with probability 1 - alpha for all n,

    |S - n m| <= sqrt((V + RHO) * log((V + RHO) / (RHO * alpha^2)))

This is Robbins' normal mixture (Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 49(2)) with an estimated variance (Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6)). V is
that of sums per entity, as in `alert_rates`, never less than that of independent events; squares are taken around
what is allowed, not around the mean, so that a window that holds little but the burst of one card is no proof.

A drift may begin long after the promotion, and an average since then would hide it. So a new sequence starts with every
BLOCK events (Shekhar and Ramdas 2023, "Reducing sequential change detection to sequential estimation"); the k-th gets
alpha / (k (k + 1)), which sums to alpha over all of them, for ever. Older starts are thinned out, and blocks between
two that are left become one: memory grows with the logarithm of the events, times the entities.

Everything is pure: no clock, no random number.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

RHO = 5.0
"""Of the mixture: bounds are tightest where V is about 35 RHO."""
BLOCK = 500
"""Events after which another sequence starts."""
KEPT = 8
"""Starts that are kept of each age; twice as old, half as many."""

Scores = NDArray[np.float64]
Entities = NDArray[np.int64]


class Verdict(Struct, frozen=True):
    """What is known about one threshold, over the window that says most."""

    threshold: float
    promised: float
    events: int
    """In the window."""
    entities: int
    new: float
    """Alert rate of the promoted predictor."""
    old: float
    """That of the predictor it replaced, on the same events."""
    margin: float
    """new - old is known to within so much, at all times at once."""
    moved: bool
    """Whether the promoted predictor has moved the rate out of its band."""
    stream: bool
    """Whether the rate has left its band, and the predictor it replaced does not tell that it was the promotion."""


class _Block(Struct):
    """Sums per entity over some consecutive events. Columns: new less old at each threshold, then new."""

    start: int
    """Number of the sequence that starts with it, from 1."""
    span: int
    """Blocks that were joined in it."""
    entities: Entities
    events: NDArray[np.int64]
    """[entities]"""
    sums: NDArray[np.int64]
    """[entities, columns]"""
    squares: NDArray[np.int64]
    """[columns] the sum of squares of single events."""


class AlertWatch(Struct):
    """One tenant. `alpha`: how probable a false alarm is at any threshold, at any time; for `stream` once more."""

    promised: Mapping[float, float]
    """Threshold -> promised alert rate."""
    tolerance: float
    """Share of a promised rate by which it may move."""
    alpha: float
    events: int = 0
    _blocks: list[_Block] = field(default_factory=list)
    _open: list[tuple[Scores, Scores, Entities]] = field(default_factory=list)
    _waiting: int = 0
    _starts: int = 0
    _codes: int = 0

    def add(self, new: Scores, old: Scores, entities: Entities) -> None:
        """Take more events, in the order in which they were scored; `entities` are codes, counted from 0."""
        self.events += len(new)
        while len(new) and self.promised:
            room = BLOCK - self._waiting
            self._open.append((new[:room], old[:room], entities[:room]))
            self._waiting += len(new[:room])
            new, old, entities = new[room:], old[room:], entities[room:]
            if self._waiting == BLOCK:
                self._blocks.append(self._block())
                self._open, self._waiting, self._starts = [], 0, self._starts + 1
                self._thin()

    def verdicts(self) -> list[Verdict]:
        """Say what is known now, for each threshold: of all windows, the one that speaks loudest."""
        blocks = [*self._blocks, *([self._block()] if self._waiting else [])]
        return self._judged(blocks) if blocks else []

    def _block(self) -> _Block:
        new, old, who = (np.concatenate(parts) for parts in zip(*self._open, strict=True))
        levels = np.array(list(self.promised))
        alerts = (new[:, None] >= levels).astype(np.int64)
        values = np.concatenate([alerts - (old[:, None] >= levels), alerts], axis=1)
        self._codes = max(self._codes, int(who.max()) + 1)
        return _Block(self._starts + 1, 1, *_summed(who, np.ones(len(who), np.int64), values), (values**2).sum(axis=0))

    def _thin(self) -> None:
        """Join neighbours of one span where more than KEPT have it, the oldest first."""
        span = 1
        while sum(one.span == span for one in self._blocks) > KEPT + 1:
            at = next(number for number, one in enumerate(self._blocks) if one.span == span)
            self._blocks[at : at + 2] = [_joined(self._blocks[at], self._blocks[at + 1])]
            span *= 2

    def _judged(self, blocks: list[_Block]) -> list[Verdict]:
        """Go from the newest event back to the first; every block begins a window."""
        promised = np.array(list(self.promised.values()))
        levels = len(promised)
        band = self.tolerance * promised
        # not the mean: one card's burst would explain itself
        low, high = np.concatenate([-band, promised - band]), np.concatenate([band, promised + band])
        floor = np.concatenate([np.zeros(levels), promised * (1 - promised)])  # too few alerts do not look certain
        size, total = np.zeros(self._codes), np.zeros((self._codes, 2 * levels))
        sizes, n, seen = 0.0, 0, 0
        sums, squares, products, single = (np.zeros(2 * levels) for _ in range(4))
        best: dict[int, tuple[tuple[bool, bool, float], Verdict]] = {}
        for block in reversed(blocks):
            who = block.entities
            was, by = size[who], total[who]
            now, to = was + block.events, by + block.sums
            size[who], total[who] = now, to
            seen += int((was == 0).sum())
            sizes += float((now**2 - was**2).sum())
            squares += (to**2 - by**2).sum(axis=0)
            products += (to * now[:, None] - by * was[:, None]).sum(axis=0)
            n, sums, single = n + int(block.events.sum()), sums + block.sums.sum(axis=0), single + block.squares
            mean = sums / n
            centre = np.clip(mean, low, high)
            grouped = squares - 2 * centre * products + centre**2 * sizes
            alone = single - 2 * centre * sums + n * centre**2
            variance = np.maximum(np.maximum(grouped, alone), n * floor)
            alpha = self.alpha / levels / (block.start * (block.start + 1))
            margin = np.sqrt((variance + RHO) * (np.log((variance + RHO) / RHO) - 2 * np.log(alpha))) / n
            moves, rates = mean[:levels], mean[levels:]
            certain = np.abs(moves) - margin[:levels] > band
            moved = certain & ((rates - promised) * np.sign(moves) > band)
            stream = (np.abs(rates - promised) - margin[levels:] > band) & ~moved
            loud = (np.abs(moves) - band) / margin[:levels]
            for at, threshold in enumerate(self.promised):
                key = bool(moved[at]), bool(stream[at]), float(loud[at])
                if at not in best or key > best[at][0]:
                    new, old = float(rates[at]), float(rates[at] - moves[at])
                    what = threshold, float(promised[at]), n, seen, new, old, float(margin[at]), key[0], key[1]
                    best[at] = key, Verdict(*what)
        return [best[at][1] for at in range(levels)]


def _summed(who: Entities, events: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[Entities, Any, Any]:
    """Return the entities, how many events each has, and the sums of its values."""
    entities, member = np.unique(who, return_inverse=True)
    member = member.reshape(-1)

    def summed(column: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(member, weights=column, minlength=len(entities)).astype(np.int64)

    return entities, summed(events), np.stack([summed(column) for column in values.T], axis=1)


def _joined(first: _Block, second: _Block) -> _Block:
    who, events, sums = (
        np.concatenate([getattr(one, name) for one in (first, second)]) for name in ("entities", "events", "sums")
    )
    summed = _summed(who, events, sums)
    return _Block(first.start, first.span + second.span, *summed, first.squares + second.squares)
