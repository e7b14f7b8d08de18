"""Dead letters of a real worker: docs/dead-letters.md works as it stands, and what comes back is scored once."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import fastavro
import pytest

from muse_stream.avro import single_object_prefix
from muse_stream.cli.main import main
from muse_stream.errors import Reason
from muse_stream.testing import ToSend, produce
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import AT, PARTITIONS, Bank
from tests.integration.fleet import ROOT, Fleet, publish
from tests.integration.witness import Witness
from tests.patience import until

DOCUMENT = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, flags=re.DOTALL | re.MULTILINE)


class Operator:
    def __init__(self, kafka: Broker, store: Path, folder: Path) -> None:
        self.store, self.folder = store, folder
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        self._environment = os.environ | {"PATH": path, "MUSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}

    def run(self, script: str) -> str:
        """Run commands of the document, for this store and tenant t0."""
        script = script.replace(" store acme", f" {self.store} t0")
        command = ["bash", "-ec", script]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def states(self) -> dict[tuple[str, str], int]:
        with redirect_stdout(io.StringIO()) as shown:  # not as a process: it is asked again and again
            assert main(["dlq", "list", str(self.store), "t0", "--json"]) == 0
        found: list[dict[str, Any]] = json.loads(shown.getvalue())["reasons"]
        counted = ("waiting", "replayed", "failed again", "duplicate")
        return {(row["reason"], state): row[state] for row in found for state in counted if row[state]}


def without_amount(bank: Bank, count: int) -> list[ToSend]:
    """Events that lack a required feature."""
    schema: Any = fastavro.parse_schema(json.loads((bank.folder / "schemas" / "payment.avsc").read_text()))
    events = []
    for number in range(count):
        out = io.BytesIO(single_object_prefix(bank._schema.fingerprint))
        out.seek(0, io.SEEK_END)
        event = {"id": f"{bank.name}-null-{number}", "at": AT, "tenant": "t0", "amount": None, "risk": 0.5}
        fastavro.schemaless_writer(out, schema, event)
        events.append(ToSend(bank.topic("events", "t0"), number % PARTITIONS, out.getvalue(), b"card"))
    return events


@pytest.mark.long  # ten programs and a worker; tests/commands/test_dlq.py has each command
def test_the_document_and_a_worker(kafka: Broker, bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, looked at, cured, sent again, scored; what stays broken is refused again and not sent again."""
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    document, store = bank.document(), tmp_path / "store"
    publish(document, store)
    operator = Operator(kafka, store, tmp_path)
    broken = [ToSend(bank.topic("events", "t0"), 0, b"not an event", b"card")] * 2
    produce(kafka.bootstrap, [*without_amount(bank, 5), *broken])
    bank.produce(kafka.bootstrap, bank.events(100))
    with (
        Fleet(kafka.bootstrap, store, "live", bank.name, tmp_path / "log", workers=1) as fleet,
        Witness(kafka.bootstrap, bank.topics(["scores"]), [], PARTITIONS, "score.avsc") as scores,
    ):
        fleet.wait_serving()
        first = {("missing-feature", "waiting"): 5, ("undecodable", "waiting"): 2}
        until(lambda: operator.states() == first, 40, lambda: str(operator.states()))
        cured = document.with_name("cured.yaml")
        cured.write_text(document.read_text().replace("required: true", "default: 0.0"))
        fleet.wait_generation(publish(cured, store))
        for block in BLOCKS:
            operator.run(block)
        assert operator.states() == {("missing-feature", "replayed"): 5, ("undecodable", "waiting"): 2}
        operator.run("muse-stream dlq replay store acme --yes")
        again = {
            ("missing-feature", "replayed"): 5,
            ("undecodable", "replayed"): 2,
            ("undecodable", "failed again"): 2,
        }
        until(lambda: operator.states() == again, 40, lambda: str(operator.states()))
        assert "nothing" not in operator.run("muse-stream dlq replay store acme --yes")
        assert operator.states() == again
        scores.wait_for(105, 40)  # those that were cured may be answered after those that were not
        reports = json.loads(operator.run(f"muse-stream verify {store} t0 --json"))
    (report,) = reports
    assert report["ok"], report
    assert (report["events"], report["scores"], report["dead_letters"]) == (64, 55, 9)


def test_the_document_names_every_reason() -> None:
    table = DOCUMENT.partition("## Reasons and their cures")[2].partition("\n## ")[0]
    assert {str(reason) for reason in Reason} <= set(re.findall(r"`([\w-]+)`", table))
