"""The program's surface: help, version, exit codes, errors in one line, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from muse_stream import telemetry
from muse_stream.cli.main import _command, main
from muse_stream.cli.output import show_json, show_line
from muse_stream.commands import check
from muse_stream.commands.configuration import check_lane
from muse_stream.errors import Fatal, MuseError, Retriable, StoreError
from muse_stream.telemetry import HealthServer

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
COMMANDS = [
    "acl",
    "audit",
    "backtest",
    "broker",
    "check",
    "demo",
    "diff",
    "doctor",
    "drift",
    "event",
    "export",
    "fit",
    "generations",
    "golden",
    "pause",
    "plan",
    "produce",
    "promote",
    "publish",
    "replay",
    "report",
    "resume",
    "rollback",
    "run",
    "schema",
    "status",
    "tail",
    "topics",
    "verify",
    "watch",
]
TABLES = [name for name in COMMANDS if name != "run"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MUSE_TRACE_SAMPLE_RATIO": "1.5"}, "MUSE_TRACE_SAMPLE_RATIO: '1.5' is not a share of events"),
        ({"MUSE_TRACE_SAMPLE_RATIO": "1%"}, "MUSE_TRACE_SAMPLE_RATIO: '1%' is not a share of events"),
        (
            {"MUSE_TRACE_SAMPLE_RATIO": "1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: spans are not exported by 'grpc'",
        ),
    ],
)
def test_a_run_that_cannot_trace_as_asked_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    variables: dict[str, str],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["run", "--role", "live", "--store", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_is_to_trace_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ["opentelemetry", *(name for name in sys.modules if name.startswith("opentelemetry."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "muse_stream.telemetry.spans", raising=False)
    monkeypatch.delattr(telemetry, "spans", raising=False)
    command = ["run", "--role", "live", "--store", str(tmp_path)]
    assert main(command) == 1
    assert "holds no generation" in capsys.readouterr().err, "who does not trace needs nothing"
    monkeypatch.setenv("MUSE_TRACE_SAMPLE_RATIO", "0.5")
    assert main(command) == 1
    assert capsys.readouterr().err == "Error: opentelemetry is not installed: pip install 'muse-stream[tracing]'\n"


def test_help_shows_every_command_with_one_sentence_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"│ {name} +[A-Z]", text), name
    for code in (
        "0 all well",
        "1 something was found",
        "2 wrong usage",
        "3 Kafka cannot be reached",
        "130 interrupted",
    ):
        assert code in text
    assert "--install-completion" in text


def test_every_command_is_described_by_one_sentence_and_an_example() -> None:
    found = {}
    for name, command in _command().commands.items():
        if not hasattr(command, "commands"):
            found[name] = command.callback.__doc__ or ""
    assert sorted(found) == COMMANDS
    for name, text in found.items():
        first = text.split("\n\n")[0]
        assert first.endswith("."), name
        assert first.count(". ") == 0, name
        assert f"muse-stream {name}" in text, f"{name} has no example"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples" in text
    assert ("--json" in text) == (name in TABLES)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"muse-stream \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["check"],
        ["run", "--role", "live"],
        ["run", "--role", "live", "--store", "a", "--config", "b"],
        ["run", "--role", "both", "--store", "a"],
        ["produce", str(EXAMPLE), "acme", "x.parquet", "--column", "nonsense"],
        ["--log-level", "loud", "schema"],
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MuseError("nope"), 1, "Error: nope"),
        (StoreError("torn"), 1, "Error: torn"),
        (Fatal("refused [bold]by[/bold] x"), 1, "Error: refused [bold]by[/bold] x"),
        (Retriable("away"), 3, "Error: away"),
        (OSError(28, "No space left on device"), 1, "Error: [Errno 28] No space left on device"),
        (ZeroDivisionError("oops"), 1, "This is a bug in muse-stream: ZeroDivisionError: oops"),
    ],
)
def test_errors_are_one_line_unless_debugged(
    error: Exception, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_path: Path) -> None:
        raise error

    monkeypatch.setattr(check, "check", fail)
    assert main(["check", "x.yaml"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == text
    assert main(["--debug", "check", "x.yaml"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_unreachable_kafka_is_code_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    monkeypatch.setattr("muse_stream.kafka.client.reach.__defaults__", (0.3,))
    for command in (["verify", str(EXAMPLE)], ["topics", str(EXAMPLE)], ["tail", str(EXAMPLE), "acme"]):
        assert main(command) == 3
        assert "Kafka cannot be reached at localhost:1" in capsys.readouterr().err


def test_wrong_environment_and_unknown_tenant_are_refusals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "no-port")
    assert main(["verify", str(EXAMPLE)]) == 2
    assert "MUSE_KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err
    monkeypatch.delenv("MUSE_KAFKA_BOOTSTRAP_SERVERS")
    assert main(["tail", str(EXAMPLE), "nobody"]) == 2
    assert "there is: acme, globex" in capsys.readouterr().err


def test_generations_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "store")
    assert main(["publish", str(EXAMPLE), store]) == 0
    assert "generation 1 published and current" in capsys.readouterr().out
    assert main(["publish", str(EXAMPLE), store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"number": 1, "before": 1, "current": True, "changed": False}
    assert main(["generations", store, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["number"], row["current"], row["problem"]) == (1, True, "")
    assert main(["generations", store]) == 0
    assert row["sha256"][:12] in capsys.readouterr().out
    assert main(["rollback", store]) == 1
    assert "there is none before it" in capsys.readouterr().err


def test_refused_configuration_is_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "muse.yaml"
    broken.write_text("version: 2")
    assert main(["publish", str(broken), str(tmp_path / "store")]) == 2
    assert not (tmp_path / "store").exists()


def run_in_shell(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from muse_stream.cli.main import main; sys.exit(main())", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_help_needs_none_of_the_vendors() -> None:
    """Help and completion must answer at once: nothing heavy is imported for them."""
    code = (
        "import sys; from muse_stream.cli.main import main; main(['--help']);"
        "heavy = ('confluent_kafka', 'onnxruntime', 'pyarrow', 'scipy', 'numpy');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_the_command_that_is_asked_for_is_imported() -> None:
    code = (
        "import sys; from muse_stream.__main__ import main; main(['golden', '--help']);"
        "print([name for name in ('golden', 'run', 'backtest') if f'muse_stream.cli.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout.splitlines()[-1] == "['golden']"


def test_completion_script_is_offered() -> None:
    process = run_in_shell(_MUSE_STREAM_COMPLETE="complete_bash", COMP_WORDS="muse-stream ver", COMP_CWORD="1")
    out, _ = process.communicate(timeout=280)
    assert out.split() == ["verify"]


STOPS_IN_THE_MIDDLE = """
import sys, time
from muse_stream.cli.main import main
from muse_stream.runtime.batch_scorer import GenerationScorer
score, calls = GenerationScorer.score, []

