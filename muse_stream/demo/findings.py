"""What a guided run found: the facts behind the tables, and behind the exit code.

A run is good only if there is no problem at all; the same facts decide, are shown, and are given to machines (JSON).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muse_stream.calibration import Move
from muse_stream.demo.comparison import Row
from muse_stream.demo.guarded import Guarded
from muse_stream.demo.ledger import Ledger
from muse_stream.demo.refreshing import Refreshed
from muse_stream.verify import Report

AROUND_MS = 2_000
"""How far around a promotion the longest pause between two batches of scores is looked for."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """How a new generation took over."""

    generation: int
    first_score_s: float
    """From publishing it to the first score that it gave."""
    all_scores_s: float
    """From publishing it to the last score of the generation before."""
    longest_pause_s: float
    """Between two batches of live scores, from 2 s before it was published to 2 s after."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything counted, over all tenants."""

    sent: int
    broken: int
    """Of these, cut short on purpose."""
    scored: int
    audited: int
    """Audit records: two for each event, of one shadow predictor each, once the retrained model shadows."""
    dead_letters: int
    shadowed: int
    """Events that live and shadow workers answered under the same generation."""
    same_bits: int
    """Of these, how many audit records repeat the live score bit for bit."""
    strangers: int
    """Answers to events that were never sent."""
    late_s: float
    """How far behind its schedule the latest event was sent."""


@dataclass(frozen=True, slots=True)
class Findings:
    """One guided run."""

    title: str
    kafka: str
    seconds: float
    rows: Sequence[Row]
    promotion: Promotion
    totals: Totals
    reports: Sequence[Report]
    exit_codes: Mapping[str, int]
    """Role -> how its workers ended."""
    guarded: Guarded
    refreshed: Refreshed | None = None
    """What became of the drift, where the run has that chapter."""

    def problems(self) -> list[str]:
        """Return everything that was promised and not kept."""
        found = [
            f"{one.topic}: {finding.count:,} {finding.kind.replace('_', ' ')} ({', '.join(finding.examples[:3])})"
            for one in self.reports
            for finding in one.findings
        ]
        for row in self.rows:
            if row.verdict == "MOVED":
                worse = row.promotion if not row.promotion.kept else row.total
                found.append(
                    f"{row.tenant}: the alert rate at {row.threshold:g} moved by {100 * worse.by:+.2f} points, "
                    f"{100 * worse.allowed:.2f} are within its sampling error"
                )
        events = sum(one.events for one in self.reports)
        dead = sum(one.dead_letters for one in self.reports)
        counts = self.totals
        if events != counts.sent:
            found.append(f"{counts.sent:,} events were sent, the topics hold {events:,}")
        if dead != counts.broken:
            found.append(f"{dead:,} dead letters for {counts.broken:,} records that were broken on purpose")
        if counts.same_bits != counts.shadowed:
            found.append(f"{counts.shadowed - counts.same_bits:,} audit records give another live score than the topic")
        if counts.strangers:
            found.append(f"{counts.strangers:,} answers to events that were never sent")
        found += [f"the {role} workers ended with code {code}" for role, code in self.exit_codes.items() if code]
        return [*found, *(self.refreshed.problems() if self.refreshed else ())]

    def to_json(self) -> dict[str, Any]:
        """Return all facts as plain data."""
        problems = self.problems()
        return {
            "ok": not problems,
            "problems": problems,
            "title": self.title,
            "kafka": self.kafka,
            "seconds": round(self.seconds, 2),
            "alert_rates": [_row(row) for row in self.rows],
            "promotion": asdict(self.promotion),
            "totals": asdict(self.totals),
            "verify": [{**asdict(report), "ok": report.ok} for report in self.reports],
            "exit_codes": dict(self.exit_codes),
            "promote": self.guarded.to_json(),
            "refresh": asdict(self.refreshed) if self.refreshed else None,
        }


def promotion(ledger: Ledger, generation: int, published_ms: int) -> Promotion:
    """Measure how `generation` took over from the one before, by the clock of the workers."""
    times = {number: np.concatenate(parts) for number, parts in ledger.scored_at.items()}
    everything = np.unique(np.concatenate(list(times.values())))
    near = everything[np.abs(everything - published_ms) <= AROUND_MS]
    return Promotion(
        generation,
        float(times[generation].min() - published_ms) / 1000,
        float(times[generation - 1].max() - published_ms) / 1000,
        float(np.diff(near).max(initial=0)) / 1000,
    )


def _row(row: Row) -> dict[str, Any]:
    plain = asdict(row)
    for name in ("total", "promotion", "bare"):
        one: Move = getattr(row, name)
        plain[name] = {"by": one.by, "error": one.error, "allowed": one.allowed, "z": one.z, "kept": one.kept}
    return {**plain, "verdict": row.verdict}
