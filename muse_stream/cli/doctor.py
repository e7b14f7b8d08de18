"""`doctor`: what keeps the cluster from serving a configuration?"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.options import Config, Json, Role, Session
from muse_stream.cli.output import note, say, show_json

if TYPE_CHECKING:
    from muse_stream.commands.doctor import Diagnosis


def doctor(
    context: typer.Context,
    config: Config,
    tenants: Annotated[list[str] | None, typer.Argument(metavar="[TENANT]...", help="Default: all tenants.")] = None,
    role: Annotated[
        Role | None,
        typer.Option(help="Also: may this principal do what workers of this role do? Give it their MUSE_KAFKA_*."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds that a transaction must stay open to be reported.")
    ] = 16.0,
    as_json: Json = False,
) -> None:
    """Look for what keeps a cluster from serving a configuration, and say what cures it.

    Reads, and changes nothing:

    - transactions that stay open, in the topics and in `__consumer_offsets`, with the commands that end them
    - partitions without a leader, or with too few replicas in sync, also of Kafka's own topics
    - brokers that cannot be reached at the address they advertise, and a release with a known fault
    - topics that are missing, or smaller than what is sent to them, or kept for too short a time
    - groups without offsets, offsets that a topic no longer has or does not have yet, groups that nobody is in
    - permissions that are missing, clocks that are ahead, quotas that hold this client back

    Each finding says what, where, why it matters, and the commands that cure it; those are Kafka's own tools and this
    program's. What could not be looked at is said. A transaction is reported when it is open for --wait seconds:
    nothing is waited for where none is.

    Exit codes: 0 nothing was found, 1 something was, 2 wrong usage, 3 no broker answers at all.

    With --json: findings (kind, where, what, why, cure: a list), notes, brokers, topics, groups.

    Examples:

    ```
    muse-stream doctor /var/lib/muse/store
    muse-stream doctor muse.yaml acme --role live
    muse-stream doctor muse.yaml --json | jq -r '.findings[].cure[]'
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.doctor import Look, diagnose  # noqa: PLC0415

    session: Session = context.obj
    look = Look(None if role is None else role.value, wait, note)
    found = diagnose(open_configuration(config), session.kafka, tenants, look)
    if as_json:
        shown = asdict(found)
        show_json({"findings": shown.pop("faults"), **shown})
    else:
        _show(found)
    if not found.well:
        raise typer.Exit(1)


def _show(found: "Diagnosis") -> None:
    for fault in found.faults:
        say(f"{fault.kind}: {fault.where}", "bold red")
        say(f"    {fault.what}")
        say(f"    {fault.why}")
        for line in fault.cure:
            say(f"    > {line}")
    count = len(found.faults)
    verdict = "nothing was found" if not count else "1 finding" if count == 1 else f"{count} findings"
    say(f"{found.brokers} brokers, {found.topics} topics, {len(found.groups)} groups: {verdict}")
    for text in found.notes:
        note(text, "yellow")
