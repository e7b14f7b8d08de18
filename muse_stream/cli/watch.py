"""`watch`: look after what was promoted, and take it back where an alert rate leaves its band."""

import signal
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import asdict

from muse_stream.cli.moments import duration_s
from muse_stream.cli.options import Json, Session, SignKey, Store
from muse_stream.cli.output import say, show_json, show_line, show_table
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from types import FrameType

    from muse_stream.commands.watch import Look, Policy

Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="POLICY|TENANT=POLICY",
        help="What is done when a predictor has moved an alert rate: `alert` tells it, `rollback` takes the predictor "
        "back from the tenant. Repeat it for tenants that have another one.",
    ),
]
Within = Annotated[
    str, typer.Option("--for", metavar="DURATION", help="How long after a promotion it is watched: 7d, 12h.")
]
Every = Annotated[str, typer.Option("--every", metavar="DURATION", help="Time between two looks: 5s, 1m.")]
Tolerance = Annotated[
    float, typer.Option(min=0.0, help="Share of a promised alert rate by which it may move: 0.2 is a fifth.")
]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", min=1, max=65535, help="Serve /live, /ready and /metrics there.")
]
MetricsHost = Annotated[str, typer.Option("--metrics-host", help="The address they are served on.")]


def watch(
    context: typer.Context,
    store: Store,
    policy: Policies = None,
    within: Within = "7d",
    every: Every = "5s",
    tolerance: Tolerance = 0.2,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "0.0.0.0",  # noqa: S104  # probes and Prometheus come from outside the pod
    once: Annotated[bool, typer.Option("--once", help="Look once, show what is known, and end.")] = False,
    as_json: Json = False,
    _sign_key: SignKey = None,
    _store: StoreOption = None,
) -> None:
    """Watch what was promoted: alert rates against the promise, and against the predictor that was replaced.

    Evidence before a promotion cannot know what the stream does afterwards. The replaced predictor goes on as a shadow,
    so every event tells what it would have answered. Where the promoted predictor has moved a rate by more than
    --tolerance of the promise, away from the promise, it is told in the log, in metrics and in the store; with the
    policy `rollback` the tenant gets the former predictor back, as a generation that holds reason and numbers.

    Looking again and again makes no false alarms: docs/promotion.md says how they are bounded. Start it on several
    machines: one looks, the others take over within 15 s of its death.

    Examples:

    ```
    muse-stream watch /var/lib/muse/store --policy rollback
    muse-stream watch --store redis://redis:6379 --policy rollback --policy acme=alert --metrics-port 9200
    muse-stream watch /var/lib/muse/store --once
    ```

    Exit codes: 0 ended by a signal, or nothing found; 1 `--once` and a predictor has moved a rate, or another process
    watches; 2 wrong usage; 3 Kafka cannot be reached.
    """
    from muse_stream.commands import watch as watching  # noqa: PLC0415
    from muse_stream.control import Lease, open_store  # noqa: PLC0415
    from muse_stream.telemetry import logger  # noqa: PLC0415

    session: Session = context.obj
    default, others = _policies(policy)
    rules = watching.Rules(default, others, tolerance, duration_s(within, "--for"), duration_s(every, "--every"))
    log = logger("watch")
    with ExitStack() as stack:
        opened = stack.enter_context(closing(open_store(store)))
        if once:
            lease = stack.enter_context(Lease(opened, watching.WATCH_LEASE, "watch --once"))
            looking = stack.enter_context(closing(watching.Watch(opened, session.kafka, rules, log, lease)))
            _show(found := looking.look(), as_json=as_json)
            raise typer.Exit(int(any(one.verdict.moved for one in found.seen)))
        told = _metrics(stack, metrics_host, metrics_port) if metrics_port is not None else lambda _: None
        over = _stopping(stack)

        def tell(found: "Look") -> None:
            told(found)
            if as_json:
                show_line(_facts(found))

        watching.watch(opened, session.kafka, rules, log, tell, over.wait)


def _policies(given: list[str] | None) -> "tuple[Policy, dict[str, Policy]]":
    default: Policy = "alert"
    others: dict[str, Policy] = {}
    for text in given or []:
        tenant, equals, name = text.rpartition("=")
        if name not in ("alert", "rollback") or (equals and not tenant):
            right = "--policy alert, --policy rollback, or for one tenant --policy acme=alert"
            raise typer.BadParameter(f"'{text}' is no policy; {right}", param_hint="--policy")
        chosen: Policy = "alert" if name == "alert" else "rollback"
        if tenant:
            others[tenant] = chosen
        else:
            default = chosen
    return default, others


def _metrics(stack: ExitStack, host: str, port: int) -> Any:
    from muse_stream.commands.watch_metrics import WatchMetrics  # noqa: PLC0415
    from muse_stream.telemetry import HealthServer  # noqa: PLC0415

    metrics = WatchMetrics()
    try:
        server = HealthServer(port, lambda: True, metrics.ready, metrics.registry, host=host)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise typer.BadParameter(
            f"cannot listen on port {port} of '{host}': {why}", param_hint="--metrics-port"
        ) from None
    stack.enter_context(server)
    return metrics.take


def _stopping(stack: ExitStack) -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    over = threading.Event()

    def stop(_number: int, _frame: "FrameType | None") -> None:
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ():
        stack.callback(signal.signal, number, signal.signal(number, stop))
    return over


def _facts(found: "Look") -> dict[str, Any]:
    return {
        "rolled_back": list(found.rolled_back),
        "verdicts": [
            {"generation": one.promoted.generation, "predictor": one.promoted.predictor, "tenant": one.tenant,
             "state": one.state, **asdict(one.verdict)}
            for one in found.seen
        ],
    }  # fmt: skip


def _difference(by: float, margin: float) -> str:
    return f"{100 * by:+.2f} ± {100 * margin:.2f}"


def _show(found: "Look", *, as_json: bool) -> None:
    if as_json:
        show_json(_facts(found))
        return
    rows = [
        {
            "generation": one.promoted.generation,
            "predictor": one.promoted.predictor,
            "tenant": one.tenant,
            "threshold": f"{one.verdict.threshold:g}",
            "promised": f"{100 * one.verdict.promised:.3g} %",
            "live": f"{100 * one.verdict.new:.3g} %",
            "before": f"{100 * one.verdict.old:.3g} %",
            "difference, in points": _difference(one.verdict.new - one.verdict.old, one.verdict.margin),
            "events": one.verdict.events,
            "": one.state,
        }
        for one in found.seen
    ]
    title = "alert rates since promotions" if rows else "nothing was promoted lately, or no event has come since"
    show_table(title, rows, right=("generation", "threshold", "promised", "live", "before", "difference, in points",
                                   "events"))  # fmt: skip
    for number in found.rolled_back:
        say(f"generation {number} takes a predictor back")
