"""`MUSE_*` variables: the table is complete, and whatever is not in it is refused by whatever reads the environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from muse_stream import environment
from muse_stream.cli.main import _command, main
from muse_stream.config.kafka_settings import VARIABLES, KafkaSettings
from muse_stream.errors import ConfigError
from muse_stream.testing import kafka_broker
from muse_stream.worker import failpoints

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "deploy" / "config" / "muse.yaml"
PLACES = ("muse_stream", "perf", "deploy", "docs", "tests/integration", "tests/deploy", "README.md", "Makefile")
PACKAGE = sorted((ROOT / "muse_stream").rglob("*.py"))


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MUSE_")]:
        monkeypatch.delenv(name)


def refused() -> str:
    with pytest.raises(ConfigError) as error:
        environment.check()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MUSE_KAFKA_BOOTSTRAP", "MUSE_KAFKA_BOOTSTRAP: is called MUSE_KAFKA_BOOTSTRAP_SERVERS now"),
        ("MUSE_KAFKA_BOOTSTRAP_SERVER", "did you mean MUSE_KAFKA_BOOTSTRAP_SERVERS?"),
        ("MUSE_KAFKA_BOOTSTRAPSERVERS", "did you mean MUSE_KAFKA_BOOTSTRAP_SERVERS?"),
        ("MUSE_BOOTSTRAP_SERVERS", "did you mean MUSE_KAFKA_BOOTSTRAP_SERVERS?"),
        ("MUSE_KAFKA_BROKERS", "the address of Kafka is MUSE_KAFKA_BOOTSTRAP_SERVERS"),
        ("MUSE_KAFKA_USERNAME", "did you mean MUSE_KAFKA_SASL_USERNAME?"),
        ("MUSE_KAFKA_SASL_MECHANISMS", "did you mean MUSE_KAFKA_SASL_MECHANISM?"),
        ("MUSE_KAFKA_LINGER_MS", "go into the file that MUSE_KAFKA_PROPERTIES_FILE names"),
        ("MUSE_KAFKA_PROPERTIES", "did you mean MUSE_KAFKA_PROPERTIES_FILE?"),
        ("MUSE_LOGLEVEL", "did you mean MUSE_LOG_LEVEL?"),
        ("MUSE_KAFKA_LOG_LEVEL", "did you mean MUSE_LOG_LEVEL?"),
        ("MUSE_HEALTHPORT", "did you mean MUSE_HEALTH_PORT?"),
        ("MUSE_FAILPOINT", "did you mean MUSE_FAILPOINTS?"),
        ("MUSE_ENV", "names that begin with MUSE_ are muse-stream's"),
        ("muse_kafka_bootstrap_servers", "names are in upper case (did you mean MUSE_KAFKA_BOOTSTRAP_SERVERS?"),
        ("muse_kafka_bootstrap", "did you mean MUSE_KAFKA_BOOTSTRAP_SERVERS?"),
        ("Muse_Log_Level", "did you mean MUSE_LOG_LEVEL?"),
    ],
)
def test_an_unknown_variable_is_refused_with_what_was_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "hush-4711")
    text = refused()
    assert text.startswith(f"{name}: ")
    assert said in text
    assert "hush-4711" not in text


def test_every_unknown_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP", "h:1")
    monkeypatch.setenv("MUSE_LOGLEVEL", "info")
    assert len(refused().splitlines()) == 2


def test_what_is_known_or_not_ours_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*environment.VARIABLES, "muse_home", "AMUSE_KAFKA", "MUSETTE", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.setenv(name, "x")
    environment.check()
    assert environment.given() == dict.fromkeys(environment.VARIABLES, "x")


SERVICES = {
    # a Service called muse, with two named ports
    "MUSE_SERVICE_HOST": "10.96.0.17",
    "MUSE_SERVICE_PORT": "9100",
    "MUSE_SERVICE_PORT_METRICS": "9100",
    "MUSE_PORT": "tcp://10.96.0.17:9100",
    "MUSE_PORT_9100_TCP": "tcp://10.96.0.17:9100",
    "MUSE_PORT_9100_TCP_PROTO": "tcp",
    "MUSE_PORT_9100_TCP_PORT": "9100",
    "MUSE_PORT_9100_TCP_ADDR": "10.96.0.17",
    # muse-kafka, on IPv6
    "MUSE_KAFKA_SERVICE_HOST": "fd00:10:96::2",
    "MUSE_KAFKA_PORT": "tcp://[fd00:10:96::2]:9092",
    "MUSE_KAFKA_PORT_9092_TCP": "tcp://[fd00:10:96::2]:9092",
    # muse-kafka-bootstrap: what Strimzi makes for a cluster called muse
    "MUSE_KAFKA_BOOTSTRAP_SERVICE_HOST": "10.96.0.18",
    "MUSE_KAFKA_BOOTSTRAP_SERVICE_PORT_TCP_CLIENTS": "9092",
    "MUSE_KAFKA_BOOTSTRAP_PORT": "tcp://10.96.0.18:9092",
    "MUSE_KAFKA_BOOTSTRAP_PORT_9092_TCP_ADDR": "10.96.0.18",
    # muse-dns, over UDP; muse-health, under a name of ours
    "MUSE_DNS_PORT_53_UDP": "udp://10.96.0.19:53",
    "MUSE_DNS_PORT_53_UDP_PROTO": "udp",
    "MUSE_HEALTH_PORT": "tcp://10.96.0.20:9100",
}


def test_what_kubernetes_injects_does_not_stop_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES.items():
        monkeypatch.setenv(name, value)
    environment.check()
    assert environment.given() == {}
    assert KafkaSettings.from_environment() == KafkaSettings()


def test_a_service_called_muse_health_is_no_health_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It would otherwise be refused as no number: the pod could not start."""
    monkeypatch.setenv("MUSE_HEALTH_PORT", SERVICES["MUSE_HEALTH_PORT"])
    assert main(["run", "--role", "live", "--store", str(tmp_path)]) == 1
    assert "holds no generation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MUSE_KAFKA_PORT", "9092"),
        ("MUSE_KAFKA_SERVICE_HOST", "kafka.example"),
        ("MUSE_KAFKA_HOST", "10.96.0.17"),
        ("MUSE_PORT_TCP", "tcp://10.96.0.17:9100"),
        ("MUSE_SERVICE_NAME", "kafka"),
        ("MUSE_PORT_9100_TCP_PROTO", "http"),
    ],
)
def test_what_only_looks_like_a_service_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert refused().startswith(f"{name}: ")


