"""What no event could survive is refused before it serves; what only made-up values bring about is not."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_stream.avro import Decoder, Encoder, SchemaDirectory
from muse_stream.commands.check import check
from muse_stream.config import Role, load_document
from muse_stream.control import DirectoryStore, Follower, Head, Watcher
from muse_stream.errors import ConfigError
from muse_stream.runtime import batch_scorer
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.batch_scorer import GenerationScorer, build_scorer
from muse_stream.runtime.event_reader import EventReader, Events
from muse_stream.worker.batch import Batch
from tests.integration.bank import RAISES_AT, SCHEMA, Bank
from tests.integration.fleet import publish
from tests.runtime.test_batch_scorer import changed, shared

Patch = pytest.MonkeyPatch
Plant = Callable[[Bank, Patch], Path]


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Two tenants on topics of their own."""
    return Bank(tmp_path / "bank", "bank")


class PanicException(BaseException):
    """What pyo3 raises for a panic, by name."""


def raising(error: BaseException) -> Callable[..., Any]:
    def fails(*_arguments: Any, **_options: Any) -> Any:
        raise error

    return fails


def decoder_raises(bank: Bank, patch: Patch) -> Path:
    patch.setattr(Decoder, "decode", raising(ValueError("planted")))
    return bank.document()


def decoder_panics(bank: Bank, patch: Patch) -> Path:
    patch.setattr(Decoder, "decode", raising(PanicException("planted")))
    return bank.document()


def encoder_panics(bank: Bank, patch: Patch) -> Path:
    patch.setattr(Encoder, "encode_batch", raising(PanicException("planted")))
    return bank.document()


def with_outputs(bank: Bank, patch: Patch, change: Callable[[list[Any]], object]) -> Path:
    """Let the schemas of our own records be others than the code was written for."""
    folder = Path(shutil.copytree(output_schemas().path, bank.folder / "outputs"))
    for name in ("score.avsc", "audit.avsc"):
        schema = json.loads((folder / name).read_text())
        change(schema["fields"])
        (folder / name).write_text(json.dumps(schema))
    patch.setattr(batch_scorer, "output_schemas", lambda: SchemaDirectory.open(folder))
    return bank.document()


def output_lacks_a_field(bank: Bank, patch: Patch) -> Path:
    return with_outputs(bank, patch, lambda fields: fields.remove(next(f for f in fields if f["name"] == "aggregate")))


def output_wants_another_field(bank: Bank, patch: Patch) -> Path:
    return with_outputs(bank, patch, lambda fields: fields.append({"name": "country", "type": "string"}))


def by_table(document: Any) -> None:
    """Give the models a category table that holds nothing but what makes `raises` raise."""
    document["categories"] = {"names": {"t0": RAISES_AT, "t1": RAISES_AT}}
    for model in document["models"].values():
        model["inputs"]["features"][0] = {"field": "tenant", "categories": "names"}


def model_cannot_take_the_inputs(bank: Bank, _patch: Patch) -> Path:
    return changed(bank.document(live="raises", shadow=()), by_table)


def behind_a_route_that_nothing_made_up_takes(bank: Bank, _patch: Patch) -> Path:
    def change(document: Any) -> None:
        by_table(document)
        document["events"]["payment"]["intent"] = {"region": {"header": "region"}}
        document["routes"] = [{"when": {"region": "br"}, "live": "raises"}, {"live": "plain"}]

    return changed(bank.document(live="plain", shadow=("raises",)), change)


def formats_that_do_not_mix(bank: Bank, _patch: Patch) -> Path:
    """One column is a number in one format and, by a category table, text in another."""
    other = SCHEMA.replace("Payment", "Other")
    other = other.replace('"name": "risk", "type": "double"', '"name": "risk", "type": "string"')
    (bank.folder / "schemas" / "other.avsc").write_text(other, encoding="utf-8")

    def change(document: Any) -> None:
        document["events"]["other"] = {"schema": "other.avsc", "id": "id"}
        document["tenants"]["t1"]["event"] = "other"
        document["categories"] = {"words": {"high": 1}}
        document["models"]["retrained"]["inputs"]["features"][1] = {"field": "risk", "categories": "words"}
        document["routes"] = [{"when": {"tenant": "t1"}, "live": "retrained"}, {"live": "plain"}]

    return changed(bank.document(), change)


def second_format_has_a_schema_nobody_can_name(bank: Bank, _patch: Patch) -> Path:
    """Two files of one fingerprint and different meaning: no frame without a schema id can tell them apart."""
    other = SCHEMA.replace("Payment", "Other")
    for name, logical in (("other.avsc", "timestamp-millis"), ("twin.avsc", "timestamp-micros")):
        (bank.folder / "schemas" / name).write_text(other.replace("timestamp-millis", logical), encoding="utf-8")

    def change(document: Any) -> None:
        document["events"]["other"] = {"schema": "other.avsc", "id": "id", "time": "at"}
        document["tenants"]["t1"]["event"] = "other"

    return changed(bank.document(), change)


