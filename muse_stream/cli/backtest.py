"""`backtest`: which policy would have kept the promise on history?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.moments import duration_s, moment_ms
from muse_stream.cli.options import Columns, Json, pairs
from muse_stream.cli.output import note, progress, say, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from muse_stream.commands.backtest_report import Backtest

ScoreColumn = Annotated[
    str | None, typer.Option("--score", metavar="COLUMN", help="Take scores from a column; no model runs.")
]
ReferenceName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Reference of the configuration; default: the predictors' own.")
]
ThresholdList = Annotated[str | None, typer.Option(metavar="LIST", help="Thresholds to look at, rising: 0.2,0.5,0.8.")]
To = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Also write a report: one HTML file, per tenant as well.")
]
Listed = Annotated[list[str] | None, typer.Option("--predictor", metavar="NAME[@TIME]", help="Repeat: see above.")]


def backtest(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled history: Parquet, CSV or JSON lines.")],
    config: Annotated[
        str, typer.Option("--config", metavar="CONFIG", help="Configuration file, or a generation store.")
    ],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Column of labels, 0 and 1.")],
    time: Annotated[str, typer.Option(metavar="COLUMN", help="Column of times; the file is sorted by it.")],
    tenant: Annotated[str, typer.Option(metavar="COLUMN", help="Column of tenants.")],
    predictor: Listed = None,
    score: ScoreColumn = None,
    period: Annotated[str, typer.Option(help="Length of a period, such as 7d or 12h.")] = "7d",
    reference: ReferenceName = None,
    thresholds: ThresholdList = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="TENANT", help="Repeat: these tenants.")] = None,
    column: Columns = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Go on where more than half a period is without events.")
    ] = False,
    to: To = None,
    as_json: Json = False,
) -> None:
    """Walk forward over labelled history and compare policies for quantile maps.

    In each period, maps are fitted to what was known when it began (the first period is only fitted to), and events are
    scored as workers score them. Policies: raw (no correction, no map), corrected (no map), kept (the first map for
    ever), last (a map of the last period), expanding (of all before), pooled (one for all tenants), shrinkage (between
    pooled and own), refresh (fitted anew where an alert rate has moved). Nothing is trained: name several predictors
    with times, and each serves from the first period that begins at its time or later.

    Examples:

    ```
    muse-stream backtest history.parquet --config muse.yaml --label is_fraud --time event_time --tenant tenant
    muse-stream backtest history.parquet --config muse.yaml --label is_fraud --time event_time --tenant tenant \
        --predictor cards-v1 --predictor cards-v2@2026-03-01 --period 14d --json
    muse-stream backtest scores.csv --config muse.yaml --label y --time t --tenant tenant --score score
    muse-stream backtest scores.csv --config muse.yaml --label y --time t --tenant tenant --score score --to report.html
    ```

    What each measure means, and how far it can be trusted: docs/backtest.md. Exit code 1 for a file that is not what
    was said of it.
    """
    from muse_stream.commands.backtest import backtest as run_backtest  # noqa: PLC0415 - loads every vendor
    from muse_stream.commands.backtest_plan import Question  # noqa: PLC0415

    write = _page(to)  # refused before the walk, which may take an hour
    question = Question(
        label=label,
        time=time,
        tenant=tenant,
        predictors=[_serving(text) for text in predictor or []],
        period_ms=max(1, round(1_000 * duration_s(period, "--period"))),
        reference=reference,
        thresholds=_numbers(thresholds),
        only=tuple(dict.fromkeys(only or [])),
        columns=pairs(column, "--column"),
        score=score,
        allow_gaps=allow_gaps,
    )
    with progress(f"events of {file.name}") as update:
        found = run_backtest(config, file, question, update)
    write(found)
    if as_json:
        show_json(found.to_json())
        return
    _show(found)


def _page(to: Path | None) -> "Callable[[Backtest], None]":
    """Return what writes the report; nothing is written without `to`."""
    if to is None:
        return lambda _found: None
    from muse_stream.commands import backtest_page, html_file  # noqa: PLC0415 - it loads matplotlib

    html_file.check(to)
    return lambda found: note(f"{to}: {backtest_page.write(found, to) / 1000:,.0f} kB")


def _serving(text: str) -> tuple[str, int]:
    name, at, moment = text.partition("@")
    return name, moment_ms(moment, "--predictor") if at else 0


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(",")) if text else ()
    except ValueError:
        what = f"'{text}' is no list of numbers such as 0.2,0.5,0.8"
        raise typer.BadParameter(what, param_hint="--thresholds") from None


def _show(found: "Backtest") -> None:
    judged = sum(one.judged for one in found.periods)
    positive = sum(one.positives for one in found.periods)
    say(
        f"{found.events:,} events, {positive:,} positive, {len(found.tenants)} tenants, {judged} periods judged "
        f"(the first is fitted to), {found.seconds:.1f} s"
    )
    medians = {name: policy["overall"]["median_errors"] for name, policy in found.policies.items()}
    errors = [{"policy": name, **{_at(one): _share(one) for one in some}} for name, some in medians.items()]
    hindsight = found.hindsight["median_errors"]
    errors += [{"policy": "(hindsight)", **{_at(one): _share(one) for one in hindsight}}] if hindsight else []
    errors.append({"policy": "(chance alone)", **{_at(one): f"{100 * one['noise']:.2g} %" for one in medians["last"]}})
    title = "median error of alert rates over tenants and periods, relative to the promise (95 % interval)"
    show_table(title, errors, right=list(errors[0])[1:])
    rows = [{"policy": name, **_measures(policy["overall"])} for name, policy in found.policies.items()]
    show_table("over all tenants and periods judged", rows, right=list(rows[0])[1:])
    if found.experts:
        experts = [{"expert": name, **_labelled(one)} for name, one in found.experts.items()]
        show_table("experts, as they answer and corrected", experts, right=list(experts[0])[1:])
    if found.rejected:
        note(f"{found.rejected:,} events could not be scored and are left out")
    for one in found.notes:
        note(one)


def _at(one: dict[str, Any]) -> str:
    return f"{100 * one['promised']:.3g} % at {one['threshold']:g}"


def _share(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return f"{100 * one['median_error']:.3g} % ({100 * low:.2g}-{100 * high:.2g})"


def _measures(one: dict[str, Any]) -> dict[str, str]:
    return {
        "PSI": f"{one['population_stability_index']:.4f}",
        "KS": f"{one['kolmogorov_smirnov']:.4f}",
        **_labelled(one),
        "Brier": f"{one['brier_score']:.4g}",
    }


def _labelled(one: dict[str, Any]) -> dict[str, str]:
    names = {
        "recall_at_0.1_false_positives": "recall at 0.1 % FP",
        "recall_at_1_false_positives": "recall at 1 % FP",
        "recall_at_5_false_positives": "recall at 5 % FP",
        "average_precision": "average precision",
        "expected_calibration_error": "ECE",
    }
    return {shown: _interval(one, name) for name, shown in names.items()}


def _interval(one: dict[str, Any], name: str) -> str:
    if one[name] is None:
        return "one class only"
    low, high = one["intervals"][name]
    return f"{one[name]:.4g} ({low:.4g}-{high:.4g})"
