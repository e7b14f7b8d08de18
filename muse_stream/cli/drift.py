"""`drift`: has a tenant's stream left what it was promised?"""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.options import Json, Store
from muse_stream.cli.output import note, show_json, show_table
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from muse_stream.calibration import RateDrift
    from muse_stream.commands.drift import TenantDrift

Tenants = Annotated[list[str] | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant. Repeat it.")]
Days = Annotated[int | None, typer.Option("--days", min=1, max=62, help="Days of alert rates, counted from today.")]
Recent = Annotated[
    int | None, typer.Option("--recent", min=1, max=62, help="Days of the stability index and the distance.")
]
Tolerance = Annotated[
    float | None, typer.Option(min=0.0, help="Share of a promised alert rate by which it may move: 0.2 is a fifth.")
]
Stability = Annotated[float | None, typer.Option("--psi", min=0.0, help="Largest population stability index.")]
Distance = Annotated[
    float | None,
    typer.Option("--ks", min=0.0, max=1.0, help="Largest Kolmogorov-Smirnov distance from the reference."),
]
FalseAlarm = Annotated[
    float | None,
    typer.Option(min=1e-9, max=0.5, help="Probability of a false alarm in these days, of all tenants together."),
]


def drift(
    store: Store,
    tenant: Tenants = None,
    days: Days = None,
    recent: Recent = None,
    tolerance: Tolerance = None,
    psi: Stability = None,
    ks: Distance = None,
    false_alarm: FalseAlarm = None,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Show whether each tenant's scores still have the distribution that was promised, and what is certain of it.

    Reads what `run --role calibrate` has counted in the store. Of each threshold it shows the window that says most,
    since the tenant's map serves; the interval holds however often somebody looks, and all tenants, thresholds and
    looks together give a false alarm with a probability of 1 % (docs/drift.md). Days without counts are told.

    Windows and limits are those of the configuration (`drift`, and `drift` of a tenant: days, recent, tolerance, psi,
    ks, false_alarm), as for the role, `status` and reports. An option of the same name holds for this look alone.

    Examples:

    ```
    muse-stream drift /var/lib/muse/store
    muse-stream drift --store redis://muse-worker@redis:6379 --tenant acme --json
    muse-stream drift /var/lib/muse/store --tolerance 0.1 --recent 3
    ```

    Exit codes: 0 nothing has drifted; 1 something has, or the store cannot be read; 2 wrong usage.
    """
    from muse_stream.commands.drift import Windows, drifts, uncounted  # noqa: PLC0415
    from muse_stream.control import open_store  # noqa: PLC0415

    if recent is not None and days is not None and recent > days:
        raise typer.BadParameter(f"{recent} days, and only {days} are looked at", param_hint="--recent")
    windows = Windows(days, recent, tolerance, psi, ks, false_alarm)
    with closing(open_store(store)) as opened:
        found = drifts(opened, windows, tenant)
        silent = uncounted(opened, found, tenant)
    if as_json:
        show_json([one.to_json() for one in found])
    else:
        _show(found)
    if found and silent:
        note(f"nothing is counted of {', '.join(silent[:5])}{' and others' if silent[5:] else ''}", "yellow")
    raise typer.Exit(int(any(one.drift.drifted for one in found)))


def _state(rate: "RateDrift") -> str:
    if rate.beside is not None:
        return f"drifted (beside {rate.beside:g})"
    return "drifted" if rate.drifted else ""


def _show(found: "list[TenantDrift]") -> None:
    rows = [
        {
            "tenant": one.tenant,
            "predictor": one.predictor,
            "threshold": f"{rate.threshold:g}",
            "promised": f"{100 * rate.promised:.3g} %",
            "alert rate": f"{100 * rate.rate:.3g} %" if rate.events else "",
            "certain": f"{100 * rate.low:.3g} to {100 * rate.high:.3g} %" if rate.events else "",
            "events": rate.events,
            "": _state(rate),
        }
        for one in found
        for rate in one.drift.rates
    ]
    right = ("threshold", "promised", "alert rate", "certain", "events")
    title = "alert rates" if rows else "nothing is counted of any map that serves: `run --role calibrate` counts"
    show_table(title, rows, right=right)
    shapes = [
        {
            "tenant": one.tenant,
            "predictor": one.predictor,
            "events": one.drift.events,
            "since": one.first_day,
            "PSI": f"{one.drift.psi:.3f}",
            "KS": f"{one.drift.ks:.3f}",
            "": one.state,
        }
        for one in found
    ]
    if shapes:
        show_table("distributions", shapes, right=("events", "PSI", "KS"))
    if any(rate.beside is not None for one in found for rate in one.drift.rates):
        note("beside: the rates at these two cannot both be inside the tolerance; the interval is of the one alone")
    for one in found:
        for gap in one.gaps:
            note(gap, "yellow")
