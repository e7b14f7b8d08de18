"""`offsets`: where one tenant's groups stand, and putting them elsewhere while the lane runs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.options import Config, Json, Role, Session, Tenant
from muse_stream.cli.output import note, show_json, show_table

if TYPE_CHECKING:
    from muse_stream.commands.offsets import Move, TenantOffsets

offsets = typer.Typer(
    no_args_is_help=True,
    help="Show, set or copy the committed offsets of one tenant, while its lane runs.",
    rich_markup_mode="markdown",
)
AsRole = Annotated[Role, typer.Option(help="Whose group: of live or of shadow workers.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _open(context: typer.Context, config: str, tenant: str, role: Role) -> "TenantOffsets":
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.offsets import TenantOffsets  # noqa: PLC0415

    session: Session = context.obj
    return TenantOffsets(open_configuration(config), session.kafka, tenant, role.value)


@offsets.command()
def show(
    context: typer.Context, config: Config, tenant: Tenant, role: AsRole = Role.LIVE, as_json: Json = False
) -> None:
    """Show a tenant's partitions: what is committed, begin and end, what waits, which event was answered last.

    Examples:

    ```
    muse-stream offsets show store acme
    muse-stream offsets show store acme --role shadow --json
    ```
    """
    found = _open(context, config, tenant, role).show()
    rows: list[dict[str, Any]] = [asdict(one) for one in found]
    if as_json:
        show_json(rows)
        return
    right = ("partition", "committed", "begin", "end", "lag", "last_answer")
    show_table(f"{tenant}, {role.value}", rows, right=right)


@offsets.command(name="set")
def set_(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    to: Annotated[
        str,
        typer.Option(help="answers (behind the last answer), earliest, latest, an offset, or a time with its zone."),
    ],
    partitions: Annotated[list[int] | None, typer.Option("--partition", help="Only this one; may be repeated.")] = None,
    role: AsRole = Role.LIVE,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set a tenant's committed offsets; a running lane goes there within seconds, the other tenants notice nothing.

    Refused while a worker reads the tenant: pause it first (`tenants.NAME.paused: true`, publish). Going back has
    events answered twice, going forward leaves events without an answer. Exit code 1 when a running worker did not take
    it.

    Examples:

    ```
    muse-stream offsets set store acme --to answers --dry-run
    muse-stream offsets set store acme --to 2026-11-25T00:00:00+00:00 --yes
    muse-stream offsets set store acme --to 1200 --partition 3
    ```
    """
    from muse_stream.commands.offsets import check_target  # noqa: PLC0415

    check_target(to)  # what is wrong usage is so whether or not a broker answers
    tenant_offsets = _open(context, config, tenant, role)
    _carry_out(tenant_offsets, tenant_offsets.plan_set(to, partitions or ()), dry_run=dry_run, yes=yes, as_json=as_json)


@offsets.command()
def copy(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    from_lane: Annotated[str | None, typer.Option(help="Lane whose offsets are taken.")] = None,
    to_lane: Annotated[str | None, typer.Option(help="Lane that gets them.")] = None,
    from_bootstrap: Annotated[
        str | None, typer.Option(help="Brokers of another cluster whose offsets are taken; same login as here.")
    ] = None,
    role: AsRole = Role.LIVE,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Copy a tenant's offsets from one lane to another, or from another cluster.

    A lane move carries the offsets over by itself; this is for when it cannot (no permission on the other group). Of
    another cluster's group, the event that was answered last is looked for here, by its time, key and content.

    Examples:

    ```
    muse-stream offsets copy store acme --from-lane main --to-lane large --dry-run
    muse-stream offsets copy store acme --from-bootstrap old-kafka:9092
    ```
    """
    if (from_bootstrap is None) == (from_lane is None) or (from_lane is None) != (to_lane is None):
        raise typer.BadParameter(
            "give --from-lane and --to-lane, or --from-bootstrap", param_hint="'--from-lane' / '--from-bootstrap'"
        )
    from muse_stream.commands.offsets import check_lanes  # noqa: PLC0415

    if from_lane is not None:
        check_lanes(from_lane, to_lane or "")
    tenant_offsets = _open(context, config, tenant, role)
    if from_bootstrap is not None:
        moves = tenant_offsets.plan_copy_cluster(from_bootstrap)
    else:
        moves = tenant_offsets.plan_copy(from_lane or "", to_lane or "")
    _carry_out(tenant_offsets, moves, dry_run=dry_run, yes=yes, as_json=as_json)


def _carry_out(
    tenant_offsets: "TenantOffsets", moves: "Sequence[Move]", *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    rows = [
        {name: getattr(move, name) for name in ("topic", "partition", "group", "before", "after", "why")}
        for move in moves
    ]
    others = [name for name in tenant_offsets.sharing if name != tenant_offsets.tenant]
    if not as_json:
        show_table("to be set", rows, right=("partition", "before", "after"))
    if others:
        note(f"{tenant_offsets.topic} holds the events of {', '.join(others)} as well: set for all of them", "yellow")
    refused: list[str] = []
    if not dry_run:
        if not yes:
            typer.confirm(f"Set {len(moves)} offsets of group {moves[0].group}?", abort=True, err=True)
        refused = tenant_offsets.carry_out(moves, note)
    if as_json:
        show_json({"moves": rows, "done": not dry_run, "not_taken": refused})
    for text in refused:
        note(text, "red")
    if refused:
        raise typer.Exit(1)
