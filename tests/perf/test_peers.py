"""What can be said of the peers without building them: they read what is written for them, and are pinned."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from perf import peers, workload

SOURCES = [peers.HERE / "scoring.py", peers.HERE / "per_event.py", peers.HERE / "quix.py", peers.HERE / "limits.py"]
JAVA = sorted((peers.KAFKA_STREAMS / "src").rglob("*.java"))


def test_peers_ask_for_settings_that_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workload.made_up(6_000)
    monkeypatch.setattr(workload, "TRAIN_ROWS", 4_000)
    monkeypatch.setattr(workload, "FIT_ROWS", 2_000)
    path = workload.configure(tmp_path, made, 1)
    written = json.loads(peers.write(tmp_path / "peer.json", "b:1", "in", "out", path).read_text())
    assert Path(written["model"]).is_file()
    assert written["features"] == list(made.features)
    assert len(written["map"]["x"]) == len(written["map"]["y"]) > 2
    assert len(SOURCES) + len(JAVA) == 6
    asked = set()
    for source in SOURCES:
        asked |= set(re.findall(r'settings\["(\w+)"\]', source.read_text(encoding="utf-8")))
    for source in JAVA:
        asked |= set(re.findall(r'settings\.get\("(\w+)"\)', source.read_text(encoding="utf-8")))
    assert asked == written.keys()


def test_peers_are_pinned() -> None:
    lock = peers.QUIXSTREAMS.read_text(encoding="utf-8")
    assert re.search(r"^quixstreams==[\d.]+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert "://" not in lock
    pom = ElementTree.parse(peers.KAFKA_STREAMS / "pom.xml").getroot()  # noqa: S314  our own file
    versions = [one.text or "" for one in pom.iter() if one.tag.endswith(("}version", ".version"))]
    assert len(versions) >= 10
    assert [one for one in versions if not re.fullmatch(r"[\d.]+|\$\{[\w.]+\.version\}", one)] == []


def test_a_peer_that_cannot_run_here_is_said_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "missing_tools", lambda: "mvn not found: apt-get install -y maven")
    ready, missing = peers.prepare(["kafka-streams", "per-event"])
    assert [one.name for one in ready] == ["per-event"]
    assert missing == {"kafka-streams": "mvn not found: apt-get install -y maven"}
