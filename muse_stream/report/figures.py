"""The figures of a report: SVG whose colours are the page's, so that they follow light, dark and print.

matplotlib draws with colours that stand for names; they become CSS variables. Text stays text. Lines differ by dash and
marker too, so nobody needs to tell colours apart. Nothing that comes from data is drawn as text but numbers and days.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from muse_stream.report.backtested import Backtested
from muse_stream.report.content import Calibration, Days, Pair

LIVE, SHADOW, INK, GRID, PROMISE = "#010101", "#020202", "#030303", "#040404", "#050505"
COLOURS = {LIVE: "live", SHADOW: "shadow", INK: "ink", GRID: "grid", PROMISE: "promise"}
"""What matplotlib draws with -> the CSS variable that it becomes."""
LOOK: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "muse-stream",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,
}
SIZE = (4.6, 3.0)
ROW = 0.75
"""Height of each threshold's own panel over the days."""
FLOOR = 1e-4
"""The least error that is drawn on a logarithmic scale."""
Drawing = Callable[[Figure], None]


def spread(pair: Pair) -> str:
    """Draw both distributions."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        one = pair.spread
        axes.stairs(one.live, one.edges, color=LIVE, linewidth=1.6, label="live")
        axes.stairs(one.shadow, one.edges, color=SHADOW, linewidth=1.6, linestyle="--", label="shadow")
        for at in pair.thresholds:
            axes.axvline(at.threshold, color=PROMISE, linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        _logarithmic(axes.yaxis, (1, 2, 5))
        axes.set(xlabel="score", ylabel="share of events", xlim=(0, 1))
        axes.legend(loc="upper right")

    return _svg(draw)


def quantiles(pair: Pair) -> str:
    """Draw the quantiles of the shadow over those of the live predictor."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        one = pair.spread
        axes.plot([0, 1], [0, 1], color=PROMISE, linewidth=1, linestyle=":", label="equal")
        axes.plot(one.live_quantiles, one.shadow_quantiles, color=SHADOW, linewidth=1.6, marker=".", markersize=3)
        axes.set(xlabel="live score", ylabel="shadow score", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left")

    return _svg(draw)


def rates(pair: Pair) -> str:
    """Draw both alert rates with their intervals, as multiples of the promise where there is one."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        promised = all(one.promised for one in pair.thresholds)
        sides = (("live", LIVE, "o", -0.14), ("shadow", SHADOW, "s", 0.14))
        for name, colour, marker, shift in sides:
            found = [one.live if name == "live" else one.shadow for one in pair.thresholds]
            unit = np.array([one.promised or 1.0 for one in pair.thresholds])
            value, low, high = (
                np.array([getattr(one, part) for one in found]) / unit for part in ("value", "low", "high")
            )
            place = np.arange(len(found)) + shift
            axes.errorbar(
                value, place, xerr=[value - low, high - value], color=colour, marker=marker, markersize=5,
                linestyle="none", elinewidth=1.5, capsize=3, label=name,
            )  # fmt: skip
        if promised:
            axes.axvline(1.0, color=PROMISE, linewidth=1.2, linestyle=":")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: percent(value)))
        axes.set_yticks(range(len(pair.thresholds)), [f"{one.threshold:g}" for one in pair.thresholds])
        axes.set(ylabel="threshold", xlabel="alert rate, in % of the promise" if promised else "alert rate")
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.15)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)

    return _svg(draw)


def days(one: Days) -> str:
    """Draw the alert rate of each day, a panel for each threshold."""
    count = len(one.thresholds)

    def draw(figure: Figure) -> None:
        colour, marker, line = (LIVE, "o", "-") if one.role == "live" else (SHADOW, "s", "--")
        panels = np.atleast_1d(figure.subplots(count, 1, sharex=True))
        when = [day.day.replace(tzinfo=None) for day in one.days]
        for place, axes in enumerate(panels):
            found = [day.rates[place] for day in one.days]
            value = np.array([rate.value for rate in found])
            span = [value - [rate.low for rate in found], np.array([rate.high for rate in found]) - value]
            axes.errorbar(
                when,
                value,
                yerr=span,
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=3,
                linewidth=1.2,
                elinewidth=1,
            )
            promised = one.promised[place]
            if promised is not None:
                axes.axhline(promised, color=PROMISE, linewidth=1.2, linestyle=":")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: percent(value)))
            axes.set_ylabel(f"{one.thresholds[place]:g}", rotation=0, ha="right", va="center")
            axes.locator_params(axis="y", nbins=3)
        figure.autofmt_xdate(rotation=30)
        figure.supylabel("alert rate at threshold", fontsize=9, color=INK)

    return _svg(draw, (7.2, 1.0 + ROW * count))


def calibration(found: Sequence[Calibration]) -> str:
    """Draw the share of positives over the mean probability, bin by bin."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        least = min(float(one.score[one.score > 0].min()) for one in found if (one.score > 0).any())
        axes.plot([least, 1], [least, 1], color=PROMISE, linewidth=1, linestyle=":", label="true")
        for place, one in enumerate(found):
            colour, marker = (LIVE, "o") if place == 0 else (SHADOW, "s")
            shown = one.rate > 0
            error = [(one.rate - one.low)[shown], (one.high - one.rate)[shown]]
            axes.errorbar(
                one.score[shown], one.rate[shown], yerr=error, color=colour, marker=marker, markersize=4,
                linewidth=1.2, elinewidth=1, capsize=2, label="live" if place == 0 else "shadow",
                linestyle="-" if place == 0 else "--",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set(xlabel="mean probability", ylabel="share of positives")
        for axis in (axes.xaxis, axes.yaxis):
            _logarithmic(axis, (1,))
        axes.legend(loc="upper left")

    return _svg(draw)


def errors(found: Backtested) -> str:
    """Draw the median error of each policy with its interval, a panel for each threshold."""
    policies, count = found.overall.policies, len(found.thresholds)
    columns = min(4, count)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(-(-count // columns), columns, sharey=True, squeeze=False).ravel()
        for place, (threshold, promised) in enumerate(found.thresholds):
            axes, some = panels[place], [one.errors[place] for one in policies]
            value = np.array([FLOOR if one.value is None else max(one.value, FLOOR) for one in some])
            low = np.array([FLOOR if one.low is None else max(one.low, FLOOR) for one in some])
            high = np.array([FLOOR if one.high is None else max(one.high, FLOOR) for one in some])
            span = [np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)]
            axes.errorbar(
                value, range(len(some)), xerr=span, color=LIVE, marker="o", markersize=4, linestyle="none",
                elinewidth=1.2, capsize=2,
            )  # fmt: skip
            axes.axvline(max(found.overall.noise[place], FLOOR), color=PROMISE, linewidth=1.2, linestyle=":")
            axes.set_xscale("log")
            _logarithmic(axes.xaxis, (1,))
            axes.set_title(f"{percent(promised)} at {threshold:g}", fontsize=9)
            axes.set_yticks(range(len(some)), [one.name for one in policies])
        for axes in panels[count:]:
            axes.set_visible(False)
        panels[0].invert_yaxis()
        figure.supxlabel("median error of the alert rate, relative to the promise", fontsize=9, color=INK)

    return _svg(draw, (9.6, 0.9 + 2.3 * -(-count // columns)))


def _logarithmic(axis: Any, steps: Sequence[float]) -> None:
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _place: percent(value)))
    axis.set_minor_formatter(NullFormatter())


def percent(value: float) -> str:
    """Return a share as people read it."""
    return f"{100 * value:.3g} %"


def _svg(draw: Drawing, size: tuple[float, float] = SIZE) -> str:
    """Return what is drawn as an SVG element without identity: no size, no name, colours by name."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, name in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--font)", text)
    text = re.sub(
        r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', text
    )
    return _own_names(text).strip()


_number = iter(range(10**9))


def _own_names(text: str) -> str:
    """Leave out names that nothing refers to, and make the others differ from those of other figures."""
    used = set(re.findall(r"(?:url\(#|xlink:href=\"#)([\w-]+)", text))
    mark = f"f{next(_number)}-"

    def renamed(found: re.Match[str]) -> str:
        return f' id="{mark}{found[1]}"' if found[1] in used else ""

    text = re.sub(r' id="([^"]*)"', renamed, text)
    return re.sub(r"(url\(#|xlink:href=\"#)", rf"\g<1>{mark}", text)
