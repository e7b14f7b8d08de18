"""`refresh list`, `show`, `apply`, `reject`: maps that the role `calibrate` proposes where scores have drifted."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.options import DryRun, Json, Message, SignKey, Store, Tenant, Yes
from muse_stream.cli.output import agreed, note, say, show_json, show_table
from muse_stream.cli.store_option import ConfigCommand, StoreOption
from muse_stream.errors import ConfigError, Problem

if TYPE_CHECKING:
    from muse_stream.commands.refresh_record import RefreshRecord
    from muse_stream.control import Store as Opened

refresh = typer.Typer(
    name="refresh",
    help="Quantile maps that the role `calibrate` proposes where scores have drifted (docs/refresh.md): list, look at, "
    "apply and reject them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Predictor = Annotated[
    str | None, typer.Option("--predictor", metavar="NAME", help="Whose map; needed where several are proposed.")
]
Everything = Annotated[bool, typer.Option("--all", help="Show those that are decided as well.")]


@refresh.command("list", cls=ConfigCommand)
def list_(store: Store, everything: Everything = False, as_json: Json = False, _store: StoreOption = None) -> None:
    """List the proposals that wait: whose map, fitted on what, how far it moves alert rates, what speaks against it.

    proposed: a map waits for `refresh apply`; waiting: scores have drifted, and no map can be fitted now.

    Examples:

    ```
    muse-stream refresh list /var/lib/muse/store
    muse-stream refresh list --store redis://muse-worker@redis:6379 --all --json
    ```

    Exit codes: 0 nothing waits for a person; 1 something does, or the store cannot be read; 2 wrong usage.
    """
    from muse_stream.commands.refresh_record import records  # noqa: PLC0415
    from muse_stream.control import open_store  # noqa: PLC0415

    with closing(open_store(store)) as opened:
        found = [one for one in records(opened) if one.open or everything]
    if as_json:
        show_json([one.to_json() for one in found])
    else:
        rows = [_row(one) for one in found]
        title = "refresh of quantile maps" if rows else "no refresh is proposed"
        show_table(title, rows, right=("events", "largest move"))
    raise typer.Exit(int(any(one.open for one in found)))


@refresh.command(cls=ConfigCommand)
def show(
    store: Store, tenant: Tenant, predictor: Predictor = None, as_json: Json = False, _store: StoreOption = None
) -> None:
    """Show a proposal whole: its window, each threshold, what speaks against it, and what became of those before.

    `now` is the alert rate of the window's events under the map that serves; `expected` under the proposed one, `true
    rate` within what it can be trusted. `move` is how far the proposed map moves the alert rate of those whose events
    have not changed, from the map that a person has published last.

    Examples:

    ```
    muse-stream refresh show /var/lib/muse/store acme
    muse-stream refresh show --store redis://muse-worker@redis:6379 acme --predictor card-v2 --json
    ```
    """
    with _found(store, tenant, predictor) as (_, one):
        show_json(one.to_json()) if as_json else _show(one)


@refresh.command(cls=ConfigCommand)
def apply(
    store: Store,
    tenant: Tenant,
    predictor: Predictor = None,
    message: Message = "",
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Make a proposed map current, as the next generation; workers swap within a second.

    Shows the proposal and asks. It is refused where the predictor, its reference, the map that serves or who answers
    the tenant has changed since, and by compare-and-swap where somebody else publishes in between. `muse-stream
    rollback` takes it back; then the role applies nothing by itself to this map until a person has.

    Examples:

    ```
    muse-stream refresh apply /var/lib/muse/store acme --message "salary day, ticket 1234"
    muse-stream refresh apply --store redis://muse-publisher@redis:6379 acme --predictor card-v2 --dry-run
    ```

    Exit codes: 0 done; 1 the answer was no, or somebody else was faster; 2 refused.
    """
    from muse_stream.commands.refresh import apply as carry_out  # noqa: PLC0415
    from muse_stream.commands.refresh import current, misfits, target  # noqa: PLC0415

    with _found(store, tenant, predictor) as (opened, one):
        number, loaded = current(opened)
        against = misfits(opened, one, target(loaded, number, one.tenant, one.predictor))
        if not as_json:
            _show(one)
        if against:
            raise ConfigError(against)
        if dry_run:
            show_json({"changed": False, **one.to_json()}) if as_json else say("nothing was changed")
            return
        if not agreed(f"Make the map of {one.predictor} for {tenant} current?", yes=yes):
            raise typer.Exit(1)
        done = carry_out(opened, store, one, message)
    made = done.decision.generation if done.decision else None
    if as_json:
        show_json({"changed": True, "number": made, **done.to_json()})
    else:
        say(f"generation {made} published and current: {tenant} has the refreshed map of {one.predictor}")


@refresh.command(cls=ConfigCommand)
def reject(
    store: Store,
    tenant: Tenant,
    predictor: Predictor = None,
    message: Message = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Say no to a proposal: no map is fitted to the days up to today; later ones may make a new proposal.

    Example:

    ```
    muse-stream refresh reject /var/lib/muse/store acme --message "a campaign, over on Friday"
    ```

    Exit codes: 0 done; 1 the answer was no, or somebody else was faster; 2 refused.
    """
    from muse_stream.commands.refresh import reject as carry_out  # noqa: PLC0415

    with _found(store, tenant, predictor) as (opened, one):
        if not as_json:
            _show(one)
        if dry_run:
            show_json({"changed": False, **one.to_json()}) if as_json else say("nothing was changed")
            return
        if one.open and not agreed(f"Reject the map of {one.predictor} for {tenant}?", yes=yes):
            raise typer.Exit(1)
        done = carry_out(opened, one, message)
    if as_json:
        show_json({"changed": True, **done.to_json()})
    else:
        say(f"{tenant}, {one.predictor}: rejected; a map may be fitted to events from {done.not_before} on")


@contextmanager
def _found(store: str, tenant: str, predictor: str | None) -> "Iterator[tuple[Opened, RefreshRecord]]":
    """Give the store and the record that is meant; raises ConfigError where there is none, or several."""
    from muse_stream.commands.refresh_record import records  # noqa: PLC0415
    from muse_stream.control import open_store  # noqa: PLC0415

    with closing(open_store(store)) as opened:
        mine = [one for one in records(opened) if one.tenant == tenant]
        found = [one for one in mine if predictor in (None, one.predictor)]
        if len(found) > 1:
            found = [one for one in found if one.open] or found
        if len(found) == 1:
            yield opened, found[0]
            return
    if found:
        hint = f"name the predictor: {', '.join(one.predictor for one in found)}"
        raise ConfigError([Problem("--predictor", f"{tenant} has several proposals", hint)])
    what = f"no refresh of {predictor or 'any map'} for {tenant} was ever proposed"
    raise ConfigError([Problem("TENANT", what, "`muse-stream refresh list --all` shows what there is")])


def _row(one: "RefreshRecord") -> dict[str, Any]:
    fitted = one.fitted
    return {
        "tenant": one.tenant,
        "predictor": one.predictor,
        "state": one.state,
        "policy": one.policy,
        "id": one.id,
        "events": fitted.events if fitted else None,
        "window": f"{fitted.begins[:16]} to {fitted.ends[:16]}" if fitted else "",
        "largest move": f"{fitted.largest_move:.0%}" if fitted else "",
        "why": "; ".join(why.text for why in one.reasons),
    }


def _show(one: "RefreshRecord") -> None:
    fitted = one.fitted
    say(f"{one.tenant}, {one.predictor}: {one.state} at {one.at}, policy {one.policy}, on generation {one.generation}")
    if fitted is not None:
        text = f"{fitted.events:,} events in {fitted.hours:g} hours, {fitted.begins} to {fitted.ends}"
        say(f"map {fitted.id}, fitted on {text}; the largest entity has {fitted.entity_share:.1%} of them")
        rows = [
            {
                "threshold": f"{at.threshold:g}",
                "promised": _percent(at.promised),
                "now": f"{_percent(at.rate)} ({_percent(at.rate_low)} to {_percent(at.rate_high)})",
                "expected": _percent(at.expected),
                "true rate, 95 %": f"{_percent(at.low)} to {_percent(at.high)}",
                "score before": f"{at.score:.3f}",
                "move": f"{at.move:+.0%}" + ("!" if abs(at.move) > one.step else ""),
                "": "too little" if not at.enough else "ties" if at.tied else "",
            }
            for at in fitted.thresholds
        ]
        right = ("threshold", "promised", "now", "expected", "score before", "move")
        show_table(f"alert rates; by itself at most {one.step:.0%}", rows, right=right)
    for why in one.reasons:
        note(f"{why.kind}: {why.text}", "yellow")
    for past in one.past:
        number = f", generation {past.generation}" if past.generation else ""
        say(f"  {past.at}: {past.state} by {past.by}{number} {past.message}")


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