@pytest.mark.parametrize(
    ("plant", "path", "reason"),
    [
        (decoder_raises, "events.payment", "ValueError: planted"),
        (decoder_panics, "events.payment", "panicked: planted"),
        (encoder_panics, "predictors.plain", "panicked: planted"),
        (output_lacks_a_field, "predictors.plain", "no field 'aggregate'"),
        (output_wants_another_field, "predictors.plain", "no column 'country'"),
        (model_cannot_take_the_inputs, "predictors.raises", "tenant 't1' (format 'payment'): model raises: "),
        (behind_a_route_that_nothing_made_up_takes, "predictors.raises", "tenant 't0' (format 'payment')"),
        (formats_that_do_not_mix, "events", "risk: text in one event format, a number in another"),
        (second_format_has_a_schema_nobody_can_name, "events.other.schema", "differ in logical types"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_no_event_survives_is_refused(
    bank: Bank, monkeypatch: Patch, plant: Plant, path: str, reason: str
) -> None:
    document = plant(bank, monkeypatch)
    compiled = build_scorer(load_document(document), 1, "live", bank.name)
    with pytest.raises(ConfigError) as refused:
        compiled.warm()
    assert any(problem.path == path and reason in problem.message for problem in refused.value.problems), refused.value


@pytest.mark.parametrize(
    ("plant", "path"),
    [
        (encoder_panics, "predictors.retrained"),
        (output_lacks_a_field, "predictors.retrained"),
        (behind_a_route_that_nothing_made_up_takes, "predictors.raises"),
    ],
)
def test_a_shadow_worker_tries_its_shadows(bank: Bank, monkeypatch: Patch, plant: Plant, path: str) -> None:
    compiled = build_scorer(load_document(plant(bank, monkeypatch)), 1, "shadow", bank.name)
    with pytest.raises(ConfigError) as refused:
        compiled.warm()
    assert path in {problem.path for problem in refused.value.problems}


def interrupted(bank: Bank, patch: Patch) -> Path:
    patch.setattr(Decoder, "decode", raising(KeyboardInterrupt()))
    return bank.document()


def test_an_interrupt_is_no_problem_of_the_generation(bank: Bank, monkeypatch: Patch) -> None:
    compiled = build_scorer(load_document(interrupted(bank, monkeypatch)), 1, "live", bank.name)
    with pytest.raises(KeyboardInterrupt):
        compiled.warm()


def nullable_parts(document: Any, bank: Bank) -> None:
    schema = SCHEMA.replace('"name": "id", "type": "string"', '"name": "id", "type": ["null", "string"]')
    schema = schema.replace('"name": "tenant", "type": "string"', '"name": "tenant", "type": ["null", "string"]')
    (bank.folder / "schemas" / "payment.avsc").write_text(schema, encoding="utf-8")


def no_route(document: Any, _bank: Bank) -> None:
    document["events"]["payment"]["intent"] = {"region": {"header": "region"}}
    document["routes"] = [{"when": {"region": "br"}, "live": "plain", "shadow": ["retrained"]}]


def tenant_that_no_event_can_name(_document: Any, bank: Bank) -> None:
    kind = '{"type": "enum", "name": "Who", "symbols": ["t0", "somebody"]}'
    schema = SCHEMA.replace('"name": "tenant", "type": "string"', f'"name": "tenant", "type": {kind}')
    (bank.folder / "schemas" / "payment.avsc").write_text(schema, encoding="utf-8")


def events_too_large(document: Any, _bank: Bank) -> None:
    document["limits"] = {"max_event_bytes": 1}


def by_header(document: Any, _bank: Bank) -> None:
    shared(document, {"header": "x-tenant"})


def union_in_a_nullable_record(document: Any, bank: Bank) -> None:
    """Made-up events leave the record out: once, that ended the process in Arrow."""
    kind = '{"type": "record", "name": "Terminal", "fields": [{"name": "risk", "type": ["null", "float", "double"]}]}'
    schema = SCHEMA.replace('"name": "risk", "type": "double"', f'"name": "terminal", "type": ["null", {kind}]')
    (bank.folder / "schemas" / "payment.avsc").write_text(schema, encoding="utf-8")
    for model in document["models"].values():
        model["inputs"]["features"][1] = "terminal.risk"


def default_that_raises(document: Any, _bank: Bank) -> None:
    """A null costs its event; others are scored."""
    document["models"]["raises"]["inputs"]["features"][0] = {"field": "amount", "default": RAISES_AT}


@pytest.mark.parametrize("role", ["live", "shadow"])
@pytest.mark.parametrize(
    "change",
    [
        nullable_parts,
        no_route,
        tenant_that_no_event_can_name,
        events_too_large,
        by_header,
        union_in_a_nullable_record,
        default_that_raises,
    ],
)
def test_what_made_up_values_bring_about_is_not(
    bank: Bank, role: Role, change: Callable[[Any, Bank], None], caplog: pytest.LogCaptureFixture
) -> None:
    document = bank.document(live="plain", shadow=("retrained", "raises"))
    compiled = build_scorer(load_document(changed(document, lambda found: change(found, bank))), 1, role, bank.name)
    with caplog.at_level("DEBUG"):
        compiled.warm()
    assert caplog.records == [], "nothing is said of made-up events"


def test_every_tenant_and_every_optional_part_goes_the_whole_way(bank: Bank, monkeypatch: Patch) -> None:
    seen: list[Events] = []
    read = EventReader.read

    def noted(self: EventReader, batch: Batch, *, ids: bool) -> Events:
        seen.append(read(self, batch, ids=ids))
        return seen[-1]

    monkeypatch.setattr(EventReader, "read", noted)
    build_scorer(load_document(bank.document()), 1, "live", bank.name).warm()
    table = seen[0]
    column = table.features["amount"]
    assert isinstance(column, np.ndarray)
    for code in range(2):
        amounts = column[table.tenant.codes == code]
        assert {-1.0 if np.isnan(amount) else float(amount) for amount in amounts} == {-1.0, 0.0, 1.0}


def test_the_example_of_the_project_is_refused_by_nobody() -> None:
    path = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
    for lane in ("main", "small"):
        for role in ("live", "shadow"):
            build_scorer(load_document(path), 1, role, lane).warm()


def test_check_says_where_it_stands(bank: Bank, monkeypatch: Patch) -> None:
    path = model_cannot_take_the_inputs(bank, monkeypatch)
    (problem, *_) = check(path).problems
    assert problem.path == "predictors.raises"
    assert "cannot score any event of tenant" in problem.message
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("predictors:"))
    assert (problem.line or 0) >= line


def test_a_swap_refuses_it_and_the_old_one_goes_on(
    bank: Bank, tmp_path: Path, monkeypatch: Patch, eventually: Callable[..., None]
) -> None:
    store = DirectoryStore(tmp_path / "store")
    publish(bank.document(), store.path)

    def compiled(generation: Any) -> GenerationScorer:
        made = build_scorer(load_document(generation.path), generation.number, "live", bank.name)
        made.warm()
        return made

    first = compiled(store.open(1))
    with Watcher(Follower(store), compiled, 0.02, first=(Head(1), first)) as watcher:
        assert watcher.take() is first
        publish(model_cannot_take_the_inputs(bank, monkeypatch), store.path)
        eventually(lambda: "predictors.raises" in watcher.problem, 30)
        assert watcher.take() is None


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("long", {}),
        ("long", {"time_unit": "ns"}),
        ("int", {"time_unit": "s"}),
        ({"type": "int", "logicalType": "date"}, {}),
        ({"type": "long", "logicalType": "timestamp-nanos"}, {"time_range": [2200, 2262]}),
        ("long", {"time_range": [1, 1]}),
        ("long", {"time_outside": "kafka_timestamp"}),
    ],
)
def test_made_up_events_are_of_a_time_that_is_allowed(bank: Bank, kind: Any, keys: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA)
    schema["fields"][1]["type"] = kind
    (bank.folder / "schemas" / "payment.avsc").write_text(json.dumps(schema), encoding="utf-8")
    path = changed(bank.document(), lambda document: document["events"]["payment"].update(keys))
    assert check(path).problems == ()


def test_many_tenants_and_predictors_take_a_moment(bank: Bank) -> None:
    """60 tenants, 300 predictors over two models: steps are shared, so it takes no longer than its rows do."""

    def many(document: Any) -> None:
        document["predictors"] |= {
            f"p{number}": {"version": 1, "experts": [{"model": "plain", "beta": 0.001 * (number + 1)}]}
            for number in range(300)
        }
        document["tenants"] = {f"t{number}": {"event": "payment", "lane": bank.name} for number in range(60)}
        document["routes"] = [
            {"when": {"tenant": f"t{n}"}, "live": f"p{n}", "shadow": [f"p{n + 60 * k}" for k in range(1, 5)]}
            for n in range(60)
        ]

    compiled = build_scorer(load_document(changed(bank.document(), many)), 1, "shadow", bank.name)
    began = time.process_time()
    compiled.warm()
    assert time.process_time() - began < 20
