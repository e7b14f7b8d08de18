"""Nothing of an event gets into a log, a heartbeat or a page: events of every kind of refusal carry a mark.

`--redact` shows none of it either. The mark stands in an id, a tenant, a number, a time and in bytes nobody can decode.
"""

import io
import json
import secrets
import urllib.request
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from ruamel.yaml import YAML

from muse_stream.avro import single_object_prefix
from muse_stream.cli.main import main
from muse_stream.testing import ToSend, produce
from muse_stream.testing.kafka_broker import Broker
from muse_stream.testing.local_kafka import free_ports
from tests.integration.bank import AT, RAISES_AT, Bank
from tests.integration.fleet import Fleet, publish
from tests.patience import until

MARK = "canary7f3a"
NUMBER = 73_194_628.53125
"""As a feature, exact in float32 too."""
MOMENT = 7_319_462_853_125_000_000
FORMS = (MARK, MARK.encode().hex(), "73194628.53125", "7.319462853125", str(MOMENT), str(MOMENT)[:9])


def events(bank: Bank) -> list[ToSend]:
    """One event of each kind that a live worker refuses by itself, all of them marked; and some that it scores."""
    schema: Any = fastavro.parse_schema(json.loads((bank.folder / "schemas" / "payment.avsc").read_text()))

    def event(**over: Any) -> bytes:
        out = io.BytesIO(single_object_prefix(bank._schema.fingerprint))
        out.seek(0, io.SEEK_END)
        fields = {"id": f"{bank.name}-{MARK}", "at": AT, "tenant": "t0", "amount": NUMBER, "risk": 0.5, **over}
        fastavro.schemaless_writer(out, schema, fields)
        return out.getvalue()

    values = [
        MARK.encode() * 3,
        b"\xc3\x01" + b"\x01" * 8 + MARK.encode(),
        single_object_prefix(bank._schema.fingerprint) + MARK.encode(),
        event(id=""),
        event(id=f"{MARK}-time", at=MOMENT),
        event(id=f"{MARK}-tenant", tenant=MARK),
        event(id=f"{MARK}-null", amount=None),
        event(id=f"{MARK}-raises", amount=RAISES_AT),
        event(id=f"{MARK}-infinite", amount=float("inf"), risk=float("-inf")),
        event(id=MARK + secrets.token_hex(30_000)),  # does not compress
        event(id=MARK * 12_000),
        event(id=f"{MARK}-well"),
    ]
    key = f"{MARK}-key".encode()
    headers: dict[str, str | bytes | None] = {"trace": f"{MARK}-header".encode()}
    return [ToSend(bank.topic("events", "t0"), 0, value, key, headers=headers) for value in values]


def said(*words: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        assert main(list(words)) in (0, 1)
    return out.getvalue()


def refused(store: Path) -> Counter[str]:
    rows = json.loads(said("dlq", "list", str(store), "t0", "--json"))["reasons"]
    return Counter({row["reason"]: row["letters"] for row in rows})


def test_nothing_of_an_event_is_logged_or_shown_redacted(
    kafka: Broker, bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    path, store, yaml = bank.document("raises", ()), tmp_path / "store", YAML()
    document = yaml.load(path)
    document["limits"] = {"max_event_bytes": 100_000}
    yaml.dump(document, path)
    publish(path, store)
    resource = ConfigResource(ResourceType.TOPIC, bank.topic("scores", "t0"))
    small = ConfigEntry("max.message.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    resource.add_incremental_config(small)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(60)
    sent = events(bank)
    produce(kafka.bootstrap, sent)
    (port,) = free_ports(1)
    log = tmp_path / "log"
    with Fleet(kafka.bootstrap, store, "live", bank.name, log, workers=1, health_port=port) as fleet:
        fleet.wait_serving()
        until(lambda: sum(refused(store).values()) == len(sent) - 1, 60, lambda: str(refused(store)))
        found = refused(store)
        pages = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}").read().decode() for page in ("ready", "metrics")
        ]
        beats = [one.read_text() for one in (store / "heartbeats").iterdir()]
        status = said("status", str(store), "--json")
        assert fleet.stop() == 0
    assert found["oversize"] == 2, "one by its size, one by the size of its score"
    assert set(found) >= {
        *("undecodable", "unknown-schema", "missing-id", "time-out-of-range", "wrong-tenant"),
        *("missing-feature", "non-finite-score", "scoring-error", "oversize"),
    }, found
    text = log.read_text(encoding="utf-8")
    assert '"level": "debug"' in text
    for where, shown in (("log", text), ("pages", "".join(pages)), ("heartbeats", "".join(beats)), ("status", status)):
        assert not [form for form in FORMS if form in shown], where
    plain = said("dlq", "show", str(store), "t0", "--limit", "50")
    assert MARK in plain
    for command in (
        ("dlq", "show", str(store), "t0", "--limit", "50"),
        ("dlq", "show", str(store), "t0", "--limit", "50", "--json"),
        ("dlq", "list", str(store), "t0"),
        ("dlq", "list", str(store), "t0", "--json"),
        *(
            ("tail", str(store), "t0", "--kind", kind, "--from-beginning", "--no-follow", *form)
            for kind in ("events", "scores", "dlq")
            for form in ((), ("--json",))
        ),
    ):
        shown = said(*command, "--redact")
        assert not [form for form in FORMS if form in shown], command
        assert "wrong-tenant" in shown or command[0] == "tail", command
    scored = json.loads(said("tail", str(store), "t0", "--from-beginning", "--no-follow", "--json", "--redact"))
    assert scored["event_id"].startswith("~")
    assert isinstance(scored["score"], float)
