"""Draw the dashboard's panels with matplotlib, from its own queries to a Prometheus: where no Grafana can be had.

    python deploy/grafana/picture.py http://localhost:9095 docs/pictures/dashboard.png --minutes 15

The layout is that of dashboard.json; what Grafana adds (hovering, zoom, links) is not there.
"""

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import dates, pyplot

HERE = Path(__file__).parent
STEP_S = 5
CELL = (0.8, 0.34)
"""Inches of a grid cell."""


def asked(server: str, query: str, start: float, end: float) -> list[dict[str, Any]]:
    """Return the series of a query over a range of time."""
    text = query.replace("$__rate_interval", "30s").replace("$tenant", ".*")
    form = urllib.parse.urlencode({"query": text, "start": start, "end": end, "step": STEP_S})
    with urllib.request.urlopen(f"{server}/api/v1/query_range?{form}", timeout=30) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def legend(pattern: str, labels: dict[str, str]) -> str:
    """Fill in a legend as Grafana does."""
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern


def draw(panel: dict[str, Any], axes: Any, server: str, start: float, end: float) -> None:
    """Draw one panel."""
    axes.set_title(panel["title"], loc="left", fontsize=8)
    lines = []
    for target in panel["targets"]:
        for one in asked(server, target["expr"], start, end):
            times, values = zip(*((float(at), float(value)) for at, value in one["values"]), strict=True)
            lines.append((legend(target["legendFormat"], one["metric"]), times, values))
    if panel["type"] == "stat":
        axes.axis("off")
        last = [values[-1] for _, _, values in lines if not math.isnan(values[-1])]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        text = {"percentunit": lambda v: f"{v:.2%}", "s": lambda v: f"{v:.2f} s"}.get(unit, lambda v: f"{v:,.4g}")
        red = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        color = "red" if last and red is not None and last[0] >= red else "green"
        axes.text(0.5, 0.45, text(last[0]) if last else "no data", ha="center", va="center", fontsize=18, color=color)  # type: ignore[no-untyped-call]
        return
    if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal" and lines:
        every = sorted({at for _, times, _ in lines for at in times})
        filled = [[dict(zip(times, values, strict=True)).get(at, 0.0) for at in every] for _, times, values in lines]
        clean = [[0.0 if math.isnan(value) else value for value in values] for values in filled]
        axes.stackplot([at / 86400 for at in every], clean, labels=[name for name, _, _ in lines], alpha=0.6)
    else:
        for name, times, values in lines:
            axes.plot([at / 86400 for at in times], values, label=name, linewidth=1)
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.set_xlim(start / 86400, end / 86400)
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=5, loc="upper left", ncols=2, framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, fontsize=8, color="grey")


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="a Prometheus, as http://HOST:PORT")
    parser.add_argument("picture", type=Path, help="PNG to be written")
    parser.add_argument("--minutes", type=float, default=15.0)
    given = parser.parse_args()
    found = json.loads((HERE / "dashboard.json").read_text(encoding="utf-8"))
    end = time.time()
    start = end - 60 * given.minutes
    tall = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in found["panels"]) + 1
    figure = pyplot.figure(figsize=(24 * CELL[0], tall * CELL[1]), dpi=90)
    for panel in found["panels"]:
        at = panel["gridPos"]
        place = (
            at["x"] / 24 + 0.02,
            1 - (at["y"] + at["h"]) / tall + 0.006,
            at["w"] / 24 - 0.03,
            at["h"] / tall - 0.016,
        )
        if panel["type"] == "row":
            figure.text(0.005, 1 - (at["y"] + 0.8) / tall, panel["title"], fontsize=10, weight="bold")
        else:
            draw(panel, figure.add_axes(place), given.server, start, end)
    given.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.picture)


if __name__ == "__main__":
    main()
