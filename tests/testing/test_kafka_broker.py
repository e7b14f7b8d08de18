"""The ladder: the right rung, said aloud; faults on demand; and nothing left behind, however the command ends.

In: the real ladder of this machine, and stand-ins for java, mvn and the Docker engine where a machine must lack them.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.errors import MuseError
from muse_stream.testing import CommittedReader, kafka_jars, keeper, local_kafka, probe
from muse_stream.testing.kafka_broker import PLACES, Broker, NoBroker, broker
from muse_stream.testing.kafka_jars import Places
from tests.transactions import await_decided

Eventually = Callable[[Callable[[], object], float], None]
MakeTopic = Callable[..., str]

SLOW = pytest.mark.slow  # each is a broker of its own, and the ways that differ most stay
HOLD = """
import sys
from muse_stream.testing.kafka_broker import broker
with broker(say=lambda line: print(line, file=sys.stderr)) as kafka:
    print(kafka.bootstrap, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", raising=False)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_cluster: None) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.delenv("MUSE_KAFKA_IMAGE", raising=False)


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def runs() -> set[str]:
    folder = local_kafka.run_folders(PLACES.cache)
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()


class TestNothingIsLeftBehind:
    @pytest.mark.long  # a broker for each; the tests below have its keeper, and what is swept
    @pytest.mark.usefixtures("no_cluster")
    @pytest.mark.broker
    @pytest.mark.parametrize(
        "end", ["SIGINT", "SIGKILL", *(pytest.param(end, marks=SLOW) for end in ("return", "SIGTERM"))]
    )
    def test_the_broker_ends_with_the_command_that_asked_for_it(self, end: str, eventually: Eventually) -> None:
        command = [sys.executable, "-c", HOLD]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
            assert holder.stdin is not None and holder.stdout is not None
            bootstrap = holder.stdout.readline().decode().strip()
            eventually(lambda: probe.answers(bootstrap, 10.0), 20.0)
            mine = runs()
            if end == "return":
                holder.stdin.close()
            else:
                holder.send_signal(signal.Signals[end])
            holder.wait(timeout=280)
            eventually(lambda: not probe.answers(bootstrap, 1.0), 15.0)
            # the folder of this run is gone; one of the session's own broker may stay
            eventually(lambda: len(runs() & mine) < max(len(mine), 1), 15.0)

    def test_a_keeper_clears_up_when_its_stdin_ends(self, tmp_path: Path, eventually: Eventually) -> None:
        with keeping(tmp_path / "run") as kept:
            pid = order(kept, "start")
            assert order(kept, "status") == pid
            kept.communicate(timeout=60)
        eventually(lambda: not alive(pid), 5.0)
        assert not (tmp_path / "run").exists()

    def test_a_broker_dies_with_its_keeper(self, tmp_path: Path, eventually: Eventually) -> None:
        with keeping(tmp_path / "run") as kept:
            pid = order(kept, "start")
            kept.kill()
        eventually(lambda: not alive(pid), 5.0)

    def test_a_keeper_kills_and_starts_again(self, tmp_path: Path, eventually: Eventually) -> None:
        with keeping(tmp_path / "run") as kept:
            first = order(kept, "start")
            assert order(kept, "kill") == 0
            assert not alive(first)
            assert order(kept, "status") == 0
            second = order(kept, "start")
            assert second not in (0, first)
            os.kill(second, signal.SIGSTOP)
            third = order(kept, "start")  # a stopped process is replaced like any other
            eventually(lambda: not alive(second), 5.0)
            assert alive(third)

    def test_a_keeper_stops_in_order_and_kills_who_does_not_heed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heeding = subprocess.Popen(["sleep", "1000"])
        keeper._stop(heeding)
        assert heeding.returncode == -signal.SIGTERM
        monkeypatch.setattr(keeper, "_STOP_WITHIN_S", 0.2)
        deaf = subprocess.Popen(["sh", "-c", "trap '' TERM; echo up; exec sleep 1000"], stdout=subprocess.PIPE)
        with deaf:
            assert deaf.stdout is not None and deaf.stdout.readline()
            keeper._stop(deaf)
            assert deaf.poll() is None
            keeper._kill(deaf)
            assert deaf.returncode == -signal.SIGKILL

    def test_folders_of_dead_runs_are_swept_and_living_ones_stay(self, tmp_path: Path) -> None:
        dead, lock = local_kafka.claim_run(tmp_path)
        os.close(lock)  # as when its keeper was killed
        living, lock = local_kafka.claim_run(tmp_path)
        assert not dead.exists()
        other, other_lock = local_kafka.claim_run(tmp_path)
        assert living.exists() and other.exists()
        os.close(lock)
        os.close(other_lock)


class TestRungs:
    def test_a_cluster_that_does_not_answer_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        with pytest.raises(NoBroker, match=r"^MUSE_KAFKA_BOOTSTRAP_SERVERS=127\.0\.0\.1:1: no Kafka broker answers.*$"):
            broker().__enter__()

    def test_a_cluster_of_ones_own_is_used_and_left_alone(self, kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
        said: list[str] = []
        with broker(said.append) as own:
            assert own.bootstrap == kafka.bootstrap
            for fault in (own.kill, own.pause, own.resume, own.restart):
                with pytest.raises(MuseError, match="never killed"):
                    fault()
        assert said == [f"kafka: MUSE_KAFKA_BOOTSTRAP_SERVERS, {kafka.bootstrap}"]
        assert probe.answers(kafka.bootstrap, 60.0)

    @pytest.mark.usefixtures("no_engine")
    def test_without_engine_and_java_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        said: list[str] = []
        with pytest.raises(NoBroker, match=r"java and mvn not found: apt-get install -y default-jdk") as refused:
            broker(said.append).__enter__()
        assert "apache/kafka:" in str(refused.value)
        assert said == ["kafka: no container: no Docker engine answers"]

    @pytest.mark.usefixtures("no_cluster")
    def test_without_the_extra_there_is_no_container_and_it_says_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in [one for one in sys.modules if one.partition(".")[0] in ("docker", "testcontainers")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delitem(sys.modules, "muse_stream.testing.container_kafka", raising=False)
        monkeypatch.setitem(sys.modules, "docker", None)
        monkeypatch.setenv("PATH", str(tmp_path))
        said: list[str] = []
        with pytest.raises(NoBroker, match=r"docker is not installed: pip install 'muse-stream\[testing\]'"):
            broker(said.append).__enter__()
        assert said == ["kafka: no container: docker is not installed: pip install 'muse-stream[testing]'"]

    def test_an_old_java_is_refused_with_its_version(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        tool(tmp_path, "java", """echo 'openjdk version "11.0.2"' >&2""")
        tool(tmp_path, "mvn", "")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert kafka_jars.missing_tools().startswith("java is 11, and Kafka needs 17: apt-get install")


class TestPlaces:
    def test_a_checkout_has_its_own_cache(self) -> None:
        root = Path(__file__).resolve().parents[2]
        assert PLACES.cache == root / ".cache/kafka"
        assert (PLACES.files / "pom.xml").samefile(root / "deploy/kafka/pom.xml")

    @pytest.mark.parametrize(("variable", "cache"), [("", "home/.cache"), ("{tmp}/other", "other")])
    def test_an_installed_package_uses_that_of_the_user(
        self, variable: str, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka_jars, "__file__", str(tmp_path / "lib/muse_stream/testing/kafka_jars.py"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", variable.format(tmp=tmp_path))
        assert kafka_jars.places().cache == tmp_path / cache / "muse-stream/kafka"


class TestJars:
    @pytest.fixture
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
        """Places of its own, and a Maven that only counts its calls and makes one jar."""
        (tmp_path / "pom.xml").write_text((PLACES.files / "pom.xml").read_text())
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        tool(tmp_path, "mvn", f'echo x >>{tmp_path}/calls; for a; do mkdir -p "${{a#-DoutputDirectory=}}"; done')
        monkeypatch.chdir(tmp_path)
        return Places(tmp_path, tmp_path / "cache")

    def test_maven_runs_once_per_pom(self, places: Places) -> None:
        said: list[str] = []
        home = kafka_jars.jars(places, said.append)
        assert (home / "lib").is_dir() and home.name == kafka_jars.version(PLACES)
        assert kafka_jars.jars(places, said.append) == home
        assert len(said) == 1
        pom = places.files / "pom.xml"
        pom.write_text(pom.read_text() + "<!-- another jar -->\n")
        kafka_jars.jars(places, said.append)
        assert (places.files / "calls").read_text() == "x\nx\n"

    def test_another_version_is_fetched_beside_the_pinned_one(self, places: Places) -> None:
        tool(
            places.files,
            "mvn",
            f'echo "$@" >>{places.files}/calls; for a; do mkdir -p "${{a#-DoutputDirectory=}}"; done',
        )
        home = kafka_jars.jars(places, lambda _line: None, "9.9.9")
        assert home.name == "9.9.9" and (home / "lib").is_dir()
        assert kafka_jars.jars(places, lambda _line: None).name == kafka_jars.version(PLACES)
        first, second = (places.files / "calls").read_text().splitlines()
        assert "-Dkafka.version=9.9.9" in first
        assert f"-Dkafka.version={kafka_jars.version(PLACES)}" in second

    def test_a_failing_maven_is_quoted_and_leaves_nothing(self, places: Places) -> None:
        tool(places.files, "mvn", "echo 'Could not transfer artifact'; exit 1")
        with pytest.raises(MuseError, match=r"mvn ended with code 1:\nCould not transfer artifact"):
            kafka_jars.jars(places, lambda _line: None)
        assert list(places.cache.glob("*")) == []


@pytest.mark.long  # three starts; tests/worker/test_broken_broker.py and tests/commands freeze one
@pytest.mark.broker
@pytest.mark.usefixtures("no_cluster")
def test_data_survive_a_kill_and_a_pause_is_silence(eventually: Eventually) -> None:
    """On a broker of its own, as the session's is shared: what was acknowledged before a kill is read after it."""
    with broker(say=lambda _line: None) as own:
        producer = Producer({"bootstrap.servers": own.bootstrap, "acks": "all", "log_level": 0})
        topic = create(own, "faults", **{"compression.type": "lz4"})
        producer.produce(topic, b"kept")
        assert producer.flush(60) == 0
        if isinstance(own, local_kafka.LocalKafka):  # a library that java unpacks, and a killed one leaves behind
            assert list((own.log.parent / "tmp").glob("*lz4*"))
        own.pause()
        assert not probe.answers(own.bootstrap, 0.5)
        own.resume()
        eventually(lambda: probe.answers(own.bootstrap, 10.0), 20.0)
        own.kill()
        assert not probe.answers(own.bootstrap, 0.5)
        own.restart()
        assert read_all(own.bootstrap, topic) == [b"kept"]


def test_the_broker_commits_transactions(kafka: Broker, make_topic: MakeTopic, unique: Callable[[str], str]) -> None:
    """Markers travel from the broker to itself: this fails where its inter-broker address cannot be reached."""
    topic = make_topic("txn", partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": unique("id")})
    producer.init_transactions(60)
    for outcome in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(topic, outcome.__name__.encode(), partition=0)
        producer.flush(60)
        outcome(60)
    await_decided(kafka.bootstrap, topic)
    assert read_all(kafka.bootstrap, topic) == [b"commit_transaction"]


def test_java_unpacks_no_library_where_nothing_may_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_kafka.own_temporary_folder(tmp_path) == [f"-Djava.io.tmpdir={tmp_path / 'tmp'}"]
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result((*real[:8], real.f_flag | os.ST_NOEXEC, 255)))
    assert local_kafka.own_temporary_folder(tmp_path) == []


def create(own: Broker, topic: str, **config: str) -> str:
    admin = AdminClient({"bootstrap.servers": own.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(60)
    return topic


def read_all(bootstrap: str, topic: str) -> list[bytes | None]:
    """What is committed on partition 0."""
    with CommittedReader(bootstrap, {topic: 1}) as reader:
        return [message.value() for message in reader.read_to_end()]


@contextmanager
def keeping(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    run.mkdir()
    command = [sys.executable, "-I", "-S", keeper.__file__, str(run), "sleep", "1000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as kept:
        yield kept


def order(kept: subprocess.Popen[bytes], word: str) -> int:
    assert kept.stdin is not None and kept.stdout is not None
    kept.stdin.write(word.encode() + b"\n")
    kept.stdin.flush()
    return int(kept.stdout.readline())


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie whose parent has not asked yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
