"""Log lines are JSON for machines, text for people, and never on stdout."""

import io
import json
import logging

import pytest

from muse_stream import observe


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_json_line_has_what_a_machine_needs(stream: io.StringIO) -> None:
    observe.configure(stream=stream, human=False, role="live", slot=2)
    observe.logger("worker").info("batch committed", events=812)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "batch committed",
        "events": 812,
        "level": "info",
        "logger": "muse_stream.worker",
        "role": "live",
        "slot": 2,
    }


def test_bound_values_and_odd_types_survive(stream: io.StringIO) -> None:
    observe.configure(stream=stream, human=False)
    observe.logger("worker").bind(generation=3).warning("odd", what={1, 2}.__class__, data=b"x")
    line = json.loads(stream.getvalue())
    assert line["generation"] == 3
    assert line["level"] == "warning"


def test_lines_of_the_client_library_come_out_alike(stream: io.StringIO) -> None:
    observe.configure(stream=stream, human=False, role="live")
    logging.getLogger("muse_stream.kafka").warning("FAIL [%s] connection refused", "broker-1")
    line = json.loads(stream.getvalue())
    assert line["event"] == "FAIL [broker-1] connection refused"
    assert line["role"] == "live"


def test_level_and_reconfiguration(stream: io.StringIO) -> None:
    observe.configure(stream=io.StringIO(), human=False)
    observe.configure(stream=stream, human=False, level="warning")
    log = observe.logger("worker")
    log.info("too low")
    log.error("high enough")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["high enough"]
    with pytest.raises(ValueError, match="Unknown level"):
        observe.configure(level="loud")


def test_person_gets_text_without_colours_in_a_file(stream: io.StringIO) -> None:
    observe.configure(stream=stream, human=True)
    observe.logger("worker").info("batch committed", events=812)
    assert "batch committed" in stream.getvalue()
    assert "events=812" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_stdout_is_never_touched(capsys: pytest.CaptureFixture[str]) -> None:
    observe.configure(human=False)
    observe.logger("worker").error("trouble")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "trouble"
