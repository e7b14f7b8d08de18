"""`fit`: the quantile maps of a predictor, and what they can be trusted in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.moments import moment_ms
from muse_stream.cli.options import Columns, Config, DryRun, Force, Json, Message, Session, SignKey, Yes, pairs
from muse_stream.cli.output import agreed, complain, note, progress, say, show_changes, show_json, show_table

if TYPE_CHECKING:
    from muse_stream.commands.fit import Fit, Fitting
    from muse_stream.commands.fit_samples import FileColumns
    from muse_stream.commands.publish import Published

Predictor = Annotated[str, typer.Argument(metavar="PREDICTOR", help="Whose quantile maps are fitted.")]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="scores|audit|sketches|FILE",
        help="The topics of scores or of audit records; sketches: what `run --role calibrate` has counted in the "
        "store; or a file: Parquet, CSV, JSON lines (Avro for events).",
    ),
]
Tenants = Annotated[list[str] | None, typer.Option("--tenant", help="Fit these alone; one without events starts cold.")]
Since = Annotated[str | None, typer.Option(metavar="TIME|DURATION", help="Records from then on: a time, or 12h, 7d.")]
Until = Annotated[str | None, typer.Option(metavar="TIME|DURATION", help="Records before that.")]
Write = Annotated[
    Path | None, typer.Option("--write", metavar="FILE", help="Put the maps into this configuration file.")
]
ToStore = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="STORE", help="Publish them there; with --write: whose records, or sketches, count."
    ),
]
Policy = Annotated[
    str,
    typer.Option(
        metavar="auto|own|pooled|shrinkage",
        help="own: of each tenant's events alone; pooled: of all others' together; shrinkage: between the two, by what "
        "is known; auto: own where that is evidence enough, else shrinkage.",
    ),
]


Scores = Annotated[
    str | None, typer.Option("--scores", metavar="COLUMN", help="The file has scores before the map, in this column.")
]
TenantColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Whose each row is; default: the event format's tenant field.")
]
Time = Annotated[str | None, typer.Option(metavar="COLUMN", help="Time of each score; events have their own.")]
Entity = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Card or customer: what makes events depend on each other.")
]
Beta = Annotated[list[str] | None, typer.Option("--beta", help="model=share of the negatives that its training kept.")]
Label = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="0 and 1: estimate each expert's beta from it first.")
]
Promise = Annotated[
    str | None, typer.Option(metavar="NAME", help="The reference, where the predictor has no quantile map yet.")
]
Default = Annotated[
    bool, typer.Option("--default", help="Fit a map of all tenants too, for those without one of their own.")
]
Gaps = Annotated[bool, typer.Option("--gaps", help="Fit on a window in which events are missing.")]


def fit(
    context: typer.Context,
    config: Config,
    predictor: Predictor,
    source: From,
    tenant: Tenants = None,
    since: Since = None,
    until: Until = None,
    policy: Policy = "auto",
    scores: Scores = None,
    tenant_column: TenantColumn = None,
    time: Time = None,
    entity: Entity = None,
    column: Columns = None,
    beta: Beta = None,
    label: Label = None,
    reference: Promise = None,
    default: Default = False,
    gaps: Gaps = False,
    write: Write = None,
    store: ToStore = None,
    force: Force = None,
    message: Message = "",
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Fit quantile maps to what a predictor says of recent events, and say how far they can be trusted.

    Events of a file are scored by the ONNX models as a worker scores them; records of topics count where the same
    content of the predictor gave them; of sketches, whole days (UTC) of this content count. Shows for each tenant and
    promised threshold the alert rate that is promised, the interval in which the true one lies (95 %; events of one
    card or customer count as a group), and how many events would halve it. Too little evidence is said.
    docs/calibration.md has the formulae.

    Without --write or --store nothing is changed. With --store the maps go through the checks of `publish`.

    Examples:

    ```
    muse-stream fit muse.yaml card-v2 --from events.parquet --entity customer_id
    muse-stream fit muse.yaml card-v2 --from audit --since 14d --write muse.yaml
    muse-stream fit /var/lib/muse/store card-v2 --from scores --since 7d --store /var/lib/muse/store
    muse-stream fit muse.yaml card-v2 --from sketches --store /var/lib/muse/store --since 7d --dry-run
    muse-stream fit muse.yaml card-v2 --from scores.csv --scores p --tenant acme --time at
    muse-stream fit muse.yaml card-v2 --from labelled.parquet --label is_fraud --write muse.yaml
    ```

    Exit codes: 0 done, 1 the answer was no or somebody else published in between, 2 refused, 3 Kafka cannot be reached.
    """
    from muse_stream.commands.fit_samples import FileColumns  # noqa: PLC0415 - loads every vendor

    columns = FileColumns(scores, tenant_column, time, entity, label, pairs(column, "--column"))
    window = (moment_ms(since, "--since") if since else None, moment_ms(until, "--until") if until else None)
    fitting = _fitting(columns, window, policy, reference, _betas(beta), default=default, gaps=gaps)
    session: Session = context.obj
    found = _fit(session, config, predictor, source, tenant, fitting, store)
    if not as_json:
        _show(found)
    if write is not None:
        _write(found, write, dry_run=dry_run, yes=yes, as_json=as_json)
    elif store is not None:
        _publish(found, store, force, message, dry_run=dry_run, yes=yes, as_json=as_json)
    elif as_json:
        show_json({"ok": True, "changed": False, **found.to_json(), "maps": _maps(found)})
    else:
        say("nothing was changed: --write FILE puts the maps into a configuration, --store STORE publishes them")