COMMANDS = [
    [
        *("backtest", "events.parquet", "--config", str(EXAMPLE)),
        *("--label", "label", "--time", "time", "--tenant", "tenant"),
    ],
    ["acl", str(EXAMPLE)],
    ["broker"],
    ["check", str(EXAMPLE)],
    ["demo"],
    ["diff", str(EXAMPLE), str(EXAMPLE)],
    ["doctor", str(EXAMPLE)],
    ["drift", "store"],
    ["event", str(EXAMPLE), "events.jsonl"],
    ["fit", str(EXAMPLE), "cards", "--from", "events.parquet"],
    ["export", "current", "folder", "--store", "store"],
    ["generations", "store"],
    ["golden", str(EXAMPLE), "cards-2026q2", "events.jsonl", "--column", "score"],
    ["pause", "acme", "--store", "store"],
    ["plan", "--events-per-second", "1744"],
    ["produce", str(EXAMPLE), "acme", "events.jsonl"],
    ["promote", "cards-next", "--write", str(EXAMPLE)],
    ["publish", str(EXAMPLE), "store"],
    ["replay", str(EXAMPLE), "acme", "events.jsonl"],
    ["resume", "acme", "--store", "store"],
    ["rollback", "store"],
    ["run", "--role", "live", "--store", "store"],
    ["schema"],
    ["status", "store"],
    ["watch", "store", "--once"],
    ["tail", str(EXAMPLE), "acme"],
    ["topics", str(EXAMPLE)],
    ["audit", str(EXAMPLE), "acme", "--to", "acme.parquet"],
    ["report", str(EXAMPLE), "--to", "report.html"],
    ["verify", str(EXAMPLE)],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_refuses_it_and_still_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVER", "prod:9092")
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[:2] == [
        "refused: 1 problem",
        "MUSE_KAFKA_BOOTSTRAP_SERVER: muse-stream has no such variable",
    ]
    assert "did you mean MUSE_KAFKA_BOOTSTRAP_SERVERS?" in shown.err
    assert [*tmp_path.iterdir()] == []
    assert main([command[0], "--help"]) == 0
    assert "Examples" in capsys.readouterr().out


def test_no_command_was_forgotten() -> None:
    assert sorted(name for name, *_ in COMMANDS) == sorted(
        name for name, command in _command().commands.items() if not hasattr(command, "commands")
    )


def test_whoever_else_reads_the_environment_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP", "prod:9092")
    for read in (
        KafkaSettings.from_environment,
        failpoints.from_environment,
        lambda: kafka_broker.prepare(lambda _line: None),
        lambda: kafka_broker.broker(lambda _line: None).__enter__(),
    ):
        with pytest.raises(ConfigError, match="MUSE_KAFKA_BOOTSTRAP: is called MUSE_KAFKA_BOOTSTRAP_SERVERS now"):
            read()


@pytest.mark.parametrize(
    "program", [pytest.param(["-m", "perf", "stages"], marks=pytest.mark.long), ["-m", "muse_stream.testing"]]
)
def test_programs_beside_the_command_line_refuse_it(program: list[str]) -> None:
    """In one line on stderr, and with the exit code of a refusal."""
    done = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "MUSE_KAFKA_BOOTSTRAP": "prod:9092"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("MUSE_KAFKA_BOOTSTRAP: is called MUSE_KAFKA_BOOTSTRAP_SERVERS now")
    assert len(done.stderr.splitlines()) == 1


def written() -> set[str]:
    """Every variable that the project writes down, but for those that tests misspell on purpose."""
    files = [file for place in PLACES for file in (ROOT / place, *(ROOT / place).rglob("*"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file() and is_text(file))
    return set(re.findall(r"(?<![A-Z_])MUSE_[A-Z0-9_]*[A-Z0-9]\b(?!_)", text))


def is_text(file: Path) -> bool:
    return file.suffix in ("", ".py", ".md", ".yaml", ".sh", ".xml", ".properties") and "__pycache__" not in file.parts


def test_the_table_has_every_variable_of_the_project_and_no_other() -> None:
    others = {name for name in written() if any(name.startswith(f"{one}_") or name == one for one in SERVICES)}
    assert written() - set(environment.RENAMED) - (others - environment.VARIABLES.keys()) == set(environment.VARIABLES)


def test_every_setting_of_kafka_has_its_variable() -> None:
    assert set(VARIABLES.values()) == set(environment.CONNECTION)


def test_nobody_reads_past_the_table() -> None:
    """A lookup of its own would let a misspelt variable pass."""
    past = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in [*PACKAGE, *(ROOT / "perf").glob("*.py")]
        if path.name != "environment.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"(environ(\.get\(|\[)|getenv\().*MUSE_", line)
    ]
    assert past == []


def test_help_lists_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in (*environment.CONNECTION, *environment.PROCESS) if name not in text] == []


def test_the_documented_table_is_this_table() -> None:
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(MUSE_\w+)` \| (.*) \|$", text, flags=re.MULTILINE))
    assert rows == environment.VARIABLES
