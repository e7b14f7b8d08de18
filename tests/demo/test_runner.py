"""The guided run itself, in short form, on the session's real broker: exit codes, facts, and nothing left behind.

Windows of two days instead of a week: Monday is not Wednesday, so the stream counts as drifting and what is judged is
the promotion's own part of each move. The whole thing, with its statistics, is `make demo`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from muse_stream.demo import runner, synthetic_scenario, transactions_scenario
from muse_stream.demo.findings import Findings
from muse_stream.demo.runner import Run
from muse_stream.demo.scenario import Scenario
from muse_stream.demo.screen import Screen
from muse_stream.demo.workers import running
from muse_stream.errors import MuseError
from muse_stream.testing import Redis
from muse_stream.testing.kafka_broker import Broker, Cluster
from tests.demo import handbook
from tests.patience import PATIENCE

Eventually = Callable[[Callable[[], object], float], None]


def found(scenario: Scenario, kafka: Broker, folder: Path, store: str = "") -> Findings:
    """Run on the session's broker as on somebody's own cluster: under names of its own, which are removed."""
    return Run(scenario, Cluster(kafka.bootstrap), folder, Screen(error=True), store).findings(time.monotonic())


def topics(kafka: Broker) -> set[str]:
    """Return the demo's topics: others come and go, as other tests use the broker at the same time."""
    every = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=60).topics
    return {name for name in every if name.startswith("muse-demo-")}


def judged(findings: Findings) -> None:
    """What must hold for any run that went well."""
    assert findings.problems() == []
    assert all(report.ok for report in findings.reports)
    assert findings.totals.sent == sum(report.events for report in findings.reports)
    assert findings.totals.shadowed == findings.totals.same_bits > 0
    assert findings.exit_codes == {"live": 0, "shadow": 0}
    assert findings.promotion.first_score_s < 10 * PATIENCE
    assert json.loads(json.dumps(findings.to_json()))["ok"] is True
    assert any("has a quantile map and cards-g2 has none" in one.hint for one in findings.guarded.refused)
    assert {one.tenant for one in findings.guarded.evidence if one.events} == {row.tenant for row in findings.rows}
    for row in findings.rows:
        assert row.promotion.kept
        assert row.after == pytest.approx(row.control + row.promotion.by)


@pytest.mark.long  # each command of it has tests in tests/cli and tests/integration, what it judges by in this folder
def test_a_model_is_promoted_in_mid_stream_and_no_tenant_notices(
    kafka: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    before = topics(kafka)
    # time to promote on a busy machine: what is not needed is not sent
    made = synthetic_scenario.scenario(tmp_path, window_days=2.0, rate=1_000.0, patience_s=150.0)
    findings = found(replace(made, drifts=True), kafka, tmp_path)
    judged(findings)
    assert [row.tenant for row in findings.rows] == ["acme", "globex", "initech", "umbrella", "hooli"]
    assert findings.totals.broken > 0
    assert sum(report.dead_letters for report in findings.reports) == findings.totals.broken
    # without MUSE the larger tenants' alerts would have doubled, and the test would have said so
    for row in findings.rows[:3]:
        assert row.without > 2 * row.before and not row.bare.kept
    told = findings.refreshed
    assert told is not None
    assert (told.generation, told.exit_codes) == (2, {"live": 0, "calibrate": 0})
    for one in told.rates:
        assert one.drifted > 1.03 * one.promised
        assert one.expected == pytest.approx(one.promised, rel=0.03)
    assert findings.to_json()["refresh"]["tenant"] == "acme"
    eventually(lambda: topics(kafka) <= before, 20.0)


@pytest.mark.long  # as above; test_transactions_scenario.py has what it is made of
@pytest.mark.parametrize("source", [handbook.SOURCE])
def test_somebodys_own_transactions_are_scored_live_and_in_shadow(
    source: str, kafka: Broker, redis: Redis, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Their generations are in a Redis."""
    file = handbook.small(tmp_path / "transactions.parquet")
    mapping = handbook.mapping(tmp_path / "mapping.yaml")
    made = transactions_scenario.scenario(file, mapping, tmp_path / "run", Screen(error=True))
    findings = found(made, kafka, tmp_path / "run", f"{redis.url}?prefix={unique('demo')}")
    judged(findings)
    assert findings.totals.sent == findings.totals.scored == len(made.events)
    assert findings.totals.dead_letters == 0


@pytest.mark.long  # tests/cli/test_broker_command.py and test_signals.py have Ctrl-C of smaller programs
def test_ctrl_c_leaves_nothing_behind(kafka: Broker, tmp_path: Path, eventually: Eventually) -> None:
    before = topics(kafka)
    program = "import sys; from muse_stream.cli.main import main; sys.exit(main(['demo']))"
    environment = {**os.environ, "MUSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TMPDIR": str(tmp_path)}
    with (tmp_path / "out").open("w") as out:
        demo = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=out, stderr=out)
    try:
        process = psutil.Process(demo.pid)
        eventually(lambda: len(process.children(recursive=True)) >= 5, 60.0)  # two supervisors, three workers
        family = process.children(recursive=True)
        assert topics(kafka) - before
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30 * PATIENCE) == 130, (tmp_path / "out").read_text()
    finally:
        demo.kill()
        demo.wait()
    _, left = psutil.wait_procs(family, timeout=20 * PATIENCE)
    assert left == []
    assert list(tmp_path.glob("muse-demo-*")) == []
    eventually(lambda: topics(kafka) <= before, 20.0)


def test_workers_that_end_too_soon_are_told_with_their_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(MuseError, match=r"(?s)the live workers ended with code 2; the end of their log.*--workers"),
        running(tmp_path, "main", {"live": 0}, tmp_path, "127.0.0.1:1") as crews,
    ):
        crews.members[0].process.wait(280)
        crews.check()


def test_a_run_that_broke_a_promise_exits_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from muse_stream.verify.compare import Finding  # noqa: PLC0415
    from tests.demo.test_findings import REPORT, findings  # noqa: PLC0415 - pytest must not collect it twice

    monkeypatch.setattr(runner, "guided", lambda _make, _screen, redis: findings())
    assert runner.run(as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    broken = findings(report=replace(REPORT, findings=(Finding("missing", 1, ("x",)),)))
    monkeypatch.setattr(runner, "guided", lambda _make, _screen, redis: broken)
    assert runner.run(as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == ["muse.events.acme: 1 missing (x)"]
