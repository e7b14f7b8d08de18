"""Write the Grafana dashboard beside this file: `python deploy/grafana/dashboard.py`; `--check`: is it up to date?

Rows of panels, each a title, a unit and its queries; where a panel stands follows from their order. Metrics are those
of docs/metrics.md, recorded ones of deploy/prometheus/alerts.yaml.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 24, 8
OF = 'tenant=~"$tenant"'
ROLE = "on (instance, slot) group_left (role) muse_worker_info"


@dataclass(frozen=True)
class Panel:
    """One panel: queries are pairs of PromQL and legend; `stat` shows the last number alone."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    stat: bool = False
    stacked: bool = False
    red: float | None = None
    """From this value on it is red."""


def _latency(quantile: float) -> tuple[str, str]:
    found = f"histogram_quantile({quantile}, sum by (le) (rate(muse_answer_latency_seconds_bucket[$__rate_interval])))"
    return found, f"p{100 * quantile:g}"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Now",
        (
            Panel(
                "Events answered",
                "reqps",
                ((f'sum(rate(muse_events_committed_total[$__rate_interval]) * {ROLE}{{role="live"}})', "events"),),
                stat=True,
            ),
            Panel(
                "Late (over 1 s), last hour",
                "percentunit",
                (("muse:answers_late:ratio_rate1h", "late"),),
                "The objective is 0.1 % over 30 days.",
                stat=True,
                red=0.001,
            ),
            Panel(
                "Oldest unscored event",
                "s",
                (('max(muse:tenant_oldest_unscored_age_seconds:max{role="live"})', "age"),),
                stat=True,
                red=60,
            ),
            Panel(
                "Tenants paused",
                "none",
                (("count(max by (tenant) (muse_tenant_paused) == 1) or vector(0)", "tenants"),),
                stat=True,
                red=1,
            ),
            Panel("Workers", "none", (("sum(muse_worker_up)", "up"),), stat=True),
            Panel("Generation", "none", (("max(muse_generation)", "served"),), stat=True),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                "From event to answer",
                "s",
                (_latency(0.5), _latency(0.99), _latency(0.999)),
                "From an event's Kafka timestamp to the commit of its answer.",
                red=1,
            ),
            Panel(
                "Stages of a batch, mean",
                "s",
                (
                    (
                        "sum by (stage) (rate(muse_stage_seconds_sum[$__rate_interval]))"
                        " / sum by (stage) (rate(muse_stage_seconds_count[$__rate_interval]))",
                        "{{stage}}",
                    ),
                ),
                "commit and wait are Kafka's time.",
                stacked=True,
            ),
            Panel(
                "Error budget: share of late answers",
                "percentunit",
                (
                    ("muse:answers_late:ratio_rate5m", "5 min"),
                    ("muse:answers_late:ratio_rate1h", "1 h"),
                    ("muse:answers_late:ratio_rate6h", "6 h"),
                ),
                red=0.0144,
            ),
        ),
    ),
    (
        "Tenants",
        (
            Panel("Events waiting", "short", ((f"muse:tenant_lag_events:sum{{{OF}}}", "{{tenant}} {{role}}"),)),
            Panel(
                "Oldest unscored event",
                "s",
                ((f"muse:tenant_oldest_unscored_age_seconds:max{{{OF}}}", "{{tenant}} {{role}}"),),
                red=60,
            ),
            Panel(
                "Scores",
                "reqps",
                ((f"sum by (tenant) (rate(muse_scores_total{{{OF}}}[$__rate_interval]))", "{{tenant}}"),),
            ),
            Panel(
                "Dead letters",
                "reqps",
                (
                    (
                        f"sum by (tenant, reason) (rate(muse_dead_letters_total{{{OF}}}[$__rate_interval]))",
                        "{{tenant}} {{reason}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Promises and promotion",
        (
            Panel(
                "Who answers",
                "percentunit",
                (
                    (
                        f"sum by (predictor) (rate(muse_scores_total{{{OF}}}[$__rate_interval]))"
                        f" / ignoring (predictor) group_left () sum(rate(muse_scores_total{{{OF}}}[$__rate_interval]))",
                        "{{predictor}}",
                    ),
                ),
                "Live answers by predictor: a promotion is seen here.",
                stacked=True,
            ),
            Panel(
                "Who shadows",
                "reqps",
                ((f"sum by (predictor) (rate(muse_shadow_scores_total{{{OF}}}[$__rate_interval]))", "{{predictor}}"),),
            ),
            Panel(
                "Alert rate less its promise",
                "percentunit",
                (
                    (
                        f"sum by (predictor, threshold) (rate(muse_scores_at_or_above_total{{{OF}}}[30m]))"
                        f" / on (predictor) group_left () sum by (predictor) (rate(muse_scores_total{{{OF}}}[30m]))"
                        " - on (predictor, threshold) group_left ()"
                        " max by (predictor, threshold) (muse_promised_alert_ratio)",
                        "{{predictor}} at {{threshold}}",
                    ),
                ),
                "Over half an hour; 0 is as promised.",
            ),
            Panel(
                "Shadow agrees with live",
                "percentunit",
                (
                    (
                        f"sum by (predictor, threshold) (rate(muse_shadow_agreements_total{{{OF}}}[30m]))"
                        " / on (predictor) group_left ()"
                        f" sum by (predictor) (rate(muse_shadow_scores_total{{{OF}}}[30m]))",
                        "{{predictor}} at {{threshold}}",
                    ),
                ),
                "Share of events on the same side of the threshold.",
            ),
        ),
    ),
    (
        "Kafka",
        (
            Panel(
                "Transactions",
                "ops",
                (("sum by (outcome) (rate(muse_transactions_total[$__rate_interval]))", "{{outcome}}"),),
            ),
            Panel(
                "Given up, by reason",
                "ops",
                (("sum by (code) (rate(muse_aborts_total[$__rate_interval]))", "{{code}}"),),
            ),
            Panel(
                "What the group does", "short", (("sum by (kind) (increase(muse_rebalances_total[5m]))", "{{kind}}"),)
            ),
            Panel(
                "Hanging, removed, undecided",
                "short",
                (
                    ("sum(muse_transactions_hanging)", "hanging partitions"),
                    ("sum(muse_tenant_removed_unread_events)", "removed unread"),
                    ("sum(muse_tenant_undecided_events)", "undecided"),
                ),
                red=1,
            ),
        ),
    ),
    (
        "Workers",
        (
            Panel(
                "CPU of a worker",
                "percentunit",
                (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}} {{slot}}"),),
            ),
            Panel("Resident memory", "bytes", (("process_resident_memory_bytes", "{{instance}} {{slot}}"),)),
            Panel(
                "Generation",
                "none",
                (("muse_generation", "{{instance}} {{slot}}"), ("max(muse_generation_refused)", "refused")),
            ),
            Panel(
                "Loading and taking up a generation",
                "s",
                (
                    ("max(muse_generation_load_seconds)", "load"),
                    (
                        "histogram_quantile(1, sum by (le) (rate(muse_generation_swap_seconds_bucket[5m])))",
                        "swap, worst",
                    ),
                ),
            ),
        ),
    ),
    (
        "Drift",
        (
            Panel(
                "Drifted",
                "none",
                ((f"max by (tenant, predictor) (muse_drifted{{{OF}}})", "{{tenant}} {{predictor}}"),),
                red=1,
            ),
            Panel(
                "Population stability index",
                "none",
                ((f"max by (tenant, predictor) (muse_drift_psi{{{OF}}})", "{{tenant}} {{predictor}}"),),
                red=0.2,
            ),
            Panel("Counted, not stored yet", "short", (("sum by (lane) (muse_calibrate_rows_waiting)", "{{lane}}"),)),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        width, height = WIDTH // len(row), HEIGHT // 2 if row[0].stat else HEIGHT
        for place, panel in enumerate(row):
            at = {"x": place * width, "y": top + 1, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": at, **_panel(panel)})
        top += 1 + height
    return {
        "uid": "muse-stream",
        "title": "muse-stream",
        "description": "Made by deploy/grafana/dashboard.py; runbooks: docs/runbooks.md",
        "tags": ["muse-stream"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_source(), _tenants()]},
        "annotations": {"list": [_generations()]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if "less" in panel.title:
        del defaults["min"]
    if not panel.stat:
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        line = {"mode": "line" if panel.red is not None else "off"}
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 5,
            "stacking": stacking,
            "thresholdsStyle": line,
            "showPoints": "never",
        }
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.stat
        else {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _tenants() -> dict[str, Any]:
    return {
        "name": "tenant",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(muse_tenant_paused, tenant)", "refId": "tenant"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _generations() -> dict[str, Any]:
    return {
        "name": "generations",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": "max(muse_generation) > max(muse_generation offset 30s)",
        "step": "30s",
        "titleFormat": "another generation",
        "textFormat": "generation {{value}}",
    }


def main() -> int:
    """Write the file; with `--check` say whether it is what would be written."""
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" in sys.argv:
        return int(text != FILE.read_text(encoding="utf-8"))
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
