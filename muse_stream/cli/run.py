"""`run`: workers of one role and lane."""

import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from msgspec.structs import replace

from muse_stream import environment
from muse_stream.extras import missing_extra

LEAST_MEMORY = 64 << 20
HealthPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        envvar="MUSE_HEALTH_PORT",
        help="Worker n answers /started, /ready, /live and /metrics on this port + n.",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        envvar="MUSE_METRICS_PORT",
        help="One port for the run: the same pages, of all its workers as one. Needs --health-port.",
    ),
]


class RunRole(StrEnum):
    """What a worker does."""

    LIVE = "live"
    SHADOW = "shadow"
    CALIBRATE = "calibrate"


class StartAt(StrEnum):
    """Where partitions start of which the group has committed nothing."""

    ANSWERS = "answers"
    EARLIEST = "earliest"
    LATEST = "latest"


TheRole = Annotated[
    RunRole,
    typer.Option(
        "--role", help="live writes scores, shadow audit records, calibrate counts both; separate groups and offsets."
    ),
]
Start = Annotated[
    StartAt,
    typer.Option(
        help="Where partitions start of which the group has committed nothing: behind their last answer (earliest "
        "where there is none), at their first event even if it has been answered, or behind their last event."
    ),
]
HealthHost = Annotated[
    str, typer.Option(envvar="MUSE_HEALTH_HOST", help="Address of these pages; :: is every address, IPv6 as well.")
]


MaxMemory = Annotated[
    str | None,
    typer.Option(
        envvar="MUSE_MAX_MEMORY",
        metavar="SIZE",
        help="Replace a worker that takes more resident memory than this, such as 1500M or 2G: a spare takes over.",
    ),
]


def _trust(file: Path | None) -> Path | None:
    if file is not None:  # what the role `calibrate` publishes rests on generations that it trusts
        environment.choose("MUSE_TRUSTED_KEYS_FILE", str(file.resolve()))
    return file


TrustedKeysFile = Annotated[
    Path | None,
    typer.Option(
        envvar="MUSE_TRUSTED_KEYS_FILE",
        callback=_trust,
        help="Public keys, one a line: serve only generations that one of them has signed (`muse-stream keys`).",
    ),
]
ServedFrom = Annotated[
    str | None,
    typer.Option(
        help="Generation store to serve from, a folder or a redis:// URL; new generations swap in. Default: MUSE_STORE."
    ),
]
LookEvery = Annotated[
    float | None,
    typer.Option(min=0.5, metavar="SECONDS", help="calibrate: time between two looks for drift. Default: 900."),
]
StoreEvery = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="SECONDS", help="calibrate: time between two stores of what was read. Default: 30."),
]


