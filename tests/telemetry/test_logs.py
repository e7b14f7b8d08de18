"""Log lines are JSON for machines, text for people, and never on stdout."""

import ast
import io
import json
import logging
import logging.config
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import importlinter.cli
import pytest

from muse_stream import telemetry
from muse_stream.telemetry.logs import PLAIN


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_json_line_has_what_a_machine_needs(stream: io.StringIO) -> None:
    telemetry.configure(stream=stream, human=False, role="live", slot=2)
    telemetry.logger("worker").info("batch_committed", events=812)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "batch_committed",
        "events": 812,
        "level": "info",
        "logger": "muse_stream.worker",
        "role": "live",
        "slot": 2,
    }


def test_bound_values_and_odd_types_survive(stream: io.StringIO) -> None:
    telemetry.configure(stream=stream, human=False)
    telemetry.logger("worker").bind(generation=3).warning("odd", what={1, 2}.__class__, data=b"x")
    line = json.loads(stream.getvalue())
    assert line["generation"] == 3
    assert line["level"] == "warning"


def test_lines_of_the_client_library_come_out_alike(stream: io.StringIO) -> None:
    telemetry.configure(stream=stream, human=False, role="live")
    logging.getLogger("muse_stream.kafka").warning("FAIL [%s] connection refused", "broker-1")
    line = json.loads(stream.getvalue())
    assert line["event"] == "FAIL [broker-1] connection refused"
    assert line["role"] == "live"


def test_level_and_reconfiguration(stream: io.StringIO) -> None:
    telemetry.configure(stream=io.StringIO(), human=False)
    telemetry.configure(stream=stream, human=False, level="warning")
    log = telemetry.logger("worker")
    log.info("too low")
    log.error("high enough")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["high enough"]
    with pytest.raises(ValueError, match="Unknown level"):
        telemetry.configure(level="loud")


def test_person_gets_text_without_colours_in_a_file(stream: io.StringIO) -> None:
    telemetry.configure(stream=stream, human=True)
    telemetry.logger("worker").info("batch_committed", events=812)
    assert "batch_committed" in stream.getvalue()
    assert "events=812" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_stdout_is_never_touched(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(human=False)
    telemetry.logger("worker").error("trouble")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "trouble"


def by_dict(**options: bool) -> None:
    logging.config.dictConfig({"version": 1, **options})


def by_file(path: Path) -> None:
    path.write_text("[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n")
    logging.config.fileConfig(path)


@pytest.fixture(params=["dictConfig", "fileConfig", "import-linter", "disable"])
def silence(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """What a library may do to every logger of its process; the other loggers get back what they had."""
    manager = logging.getLogger().manager
    root, others = logging.getLogger(), dict(manager.loggerDict)
    before = root.handlers[:], root.level, {name: getattr(one, "disabled", None) for name, one in others.items()}
    acts: dict[str, Callable[[], None]] = {
        "dictConfig": by_dict,
        "fileConfig": partial(by_file, tmp_path / "logging.ini"),
        "import-linter": partial(importlinter.cli._configure_logging, verbose=False),
        "disable": logging.disable,
    }
    yield acts[request.param]
    logging.disable(logging.NOTSET)
    root.handlers[:], level, disabled = before
    root.setLevel(level)
    for name, one in others.items():
        if isinstance(one, logging.Logger):
            one.disabled = bool(disabled[name])


def say_all(names: tuple[str, ...], stream: io.StringIO) -> list[str]:
    stream.truncate(0)
    stream.seek(0)
    for name in names:
        # each another text: what Kafka's clients repeat is said once
        logging.getLogger(f"muse_stream.{name}").warning("plain %s", uuid4())
        telemetry.logger(name).warning(f"bound {uuid4()}")
    return [f"{line['logger']} {line['event'].split()[0]}" for line in map(json.loads, stream.getvalue().splitlines())]


def test_no_library_turns_our_loggers_off(silence: Callable[[], None], stream: io.StringIO) -> None:
    """A worker must not go on in silence because something it loads configures `logging` for itself."""
    early, late = ("kafka", "metrics", "worker"), ("kafka", "metrics", "worker", uuid4().hex)
    expected = [f"muse_stream.{name} {event}" for name in late for event in ("plain", "bound")]
    for name in early:
        telemetry.logger(name)
    silence()
    telemetry.configure(stream=stream, human=False)
    assert say_all(early, stream) == expected[:6], "before `configure`"
    telemetry.logger(late[-1])
    silence()
    assert say_all(late, stream) == expected, "after `configure`"


def test_a_level_turns_our_loggers_off(stream: io.StringIO) -> None:
    telemetry.configure(stream=stream, human=False)
    logging.getLogger("muse_stream.kafka").setLevel(logging.CRITICAL)
    logging.getLogger("muse_stream.kafka").error("unwanted")
    logging.getLogger("muse_stream.kafka").setLevel(logging.NOTSET)
    assert stream.getvalue() == ""


def test_until_configured_the_application_decides() -> None:
    """The package as a library: whoever imports it may disable its loggers like any other's."""
    bound = telemetry.logger("worker")
    logging.getLogger("muse_stream.worker").disabled = True
    assert not bound.isEnabledFor(logging.CRITICAL)


def test_every_plain_logger_is_known() -> None:
    """`configure` must find those that are made later."""
    source = Path(telemetry.__file__).parents[1]
    made = {
        name
        for module in source.rglob("*.py")
        for name in re.findall(r'getLogger\("muse_stream\.([\w.]+)"\)', module.read_text())
    }
    assert made == set(PLAIN)


EVENT_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
OTHER_NAMES_OF_ERROR = {"why", "reason", "problem", "message"}


def misnamed(source: str) -> list[str]:
    """Return the calls of a log with an event that is not snake_case, or a reason under another key than `error`."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if call.func.attr not in {"debug", "info", "warning", "error"} or not call.args:
            continue
        event = call.args[0]
        if isinstance(event, ast.Dict):  # prometheus_client.Info.info
            continue
        if not isinstance(event, ast.Constant) or not EVENT_NAME.fullmatch(str(event.value)):
            found.append(f"line {call.lineno}: {ast.unparse(event)}")
        found += [f"line {call.lineno}: {word.arg}" for word in call.keywords if word.arg in OTHER_NAMES_OF_ERROR]
    return found


def test_log_events_have_one_style() -> None:
    """`tenant_paused`, never `tenant-paused`; and the reason is always `error`."""
    source = Path(telemetry.__file__).parents[1]
    modules = {str(module.relative_to(source)): misnamed(module.read_text()) for module in source.rglob("*.py")}
    assert {name: calls for name, calls in modules.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    ['log.info("tenant-paused")', 'log.error("generation refused")', "log.info(f'{x}')", 'log.info("a", why=1)'],
)
def test_other_styles_are_found(source: str) -> None:
    assert len(misnamed(source)) == 1
