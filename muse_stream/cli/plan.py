"""`plan`: what a load needs."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.options import Json
from muse_stream.cli.output import note, show_json, show_table

if TYPE_CHECKING:
    from muse_stream.commands.plan import Plan


class Outputs(StrEnum):
    """Whether a lane's tenants have topics of their own for scores and dead letters."""

    OWN = "own"
    SHARED = "shared"


Rate = Annotated[float, typer.Option("--events-per-second", min=0.001, help="Events a second, at the peak.")]
Tenants = Annotated[int, typer.Option(min=1, help="Tenants, each with an event topic.")]
Predictors = Annotated[int, typer.Option(min=1, help="Predictors in the configuration.")]
Models = Annotated[int | None, typer.Option(min=1, help="Model files that they use. Default: one each.")]
Experts = Annotated[int, typer.Option(min=1, help="Models that score one event for its live predictor.")]
Shadows = Annotated[int, typer.Option(min=0, help="Shadow predictors of an event.")]
ShadowModels = Annotated[
    int | None, typer.Option(min=0, help="Models that shadows run beside the live predictor's. Default: one each.")
]
ModelUs = Annotated[
    float | None,
    typer.Option(min=0.0, help="CPU time of one model for one event, in us. Default: 100 trees with 31 leaves."),
]
EventBytes = Annotated[float | None, typer.Option(min=1, help="Size of an event. Default: 15 features.")]
TheOutputs = Annotated[Outputs, typer.Option(help="Score topics: each tenant's own, or one of the lane.")]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="Partitions of each event topic. Default: as many as are needed.")
]
Latency = Annotated[
    float | None, typer.Option("--latency", metavar="MS", min=0.0, help="p99 that is wanted, produced to visible.")
]
Largest = Annotated[
    float | None,
    typer.Option("--largest-tenant", min=0.0, max=1.0, help="Its share of the events. Default: all alike."),
]
Replication = Annotated[int, typer.Option(min=1, max=15, help="Replicas of each partition.")]
Machines = Annotated[int, typer.Option(min=1, help="Machines that workers run on, one `run` of a role on each.")]
Utilisation = Annotated[
    float, typer.Option(min=0.01, max=1.0, help="Share of a worker's capacity that the load may take.")
]


def plan(
    events_per_second: Rate,
    tenants: Tenants = 1,
    predictors: Predictors = 1,
    models: Models = None,
    experts: Experts = 1,
    shadows: Shadows = 0,
    shadow_models: ShadowModels = None,
    model_us: ModelUs = None,
    event_bytes: EventBytes = None,
    outputs: TheOutputs = Outputs.OWN,
    partitions: Partitions = None,
    latency: Latency = None,
    largest_tenant: Largest = None,
    replication: Replication = 3,
    machines: Machines = 2,
    utilisation: Utilisation = 0.5,
    as_json: Json = False,
) -> None:
    """Show what a load needs: workers, partitions, cores, brokers, memory, and how long a failure is felt.

    Computed from what was measured on one worker; each line says whether its figure was measured or follows from what
    was. docs/capacity.md has the constants, the commands that measure them and three worked loads. Take the model's own
    time from `python -m perf run --scenario stages`, or from your own measurement, where it is not of the usual size.

    Examples:

    ```
    muse-stream plan --events-per-second 1744 --tenants 60 --predictors 300 --models 12 --outputs shared
    muse-stream plan --events-per-second 100000 --tenants 100 --shadows 2 --largest-tenant 0.3
    muse-stream plan --events-per-second 20000 --latency 40 --model-us 4.5 --json
    ```

    Exit codes: 0 planned; 2 wrong usage, or what is asked for contradicts itself or was never reached.
    """
    from muse_stream.commands import plan as planning  # noqa: PLC0415

    usual = planning.MEASURED
    found = planning.plan(
        planning.Load(
            events_per_second,
            tenants,
            predictors,
            models,
            experts,
            shadows,
            shadow_models,
            usual["model_us"].value if model_us is None else model_us,
            usual["event_bytes"].value if event_bytes is None else event_bytes,
            outputs is Outputs.SHARED,
            partitions,
            latency,
            largest_tenant,
            replication,
            machines,
            utilisation,
        )
    )
    _show(found, as_json=as_json)


def _show(found: "Plan", *, as_json: bool) -> None:
    if as_json:
        show_json(found.to_json())
        return
    load = found.load
    rows = [{"what": one.what, "": one.shown(), "basis": one.basis, "how": one.how} for one in found.figures.values()]
    show_table(
        f"{load.events_per_s:,.10g} events/s, {load.tenants} tenants, {load.predictors} predictors", rows, right=("",)
    )
    for warning in found.warnings:
        note(f"warning: {warning}", "yellow")
