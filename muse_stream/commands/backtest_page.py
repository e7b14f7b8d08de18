"""What a backtest found, as one HTML file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from muse_stream.commands import html_file
from muse_stream.commands.backtest_report import Backtest
from muse_stream.report import Backtested, Compared, Fact, Measured, Policy, Step, backtest_html

LABELLED: Final = {
    "recall_at_0.1_false_positives": "Recall at 0.1 % FP",
    "recall_at_1_false_positives": "Recall at 1 % FP",
    "recall_at_5_false_positives": "Recall at 5 % FP",
    "average_precision": "Average precision",
    "expected_calibration_error": "ECE",
}
MEASURES: Final = {
    "population_stability_index": "PSI", "kolmogorov_smirnov": "KS", **LABELLED, "brier_score": "Brier",
}  # fmt: skip


def write(found: Backtest, path: Path) -> int:
    """Write the page to `path`, which appears whole or not at all; return its bytes. Raises MuseError."""
    text = backtest_html(page(found)).encode()
    html_file.write(path, text)
    return len(text)


def page(found: Backtest) -> Backtested:
    """Return what the page says."""
    judged = sum(one.judged for one in found.periods)
    facts = [
        Fact("File", found.file),
        Fact("Events", f"{found.events:,}, {sum(one.positives for one in found.periods):,} of them positive"),
        Fact("Periods", f"{judged} judged; the first is fitted to"),
        Fact("Predictors", ", ".join(dict.fromkeys(one.predictor for one in found.periods))),
        Fact("Tenants", ", ".join(found.tenants)),
    ]
    left_out = [f"{found.rejected:,} events could not be scored and are left out"] if found.rejected else []
    names = dict.fromkeys(name for policy in found.policies.values() for name in policy["tenants"])
    return Backtested(
        f"Backtest of {Path(found.file).name}",
        datetime.now(UTC),
        facts,
        list(found.thresholds.items()),
        list(MEASURES.values()),
        _compared("", {name: one["overall"] for name, one in found.policies.items()}, found.hindsight),
        [
            _compared(
                tenant, {n: one["tenants"][tenant] for n, one in found.policies.items() if tenant in one["tenants"]}
            )
            for tenant in names
        ],
        [Step(one.begins, one.ends, one.predictor, one.events, one.positives, one.judged) for one in found.periods],
        list(LABELLED.values()),
        [(name, _measures(one, LABELLED)) for name, one in found.experts.items()],
        [*left_out, *found.notes],
    )


def _compared(name: str, found: Mapping[str, Any], hindsight: Mapping[str, Any] | None = None) -> Compared:
    policies = [
        Policy(policy, _errors(one["median_errors"]), _measures(one, MEASURES)) for policy, one in found.items()
    ]
    some = next(iter(found.values()))
    noise = [one["noise"] for one in found.get("last", some)["median_errors"]]
    return Compared(name, some["events"], policies, noise, _errors(hindsight["median_errors"]) if hindsight else ())


def _errors(found: Sequence[Mapping[str, Any]]) -> list[Measured]:
    return [Measured(one["median_error"], *one["interval"]) for one in found]


def _measures(one: Mapping[str, Any], names: Mapping[str, str]) -> list[Measured]:
    return [Measured(one[name], *one["intervals"].get(name, ())) for name in names]