def _fitting(
    columns: "FileColumns",
    window: tuple[int | None, int | None],
    policy: str,
    reference: str | None,
    betas: dict[str, float],
    *,
    default: bool,
    gaps: bool,
) -> "Fitting":
    from muse_stream.commands.fit import POLICIES, Fitting  # noqa: PLC0415

    if policy not in POLICIES:
        raise typer.BadParameter(f"'{policy}' is no policy: {', '.join(POLICIES)}", param_hint="--policy")
    return Fitting(columns, *window, policy, reference, default, betas, columns.label is not None, gaps)


def _fit(
    session: Session,
    config: str,
    predictor: str,
    source: str,
    tenants: list[str] | None,
    fitting: "Fitting",
    store: str | None,
) -> "Fit":
    from muse_stream.commands.fit import fit_maps  # noqa: PLC0415

    of_topics = source in ("scores", "audit")
    _refuse_options(fitting, source, in_time=of_topics or source == "sketches")
    with progress(f"events for {predictor}") as update:
        return fit_maps(
            config,
            predictor,
            source,
            tenants=tenants,
            fitting=fitting,
            settings=session.kafka if of_topics else None,
            store=store,
            progress=lambda done: update(done, None, ""),
        )


def _betas(given: list[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, text in pairs(given, "--beta").items():
        try:
            found[name] = float(text)
        except ValueError:
            raise typer.BadParameter(f"'{text}' is no number", param_hint="--beta") from None
        if not 0.0 < found[name] <= 1.0:
            raise typer.BadParameter(f"{text} is no share of the negatives: above 0, at most 1", param_hint="--beta")
    return found


def _refuse_options(fitting: "Fitting", source: str, *, in_time: bool) -> None:
    columns = fitting.columns
    if in_time and (columns.named() or columns.fields):
        raise typer.BadParameter(f"columns belong to a file, not to {source}", param_hint="--from")
    if source == "sketches" and fitting.betas:
        raise typer.BadParameter(
            "with another beta the predictor is another one, of which nothing is counted", param_hint="--beta"
        )
    if not in_time and (fitting.since_ms is not None or fitting.until_ms is not None):
        raise typer.BadParameter("a window of time belongs to topics and sketches; cut the file", param_hint="--since")
    if columns.scores is None and columns.time is not None:
        raise typer.BadParameter("events have their own time; it belongs to --scores", param_hint="--time")
    if columns.scores is not None and columns.label is not None:
        raise typer.BadParameter(
            "a beta is estimated from events, not from scores before the map", param_hint="--label"
        )
    if fitting.betas and columns.label is not None:
        raise typer.BadParameter("give a known --beta, or a --label to estimate it from", param_hint="--beta")


def _show(found: "Fit") -> None:
    say(f"maps of {found.predictor} onto {found.reference}, pinned to {found.fitted_for}")
    if found.betas:
        betas: list[dict[str, Any]] = [
            {"model": name, "beta": f"{one:.6g}", "95 %": "given"}
            if isinstance(one, float)
            else {"model": name, "beta": f"{one.beta:.6g}", "95 %": f"{one.low:.4g} to {one.high:.4g}"}
            for name, one in found.betas.items()
        ]
        show_table("posterior corrections", betas, right=("beta",))
    rows: list[dict[str, Any]] = [
        {
            "tenant": one.tenant,
            "map": one.policy if one.map.own_share is None else f"{one.policy}, {one.map.own_share:.0%} own",
            "events": one.events,
            "entities": one.entities or None,
            "threshold": f"{at.threshold:g}",
            "promised": f"{100 * at.promised:.3g} %",
            "true rate, 95 %": f"{100 * at.low:.3g} to {100 * at.high:.3g} %",
            "half that takes": at.needed,
            "": "" if at.enough and not at.tied else "ties" if at.tied else "too little",
        }
        for one in found.tenants.values()
        for at in one.trust
    ]
    right = ("events", "entities", "threshold", "promised", "true rate, 95 %", "half that takes")
    if rows:
        show_table("what each threshold can be trusted in", rows, right=right)
    for one in found.tenants.values():
        for warning in one.warnings():
            note(f"tenant {one.tenant}: {warning}", "yellow")


def _maps(found: "Fit") -> dict[str, Any]:
    return {name: one.to_json() for name, one in found.maps.items()}


def _write(found: "Fit", path: Path, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if dry_run:
        show_json({"ok": True, "changed": False, **found.to_json()}) if as_json else say("nothing was changed")
        return
    if not agreed(f"Change {path}?", yes=yes):
        raise typer.Exit(1)
    found.write(path)
    if as_json:
        show_json({"ok": True, "changed": True, "file": str(path), **found.to_json()})
    else:
        say(f"{path} changed: {len(found.tenants)} maps of {found.predictor}; publish it")


def _publish(
    found: "Fit", store: str, force: str | None, message: str, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    from muse_stream.control import Note  # noqa: PLC0415

    with found.proposed(store) as proposed:
        if not as_json:
            if proposed.warnings:
                complain(proposed.warnings, style="yellow", title=f"{len(proposed.warnings)} warnings")
            show_changes(proposed.changes, title=f"changes to {store}")
        refused = proposed.refused(force=force, replace=False)
        if refused:
            complain(refused, style="red", title="refused: this can hurt a tenant, or undo what somebody else has done")
        if dry_run or refused:
            if as_json:
                show_json({"ok": not refused, "changed": False, **found.to_json()})
            elif not refused:
                say("nothing was published")
            raise typer.Exit(2 if refused else 0)
        if not agreed(f"Publish the maps of {found.predictor}?", yes=yes):
            raise typer.Exit(1)
        evidence = {"fitted": found.to_json(), **({"force": force} if force and proposed.harmful else {})}
        done = proposed.publish(Note(message or f"fit {found.predictor}", evidence=evidence))
    _published(done, found, as_json=as_json)


def _published(done: "Published", found: "Fit", *, as_json: bool) -> None:
    if as_json:
        show_json(
            {"ok": True, "changed": done.changed, "number": done.number, "current": done.current, **found.to_json()}
        )
    elif not done.changed:
        say(f"generation {done.number} is current already and has the same maps")
    else:
        say(f"generation {done.number} published and current: {len(found.tenants)} maps of {found.predictor}")
