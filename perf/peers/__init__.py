"""Peers: other ways to score the same events with the same model, exactly once, each the best its documentation allows.

    per-event      confluent-kafka, fastavro and onnxruntime, event by event, a transaction for each batch: per_event.py
    quixstreams    the same steps as a streaming data frame, in an environment of its own: quix.py
    kafka-streams  Java, EOS v2, one thread, built by Maven: kafka-streams/
    columnar, columnar-native, model, model-native
                   the product's own loop with a scorer of a few calls, or with the model alone: limits.py

The first three decode an Avro event, run the ONNX model with one thread, correct and map its answer, and write the
product's score record with as many bytes. A peer is started as `COMMAND SETTINGS.json`, joins the group that the file
names, and ends on SIGTERM. Where one cannot run the figures say why.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from ruamel.yaml import YAML

from muse_stream import Reference
from muse_stream.avro import SchemaDirectory
from muse_stream.avro.framing import single_object_prefix
from muse_stream.calibration import FittedMap, QuantileMap
from muse_stream.errors import MuseError
from muse_stream.testing.kafka_jars import call, missing_tools
from perf import echo

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
CACHE = PROJECT / ".cache" / "peers"
QUIXSTREAMS, KAFKA_STREAMS = HERE / "quixstreams.lock", HERE / "kafka-streams"
COMMIT_MS = 100
"""Between two commits of a peer: what Kafka Streams does by default with exactly-once."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that can run here."""

    name: str
    version: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    group: Callable[[str], str] = str
    """The consumer group of the peer that writes to a topic."""
    answers: bool = True
    """Whether what it sends are scores."""


def prepare(names: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """Make peers ready, building what is not there yet; returns those, and why others cannot run here."""
    ready, missing = [], {}
    for name in names:
        try:
            ready.append(MAKERS[name]())
        except MuseError as error:
            missing[name] = str(error)
    return ready, missing


def write(
    target: Path,
    bootstrap: str,
    topic: str,
    out: str,
    path: Path,
    *,
    group: str = "",
    commit_ms: int = COMMIT_MS,
    score_bytes: int = 0,
) -> Path:
    """Write what a peer has to know to score the one tenant of a configuration; returns the file.

    `group` is `out` where it is not given; `score_bytes` is what an answer of the product has.
    """
    written = YAML(typ="safe").load(path)
    (tenant,) = written["tenants"]
    ((predictor_name, predictor),) = written["predictors"].items()
    ((_, model),) = written["models"].items()
    reference = Reference.from_alert_rates(written["references"]["standard"]["alert_rates"])
    x, y = QuantileMap(FittedMap.from_json(written["maps"]["all"]), reference).knots
    score = SchemaDirectory.open(PROJECT / "schemas").by_file("score.avsc")
    ((model_input, features),) = model["inputs"].items()
    settings = {
        "bootstrap": bootstrap,
        "group": group or out,
        "topic": topic,
        "out": out,
        "commit_ms": commit_ms,
        "configuration": str(path),
        "score_bytes": score_bytes,
        "event_schema": str(path.parent / "schemas" / "event.avsc"),
        "score_schema": str(PROJECT / "schemas" / "score.avsc"),
        "score_prefix": single_object_prefix(score.fingerprint).hex(),
        "model": str(path.parent / model["uri"]),
        "input": model_input,
        "features": features,
        "output": model["output"]["name"],
        "positive": model["output"]["positive"],
        "beta": predictor["experts"][0]["beta"],
        "map": {"x": x.tolist(), "y": y.tolist()},
        "tenant": tenant,
        "predictor": predictor_name,
        "predictor_version": predictor["version"],
    }
    target.write_text(json.dumps(settings), encoding="utf-8")
    return target


def _per_event() -> Peer:
    command = [sys.executable, "-m", "perf.peers.per_event"]
    return Peer("per-event", f"confluent-kafka {version('confluent-kafka')}", command)


def _quixstreams() -> Peer:
    home = _built("quixstreams", [QUIXSTREAMS], _install_quixstreams)
    found = re.search(r"^quixstreams==(\S+)", QUIXSTREAMS.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None  # noqa: S101  # our own file
    # a script of its own environment: nothing of this project is imported there
    return Peer("quixstreams", found[1], [str(home / "bin" / "python"), str(HERE / "quix.py")])


def _install_quixstreams(home: Path) -> None:
    venv.create(home, with_pip=False)
    install = ["pip", "install", "--quiet", "--require-hashes", "--no-build"]
    python = ["--python", str(home / "bin" / "python")]
    call([sys.executable, str(PROJECT / "deploy" / "run_uv.py"), *install, *python, "-r", str(QUIXSTREAMS)])


def _kafka_streams() -> Peer:
    if missing := missing_tools():
        raise MuseError(missing)
    pom = KAFKA_STREAMS / "pom.xml"
    sources = sorted((KAFKA_STREAMS / "src").rglob("*.java"))
    home = _built("kafka-streams", [pom, *sources], _build_kafka_streams)
    found = ElementTree.parse(pom).findtext("{*}properties/{*}kafka.version")  # noqa: S314  our own file
    command = ["java", "-XX:+UseSerialGC", "-Xmx1g", "-cp", f"{home / 'peer.jar'}{os.pathsep}{home / 'lib'}/*"]
    return Peer("kafka-streams", str(found), [*command, "muse.peer.KafkaStreamsPeer"])


def _build_kafka_streams(home: Path) -> None:
    options = ["-q", "-B", "-f", str(KAFKA_STREAMS / "pom.xml"), f"-Dpeer.target={home / 'target'}"]
    goals = ["package", "dependency:copy-dependencies", "-DincludeScope=runtime"]
    call(["mvn", *options, *goals, f"-DoutputDirectory={home / 'lib'}"])
    (home / "target" / "peer.jar").rename(home / "peer.jar")
    shutil.rmtree(home / "target")


def _limit(kind: str, backend: str) -> Peer:
    command = [sys.executable, "-m", "perf.peers.limits", kind, backend]
    return Peer(kind if backend == "onnxruntime" else f"{kind}-native", "", command, {}, echo.group_of, kind != "model")


def _built(name: str, made_of: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """Return the folder that was built of these files, building it the first time; a half-built one never counts.

    An environment of Python knows its own path, so the folder is built where it stays.
    """
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_of)).hexdigest()[:16]
    home, done = CACHE / f"{name}-{digest}", CACHE / f"{name}-{digest}.done"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        print(f"building the peer {name} (once) in {home}", file=sys.stderr)
        build(home)
        done.touch()
    return home


MAKERS: dict[str, Callable[[], Peer]] = {
    "per-event": _per_event,
    "quixstreams": _quixstreams,
    "kafka-streams": _kafka_streams,
    "columnar": lambda: _limit("columnar", "onnxruntime"),
    "columnar-native": lambda: _limit("columnar", "auto"),
    "model": lambda: _limit("model", "onnxruntime"),
    "model-native": lambda: _limit("model", "auto"),
}