def run(
    context: typer.Context,
    role: TheRole,
    store: ServedFrom = None,
    config: Annotated[Path | None, typer.Option(help="Configuration to serve as it is now, without a store.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=512, help="Worker processes.")] = 1,
    lane: Annotated[str, typer.Option(help="Lane of tenants to serve.")] = "main",
    health_port: HealthPort = None,
    health_host: HealthHost = "0.0.0.0",  # noqa: S104  # probes and Prometheus come from outside the pod
    metrics_port: MetricsPort = None,
    name: Annotated[
        str | None,
        typer.Option(help="Names this run's slots: unique among machines, stable over restarts. Default: host name."),
    ] = None,
    start: Start = StartAt.ANSWERS,
    max_memory: MaxMemory = None,
    trusted_keys: TrustedKeysFile = None,
    look_every: LookEvery = None,
    store_every: StoreEvery = None,
    spare: Annotated[bool, typer.Option(help="Keep one process waiting to replace a worker that crashes.")] = True,
) -> None:
    """Serve a lane: consume events, score them, publish exactly once, until SIGTERM or Ctrl-C.

    Workers are processes in one Kafka consumer group per role and lane; start it on as many machines as wanted. A
    worker that crashes is replaced at once. SIGTERM drains within 10 seconds.

    `calibrate` counts scores and audit records in the store, each once, for `drift` and for fitting maps
    (docs/sketches.md), and refreshes maps where the configuration says so (docs/refresh.md); it needs a store that
    lasts, and `pip install 'muse-stream[calibrate]'`.

    Examples:

    ```
    muse-stream run --role live --store /var/lib/muse/store --workers 4
    muse-stream run --role shadow --store redis://muse-worker@redis:6379
    muse-stream run --role calibrate --store redis://muse-calibrator@redis:6379
    muse-stream run --role live --config muse.yaml --lane small --health-port 9100
    muse-stream run --role live --store store --health-port 9100 --health-host 127.0.0.1
    muse-stream run --role live --store store --workers 4 --health-port 9100 --metrics-port 9090
    muse-stream run --role live --store store --max-memory 2G
    muse-stream run --role live --store store --trusted-keys release.pub
    muse-stream run --role live --store store --start latest   # what is new to the group: only new events
    ```
    """
    store, most, traced = _named(store, config), _bytes(max_memory), _traced()
    times: dict[str, Any] = {"look_s": look_every, "store_s": store_every}
    _check_role(role, config, start, max_memory, times)
    _check_pages(health_host, health_port, metrics_port, workers)
    from muse_stream.commands.configuration import check_lane  # noqa: PLC0415
    from muse_stream.runtime.run import RunOptions, prepare, reaching  # noqa: PLC0415 - loads most vendors
    from muse_stream.runtime.run import run as serve  # noqa: PLC0415

    settings, level = context.obj.kafka, context.obj.log_level
    with _store(store, config) as folder:
        with reaching(settings):  # Kafka is asked while this process imports what its workers need
            trusted = _trusted(trusted_keys) if config is None else None  # what is made from a file has no signature
            namespace = check_lane(folder, lane, trusted)
            prepare()
        host, health = name or socket.gethostname(), (health_port, health_host)
        if role is RunRole.CALIBRATE:
            of = (folder, lane, host, settings, level, *health)
            times |= {"metrics_port": metrics_port, "trusted": trusted}
            raise typer.Exit(_count(of, workers, spare=spare, given=times))
        served: Literal["live", "shadow"] = "live" if role is RunRole.LIVE else "shadow"
        options = RunOptions(folder, served, lane, host, settings, level, *health)
        options = replace(options, start_at=start.value, namespace=namespace, max_memory=most)
        options = replace(options, metrics_port=metrics_port, trusted=trusted, trace_ratio=traced)
        raise typer.Exit(serve(options, workers, spare=spare))


def _count(options: tuple[Any, ...], workers: int, *, spare: bool, given: dict[str, Any]) -> int:
    from muse_stream.runtime import calibrate  # noqa: PLC0415

    given = {name: value for name, value in given.items() if value is not None}
    made = replace(calibrate.CalibrateOptions(*options), refresher=_refresher, **given)
    return calibrate.run(made, workers, spare=spare)


def _refresher(given: Any) -> Any:
    from muse_stream.commands.refresh import refresher  # noqa: PLC0415 - it loads much: in the process that needs it

    return refresher(given)


def _traced() -> float | None:
    """Return the share of events that get a span; raises what is wrong with how before a worker starts."""
    ratio = environment.trace_ratio()
    if ratio is None:
        return None
    try:
        from muse_stream.telemetry import spans_wanted  # noqa: PLC0415 - only where it is wanted
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    return ratio if spans_wanted() else None


def _trusted(file: Path | None) -> Path | None:
    """Return the file of trusted keys, as an absolute path; raises what is wrong with it before a worker starts."""
    if file is None:
        return None
    from muse_stream.control import TrustedKeys  # noqa: PLC0415

    TrustedKeys.read(file)
    try:
        import_module("cryptography")
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    return file.resolve()


def _check_role(
    role: RunRole, config: Path | None, start: StartAt, max_memory: str | None, times: dict[str, float | None]
) -> None:
    """Refuse what a role does not have."""
    if role is not RunRole.CALIBRATE:
        if any(times.values()):
            wrong = "--look-every" if times["store_s"] is None else "--store-every"
            raise typer.BadParameter("only the role calibrate has such an option", param_hint=wrong)
        return
    if config is not None:
        message = "calibrate keeps its counts in the store, which must last: give --store"
        raise typer.BadParameter(message, param_hint="--config")
    if start is not StartAt.ANSWERS or max_memory is not None:
        wrong = "--start" if max_memory is None else "--max-memory"
        raise typer.BadParameter("the role calibrate has no such option", param_hint=wrong)
    try:
        import_module("datasketches")
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None


def _named(store: str | None, config: Path | None) -> str | None:
    """Return the store that is named; raises a usage error unless a store or a configuration is."""
    if store is None and config is None:
        store = environment.read("MUSE_STORE") or None
    if (store is None) == (config is None):
        raise typer.BadParameter("give one of --store and --config", param_hint="'--store' / '--config'")
    return store


def _bytes(size: str | None) -> int | None:
    """Return what SIZE means; raises a usage error for what is no size, or too small for any worker."""
    if size is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?B)?", size.strip(), re.IGNORECASE)
    if found is None:
        right = "give a number of bytes, or one with K, M, G or T (powers of 1024), such as 1500M"
        raise typer.BadParameter(f"'{size}' is no size; {right}", param_hint="--max-memory")
    value = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
    if value < LEAST_MEMORY:
        least = f"a worker takes more than {LEAST_MEMORY >> 20}M before it has loaded any model"
        raise typer.BadParameter(f"'{size}' is {value:,} bytes, and {least}", param_hint="--max-memory")
    return value


def _check_health(host: str, port: int, workers: int) -> None:
    """Refuse what every worker would fail on, again and again."""
    if port + workers - 1 > 65535:
        raise typer.BadParameter(
            f"worker {workers - 1} would be on port {port + workers - 1}, and the last port is 65535",
            param_hint="--health-port",
        )
    from muse_stream.telemetry import check_address  # noqa: PLC0415

    try:
        check_address(host)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise typer.BadParameter(f"cannot listen on '{host}': {why}", param_hint="--health-host") from None
    for worker in range(workers):
        try:
            check_address(host, port + worker)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise typer.BadParameter(
                f"worker {worker} cannot listen on port {port + worker} of '{host}': {why}", param_hint="--health-port"
            ) from None


def _check_pages(host: str, health_port: int | None, metrics_port: int | None, workers: int) -> None:
    if health_port is not None:
        _check_health(host, health_port, workers)
    if metrics_port is not None:
        _check_metrics(host, metrics_port, health_port, workers)


def _check_metrics(host: str, port: int, health_port: int | None, workers: int) -> None:
    """Refuse a port for the run that would have nothing to ask, or that is taken."""
    if health_port is None:
        message = "the run's pages are made of its workers': give --health-port, too"
        raise typer.BadParameter(message, param_hint="--metrics-port")
    if health_port <= port < health_port + workers:
        message = f"port {port} is that of worker {port - health_port}; give one outside {health_port} to"
        raise typer.BadParameter(f"{message} {health_port + workers - 1}", param_hint="--metrics-port")
    from muse_stream.telemetry import check_address  # noqa: PLC0415

    try:
        check_address(host, port)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise typer.BadParameter(
            f"cannot listen on port {port} of '{host}': {why}", param_hint="--metrics-port"
        ) from None


@contextmanager
def _store(store: str | None, config: Path | None) -> Iterator[str]:
    """Return the store to serve from; a configuration gets one of its own for this run."""
    if store is not None:
        yield store
    elif config is not None:
        from muse_stream.runtime.run import apart  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="muse-stream-") as folder:
            with apart(_publish, config, folder) as published:
                published()
            yield folder


def _publish(config: Path, store: str) -> None:
    from muse_stream.commands import publish  # noqa: PLC0415 - in a process of its own: trying events starts threads

    publish.publish(config, store)
