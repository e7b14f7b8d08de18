"""`status` of a store: what it makes of heartbeats, and of a store that does not answer."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from muse_stream.cli.main import main
from muse_stream.commands.status import Status, look
from muse_stream.config import load_document
from muse_stream.control import DirectoryStore, Heartbeat, Note, TenantBeat, open_store
from muse_stream.control.heartbeats import SILENT_S
from muse_stream.control.store import now_utc
from muse_stream.testing.redis_server import LocalRedis, missing_server
from tests.config.example_config import ROOT
from tests.patience import PATIENCE

Output = pytest.CaptureFixture[str]
TENANTS = {"acme": TenantBeat(), "globex": TenantBeat()}
WORKER = Heartbeat("a", 0, "live", "main", 7, "0.1.0", "2026-11-26T08:00:00+00:00", generation=1, tenants=TENANTS)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """The example, published by somebody, long enough ago."""
    made = DirectoryStore(tmp_path / "store", clock=lambda: now_utc() - timedelta(hours=1))
    made.publish(load_document(ROOT / "muse.yaml"))
    made.move_current(None, 1, Note("the first", "ana@bank"))
    return made


def tell(store: DirectoryStore, *beats: Heartbeat, age_s: float = 0.0) -> None:
    for beat in beats:
        store.beat(beat.name, beat.to_json())
        os.utime(store.path / "heartbeats" / beat.name, (time.time() - age_s,) * 2)


def texts(found: Status) -> list[str]:
    return [one.text for one in found.findings]


def everywhere() -> list[Heartbeat]:
    """A live worker for each lane of the example."""
    lanes = load_document(ROOT / "muse.yaml").document.lanes()
    return [
        replace(WORKER, slot=slot, lane=lane, tenants={name: TenantBeat() for name in tenants})
        for slot, (lane, tenants) in enumerate(lanes.items())
    ]


def test_all_is_well(store: DirectoryStore) -> None:
    tell(store, *everywhere(), replace(WORKER, role="shadow"))
    found = look(store)
    assert texts(found) == []
    assert found.convergence == f"{found.converged} of {len(found.workers)} workers on 1"
    assert found.converged == len(found.workers) > 1
    assert found.current is not None
    assert (found.current.number, found.current.author, found.current.message) == (1, "ana@bank", "the first")
    assert {one.tenant for one in found.tenants} >= {"acme", "globex"}


def test_who_refuses_a_generation_and_why(store: DirectoryStore) -> None:
    refusing = replace(WORKER, refused=2, problem="models.cards: sha256 differs")
    tell(store, *everywhere(), refusing, replace(refusing, slot=8))
    store.publish(load_document(ROOT / "muse.yaml"))
    (store.path / "generations" / "000001").rename(store.path / "generations" / "000002")
    found = look(store)
    assert any(
        "2 of" in one and "cannot serve generation 2 and go on with 1: models.cards" in one for one in texts(found)
    )
    assert any("generation 1 cannot be read" in one for one in texts(found))


def test_workers_that_are_late_are_named_once_they_had_their_time(tmp_path: Path) -> None:
    late = replace(WORKER, generation=None)
    made = DirectoryStore(tmp_path)
    made.publish(load_document(ROOT / "muse.yaml"))
    made.move_current(None, 1)
    tell(made, *everywhere(), late)
    assert texts(look(made)) == []  # it is compiling
    assert f"of {len(everywhere())} workers on 1; 1 on none yet" in look(made).convergence
    old = DirectoryStore(tmp_path, clock=lambda: now_utc() - timedelta(hours=1))
    (tmp_path / "current").unlink()
    old.move_current(None, 1)
    assert any("worker a-0 (live, lane main): not on generation 1" in one for one in texts(look(made)))


def test_a_worker_that_is_silent_is_named_and_its_last_word_counts_no_more(store: DirectoryStore) -> None:
    tell(store, *everywhere())
    waits = {"acme": TenantBeat(lag=500, age_s=9.0)}
    tell(store, replace(WORKER, slot=9, tenants=waits, error="worker_failed: no room"), age_s=SILENT_S + 4)
    found = look(store)
    assert len(texts(found)) == 1
    told = r"worker a-9 \(live, lane main\) is silent for (\d+) s; its last error: worker_failed: no room"
    silent = re.fullmatch(told, texts(found)[0])
    assert silent and int(silent[1]) >= SILENT_S + 3, texts(found)
    assert found.converged == len(found.workers) - 1
    assert next(one for one in found.tenants if one.tenant == "acme").lag == 0


def test_when_all_are_silent_what_they_said_last_is_shown(store: DirectoryStore) -> None:
    tell(store, replace(WORKER, tenants={"acme": TenantBeat(lag=500, age_s=9.0)}), age_s=SILENT_S + 4)
    assert [one.lag for one in look(store).tenants] == [500]


def test_a_lane_without_live_workers_is_named(store: DirectoryStore) -> None:
    tell(store, *(replace(one, role="shadow") for one in everywhere()))
    found = texts(look(store))
    assert len(found) == len({one.lane for one in everywhere()})
    assert any("no live worker serves lane main" in one and "acme" in one for one in found)


def test_tenants_over_all_workers_of_a_lane(store: DirectoryStore) -> None:
    """Lag is summed, age is the oldest; who has no partition of a topic knows nothing of it, and that hides nothing."""
    one = TenantBeat(3, 1.5, dead_letters={"missing-id": 2, "oversize": 1})
    tell(
        store,
        *everywhere(),
        replace(WORKER, slot=5, tenants={"acme": one}),
        replace(WORKER, slot=6, tenants={"acme": replace(one, lag=4, age_s=7.0, removed=6)}),
        replace(WORKER, slot=7, tenants={"acme": TenantBeat(None, None)}),
    )
    found = look(store)
    acme = next(line for line in found.tenants if line.tenant == "acme")
    assert (acme.lag, acme.age_s, acme.dead_letters) == (7, 7.0, {"missing-id": 4, "oversize": 2})
    assert texts(found) == ["tenant acme (live): retention has removed 6 events before they were answered"]
    assert any("has waited for 7 s" in text for text in texts(look(store, max_age_s=5)))
    nobody = [replace(beat, tenants={"acme": TenantBeat(None, None)}) for beat in everywhere()]
    for path in (store.path / "heartbeats").iterdir():
        path.unlink()
    tell(store, *nobody)
    assert "tenant acme (live): nobody can tell how many events wait" in texts(look(store))


def test_a_fault_that_pauses_is_a_finding_and_an_operator_s_decision_is_none(store: DirectoryStore) -> None:
    told = {"acme": TenantBeat(9, 60.0, "paused in the configuration: tenants.acme.paused", asked=True)}
    tell(store, *everywhere(), replace(WORKER, slot=5, tenants=told))
    found = look(store, max_age_s=5)
    assert texts(found) == []
    assert next(one.paused for one in found.tenants if one.tenant == "acme").startswith("paused in the configuration")
    tell(store, replace(WORKER, slot=5, tenants={"acme": TenantBeat(9, 60.0, "no topic acme.events")}))
    assert texts(look(store)) == ["tenant acme (live) is paused: no topic acme.events"]


def test_a_heartbeat_that_is_none_hides_no_other(store: DirectoryStore) -> None:
    tell(store, *everywhere())
    (store.path / "heartbeats" / "broken").write_bytes(b"\x1b[2J")
    found = look(store)
    assert texts(found) == ["heartbeat broken: not a heartbeat of a worker"]
    assert len(found.workers) == len(everywhere())


def test_the_command_s_exit_code_is_for_a_monitor(store: DirectoryStore, capsys: Output) -> None:
    tell(store, *everywhere())
    assert main(["status", str(store), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["findings"], told["current"]["number"]) == (True, [], 1)
    tell(store, replace(WORKER, unready="draining", error="batch_refused: x", error_at="2026-11-26T09:00:00Z"))
    assert main(["status", str(store)]) == 1
    out = capsys.readouterr().out
    for said in (
        "generation 1 since 2",
        'by ana@bank ("the first")',
        "! worker a-0 (live, lane main) is unready: draining",
        "last error, 2026-11-26T09:00:00: batch_refused: x",
        "acme",
    ):
        assert said in out
    assert main(["status", str(store), "--watch", "soon"]) == 2
    assert main(["status", str(store), "--max-age", "-1"]) == 2


@pytest.mark.skipif(bool(missing_server()), reason=f"a Redis to stop: {missing_server()}")
def test_a_redis_that_is_away_is_said_with_what_the_copy_on_this_machine_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path))
    with LocalRedis() as redis:
        store = open_store(redis.url)
        assert texts(look(store))[0].startswith("the store holds no generation")
        store.publish(load_document(ROOT / "muse.yaml"))
        store.move_current(None, 1, Note("go", "ana"))
        for beat in everywhere():
            store.beat(beat.name, beat.to_json())
        assert texts(look(store)) == []
        redis.kill()
        found = look(store)
        assert len(texts(found)) == 1
        assert "the store does not answer" in texts(found)[0]
        assert "generation 1 was current when this machine saw it last" in texts(found)[0]
        assert found.current is not None
        assert found.current.from_copy
        assert found.current.moved is not None
        assert isinstance(found.current.moved, datetime)
        store.close()


def test_watch_refreshes_on_a_terminal_and_ends_well_by_ctrl_c(store: DirectoryStore) -> None:
    tell(store, *everywhere())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "muse_stream", "status", str(store), "--watch", "0.2"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160", "LINES": "60"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"Ctrl-C ends") < 3:  # three looks
            shown += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the terminal of a process that has ended
            while part := os.read(ours, 65_536):
                shown += part
        assert process.wait(60 * PATIENCE) == 0
    os.close(ours)
    assert b"Traceback" not in shown
    assert shown.rstrip().endswith(b"\x1b[?1049l"), "the screen of before is back"