def stops(self, *rest):
    calls.append(self)
    if len(calls) == 2:
        print("in the middle", flush=True)
        time.sleep(600)
    return score(self, *rest)

GenerationScorer.score = stops
sys.exit(main())
"""


@pytest.mark.long  # tests/cli/test_signals.py has two interrupts of a shorter program
def test_interrupt_ends_with_130_and_leaves_no_half_written_file(tmp_path: Path) -> None:
    events, output = tmp_path / "events.jsonl", tmp_path / "scores.parquet"
    event = {"transaction_id": "t", "event_time": 1_780_000_000_000, "tenant": "acme", "channel": "pos", "amount": 1.0}
    line = json.dumps(event | {"terminal": {"id": "x"}, "customer": {}}) + "\n"
    events.write_text(line * 12_000)
    command = ["replay", str(EXAMPLE), "acme", str(events), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS_IN_THE_MIDDLE, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n", process.communicate()
    assert [*tmp_path.glob(".scores.parquet.*")]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 130, err
    assert [*tmp_path.iterdir()] == [events]
    assert "Traceback" not in err


def test_numbers_that_json_does_not_have_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """An event may hold them; strict readers refuse a bare NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    given = {"amount": float("nan"), "all": [{"low": float("-inf")}, (float("inf"), 1.5)], "raw": b"\x00\xff"}
    for show in (show_json, show_line):
        show(given)
        shown = json.loads(capsys.readouterr().out, parse_constant=refuse)
        assert shown == {"amount": "NaN", "all": [{"low": "-Infinity"}, ["Infinity", 1.5]], "raw": "\x00\xff"}


@pytest.mark.parametrize("hours", ["nan", "inf"])
def test_hours_without_a_number_are_wrong_usage(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", str(EXAMPLE), "--retention-hours", hours]) == 2
    assert "--retention-hours" in capsys.readouterr().err


def test_run_refuses_what_workers_would_crash_on_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "store")
    assert main(["run", "--role", "live", "--store", store]) == 1
    assert "holds no generation; publish one there" in capsys.readouterr().err
    assert main(["publish", str(EXAMPLE), store]) == 0
    assert main(["run", "--role", "live", "--store", store, "--lane", "smal"]) == 2
    err = capsys.readouterr().err
    assert "no tenant belongs to lane 'smal'" in err
    assert "lanes: main, small" in err


def test_a_health_port_that_is_taken_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Of any worker, before Kafka is asked for; not in a loop of crashes."""
    with HealthServer(0, lambda: True, lambda: True) as server:
        options = ["--health-host", "127.0.0.1", "--health-port", str(server.port - 1), "--workers", "2"]
        assert main(["run", "--role", "live", "--store", "store", *options]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    # the port before it may be somebody's, too
    assert re.search(r"worker [01] cannot listen on port \d+ of '127.0.0.1': address already in use", said), said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--health-port", "9100", "--health-host", "192.0.2.1"], "cannot listen on '192.0.2.1': cannot assign"),
        (["--health-port", "9100", "--health-host", "nowhere.invalid"], "cannot listen on 'nowhere.invalid': "),
        (["--health-port", "65535", "--workers", "3"], "worker 2 would be on port 65537"),
        (["--health-port", "0"], "--health-port"),
    ],
)
def test_health_pages_that_no_worker_could_serve_are_wrong_usage(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--role", "live", "--store", str(tmp_path), *options]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_a_lane_is_not_judged_by_a_generation_that_cannot_be_opened(tmp_path: Path) -> None:
    """Workers go on with the last good generation then."""
    assert main(["publish", str(EXAMPLE), str(tmp_path)]) == 0
    next((tmp_path / "generations").rglob("muse.yaml")).write_text("torn")
    check_lane(tmp_path, "whichever")
