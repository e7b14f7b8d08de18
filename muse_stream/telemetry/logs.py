"""Structured logs on stderr: JSON for machines, coloured lines for a person at a terminal.

`log = logger("worker")`, then `log.info("batch_committed", events=812)` writes one line, with UTC time, level, logger
and whatever `configure` was told to put on every line (role, lane, slot).

Invariant: stdout is never touched (it belongs to the command's answer); secrets are masked last, after tracebacks have
become text; importing this module changes no global state, so that the package can be used as a library: until
`configure` is called, the application that imports it decides about its loggers, and from then on nothing but their
level.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from muse_stream.telemetry.masking import mask


@contextmanager
def _without_rich() -> Iterator[None]:
    """Let structlog find no rich: it would import it for coloured tracebacks, which we do not use, in 0.2 s."""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["rich"]


with _without_rich():
    import structlog
    from structlog.stdlib import ProcessorFormatter

ROOT = "muse_stream"
PLAIN = ("broker", "kafka")
"""The loggers that rooms make by `logging.getLogger`; perhaps after `configure`, as rooms are imported when needed."""


class Log(Protocol):
    """What this package asks of a log: to be told an event's name and its facts."""

    def debug(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def info(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def warning(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def error(self, event: str, **facts: Any) -> object: ...  # noqa: D102


class LastError:
    """The last line of level error, its secrets masked: what a worker tells of itself beside its log."""

    def __init__(self) -> None:
        self.at = ""
        self.text = ""

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Structlog processor: note a line."""
        if event.get("level") in ("error", "critical", "exception"):
            said = event.get("error")
            self.at, self.text = str(event.get("timestamp", "")), f"{event.get('event')}{f': {said}' if said else ''}"
        return event


last_error = LastError()
"""Of this process."""


class AlwaysOn(logging.Logger):
    """A logger that only its level turns off.

    `logging.config.dictConfig` and `fileConfig` disable every logger they are not told of unless asked not to, and
    `logging.disable` silences all: any library may call them, before or after us, and a worker would go on in silence.
    """

    @property
    def disabled(self) -> bool:
        """False, whatever the standard library sets it to."""
        return False

    @disabled.setter
    def disabled(self, _value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        """Whether records of this level are written."""
        return level >= self.getEffectiveLevel()


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a room or process; its methods take an event and named values."""
    plain = logging.getLogger(f"{ROOT}.{name}")
    if isinstance(logging.getLogger(ROOT), AlwaysOn):
        plain.__class__ = AlwaysOn
    bound: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        plain,
        processors=[structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return bound


def configure(*, level: str = "INFO", stream: TextIO | None = None, human: bool | None = None, **always: Any) -> None:
    """Send this package's logs to `stream` (stderr); `always` is added to every line.

    `human` chooses coloured lines over JSON; by default it is whether the stream is a terminal. Calling again replaces
    what the last call set. From now on no other library's configuration of `logging` turns our loggers off. Raises
    ValueError for an unknown level.
    """
    target = stream if stream is not None else sys.stderr
    readable = target.isatty() if human is None else human
    renderer: structlog.typing.Processor
    if readable:
        renderer = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer(default=str)

    def place(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**always, **event}

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        place,
    ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],  # what plain `logging` calls carry beside their text
            processors=[
                *shared,
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask,
                last_error,
                renderer,
            ],
        )
    )
    for name in PLAIN:
        logging.getLogger(f"{ROOT}.{name}")
    for ours in package_loggers():
        ours.__class__ = AlwaysOn
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def package_loggers() -> list[logging.Logger]:
    """Return the loggers of this package that exist."""
    known = logging.getLogger(ROOT).manager.loggerDict
    return [
        found
        for name, found in known.items()
        if isinstance(found, logging.Logger) and (name == ROOT or name.startswith(f"{ROOT}."))
    ]
