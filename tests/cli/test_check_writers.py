"""`check` about the schemas that events are written with: what can never be read, what is slow, what a number means."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muse_stream.commands.check import Checked, check
from muse_stream.errors import Problem
from tests.integration.bank import SCHEMA, Bank
from tests.runtime.test_batch_scorer import changed

Json = Any


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path / "bank", "bank")


def write(bank: Bank, file: str, document: Json) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    (bank.folder / "schemas" / file).write_text(text, encoding="utf-8")


def schema(*fields: Json, drop: tuple[str, ...] = (), **more: Json) -> Json:
    """The bank's schema with other fields, each (name, type) or (name, type, default)."""
    document = json.loads(SCHEMA)
    kept = {field["name"]: field for field in document["fields"] if field["name"] not in drop}
    kept |= {field[0]: dict(zip(("name", "type", "default"), field, strict=False)) for field in fields}
    return {**document, "fields": list(kept.values()), **more}


def said(problems: tuple[Problem, ...], path: str = "") -> list[str]:
    return [f"{one.message} ({one.hint})" for one in problems if path in one.path]


def checked(bank: Bank, change: Callable[[Any], None] = lambda document: None) -> Checked:
    """What `check` says, but for models: the bank's have no golden rows."""
    found = check(changed(bank.document(), change))
    return replace(found, warnings=tuple(one for one in found.warnings if "golden rows" not in one.message))


def test_a_folder_of_the_format_s_own_schema_is_all_well(bank: Bank) -> None:
    found = checked(bank)
    assert (found.problems, found.warnings) == ((), ())


def test_a_writer_that_can_never_be_read_is_a_problem_with_file_field_and_reason(bank: Bank) -> None:
    write(bank, "old.avsc", schema(drop=("risk",)))
    (one,) = said(checked(bank).problems)
    assert "old.avsc can never be read as payment.avsc" in one
    assert "risk: Payment was written without 'risk', which has no default" in one
    assert "give the field a default in payment.avsc" in one


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("string", "risk: written as string, which cannot be read as double"),
        (["null", "string"], "risk: written as null|string, which cannot be read as double"),
        ({"type": "array", "items": "double"}, "risk: written as array"),
    ],
)
def test_a_field_of_a_type_that_cannot_be_read_is_a_problem(bank: Bank, kind: Json, reason: str) -> None:
    write(bank, "old.avsc", schema(("risk", kind)))
    (one,) = said(checked(bank).problems)
    assert reason in one
    assert "give the field a type in payment.avsc" in one, "a default would not help"


def test_no_default_is_asked_for_an_id(bank: Bank) -> None:
    write(bank, "old.avsc", schema(drop=("id",)))
    (one,) = said(checked(bank).problems)
    assert "have it written: no default makes an id, or take old.avsc away" in one


@pytest.mark.parametrize("maybe", [False, True])
def test_a_default_is_asked_for_what_a_record_inside_lacks(bank: Bank, maybe: bool) -> None:
    def inside(*names: str) -> Json:
        fields = [{"name": name, "type": "double"} for name in names]
        record = {"type": "record", "name": "Inside", "fields": fields}
        return schema(("inside", ["null", record] if maybe else record))

    write(bank, "payment.avsc", inside("a", "b"))
    write(bank, "old.avsc", inside("a"))

    def change(document: Any) -> None:
        document["events"]["payment"]["intent"] = {"b": {"field": "inside.b"}}

    (one,) = said(checked(bank, change).problems)
    assert "inside.b: Inside was written without 'b'" in one and "give the field a default" in one


def test_a_schema_that_a_windows_tool_saved_is_read(bank: Bank) -> None:
    for file, text in (("payment.avsc", SCHEMA), ("ids.json", '{"1": "payment.avsc"}')):
        (bank.folder / "schemas" / file).write_text("\ufeff" + text, encoding="utf-8")
    assert (checked(bank).problems, checked(bank).warnings) == ((), ())


@pytest.mark.parametrize("ids", ["{", "[1]", '{"1": "none.avsc"}', '{"1": 5}', '{"1.0": "payment.avsc"}'])
def test_a_mistake_in_the_table_of_ids_is_said_once(bank: Bank, ids: str) -> None:
    write(bank, "ids.json", ids)
    assert len(checked(bank).problems) == 1


def test_a_folder_without_any_usable_schema_says_what_is_wrong_with_the_event_s(bank: Bank) -> None:
    write(bank, "aaa.avsc", {"type": "enum", "name": "Currency", "symbols": ["EUR"]})
    write(bank, "payment.avsc", schema(("currency", "Currency", "eur")))
    (one,) = said(checked(bank).problems)
    assert "payment.avsc" in one and "aaa.avsc" not in one


def test_an_empty_folder_is_said_once(bank: Bank) -> None:
    for file in (bank.folder / "schemas").iterdir():
        file.unlink()
    assert len(checked(bank).problems) == 1


@pytest.mark.parametrize(
    ("kind", "unit", "years", "ends"),
    [
        ("int", "ms", [2000, 2100], 1970),
        (["null", "int"], "us", [2000, 2100], 1970),
        ("int", "s", [2040, 2100], 2038),
        ("int", "s", [2000, 2100], None),
        ("long", "ns", [2300, 2400], 2262),
        ({"type": "long", "logicalType": "timestamp-nanos"}, "ms", [2300, 2400], 2262),
        ({"type": "int", "logicalType": "date"}, "ms", [2300, 2400], None),
    ],
)
def test_a_time_that_cannot_reach_its_range_is_a_problem(
    bank: Bank, kind: Json, unit: str, years: list[int], ends: int | None
) -> None:
    write(bank, "payment.avsc", schema(("at", kind)))
    more = {"time_unit": unit, "time_range": years}
    found = checked(bank, lambda document: document["events"]["payment"].update(more))
    messages = said(found.problems) + said(found.warnings)
    assert len(messages) == (ends is not None)
    assert ends is None or f"at ends in the year {ends}, and time_range begins with {years[0]}" in messages[0]


@pytest.mark.parametrize(("kind", "wrong"), [("int", True), (["null", "long"], True), ("string", False)])
def test_an_entry_of_a_table_that_no_event_has_is_a_warning(bank: Bank, kind: Json, wrong: bool) -> None:
    write(bank, "payment.avsc", schema(("risk", kind)))

    def change(document: Any) -> None:
        document["categories"] = {"codes": {"5411": 1, "5412.0": 2, "*": 0}}
        for model in document["models"].values():
            for features in model["inputs"].values():
                for place, feature in enumerate(features):
                    if "risk" in (feature, feature.get("field") if isinstance(feature, dict) else ""):
                        features[place] = {"field": "risk", "categories": "codes"}

    messages = said(checked(bank, change).warnings, "categories")
    assert len(messages) == wrong
    assert not wrong or "no event has risk = '5412.0' (the text of its type, " in messages[0]


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [
        ("int", "5411.0", "its digits, as in 5411"),
        (["null", "long"], "05411", "its digits"),
        ({"type": "int", "logicalType": "date"}, "2026-01-01", "date: its digits"),
        ("double", "5411", "the shortest text of the number, as in 5411.0"),
        ({"type": "string", "logicalType": "uuid"}, None, ""),
    ],
)
def test_a_condition_that_no_event_meets_is_a_warning(bank: Bank, kind: Json, text: str | None, right: str) -> None:
    write(bank, "payment.avsc", schema(("mcc", kind)))

    def change(document: Any) -> None:
        document["events"]["payment"]["intent"] = {"mcc": {"field": "mcc"}}
        document["routes"] = [{"when": {"mcc": text or "anything"}, "live": "plain"}, *document["routes"]]

    warnings = said(checked(bank, change).warnings, "routes[0].when.mcc")
    assert len(warnings) == (text is not None)
    assert text is None or (f"no event has mcc = '{text}'" in warnings[0] and right in warnings[0])


def test_every_field_is_named_and_fields_that_nobody_reads_are_not(bank: Bank) -> None:
    write(bank, "old.avsc", schema(("more", "string"), drop=("risk", "amount", "at")))
    messages = said(checked(bank).problems)
    assert len(messages) == 3
    assert all(any(f": {field}: " in one for one in messages) for field in ("risk", "amount", "at"))


def test_a_writer_with_values_that_cannot_be_read_is_a_warning(bank: Bank) -> None:
    write(bank, "new.avsc", schema(("risk", ["double", "string"])))
    found = checked(bank)
    (one,) = said(found.warnings)
    assert found.problems == ()
    assert "new.avsc: some of the events" in one and "risk: a value written as string cannot be read" in one


def test_two_formats_of_one_name_are_not_each_other_s_writers_for_certain(bank: Bank) -> None:
    write(bank, "other.avsc", schema(drop=("risk",)))

    def change(document: Any) -> None:
        document["events"]["other"] = {"schema": "other.avsc", "id": "id"}
        document["tenants"]["t1"]["event"] = "other"
        document["routes"] = [{"when": {"tenant": ["t0"]}, "live": "plain"}]

    found = checked(bank, change)
    assert not any("other.avsc" in one for one in said(found.problems))
    assert any("other.avsc can never be read as payment.avsc" in one for one in said(found.warnings))


def test_a_namespace_apart_is_a_warning(bank: Bank) -> None:
    write(bank, "theirs.avsc", schema(drop=("risk",), namespace="theirs"))
    found = checked(bank)
    assert found.problems == ()
    assert "theirs.avsc can never be read" in said(found.warnings)[0]


def test_a_record_renamed_without_an_alias_is_a_warning(bank: Bank) -> None:
    write(bank, "renamed.avsc", schema(name="CardPayment"))
    write(bank, "unrelated.avsc", schema(drop=("id", "at"), name="Refund"))
    (one,) = said(checked(bank).warnings)
    assert "renamed.avsc has this format's fields, but is a CardPayment" in one
    assert "alias CardPayment" in one


@pytest.mark.parametrize(
    "kind",
    [
        ["null", "int", "long"],
        "bytes",
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 2}},
        ["null", "string", "bytes", {"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}],
    ],
    ids=str,
)
def test_every_type_is_decoded_by_columns(bank: Bank, kind: Json) -> None:
    write(bank, "payment.avsc", schema(("more", kind)))
    assert checked(bank).warnings == ()


def test_a_schema_that_is_decoded_record_by_record_is_a_warning(bank: Bank) -> None:
    many = [{"type": "fixed", "name": f"F{number}", "size": number} for number in range(1, 102)]
    write(bank, "payment.avsc", schema(("more", {"type": "array", "items": many})))
    (one,) = said(checked(bank).warnings)
    assert "payment.avsc is decoded record by record" in one and "more[] is a union of more than 100 types" in one


def test_a_time_without_a_logical_type_is_a_warning_unless_its_unit_is_said(bank: Bank) -> None:
    write(bank, "payment.avsc", schema(("at", "long")))
    (one,) = said(checked(bank).warnings, "events.payment.time")
    assert "at has no logical type" in one and "milliseconds since 1970" in one and "time_unit" in one
    assert checked(bank, lambda document: document["events"]["payment"].update(time_unit="us")).warnings == ()


@pytest.mark.parametrize("kind", ["int", ["null", "int"]])
def test_seconds_in_an_int_are_well_though_they_end_in_2038(bank: Bank, kind: Json) -> None:
    write(bank, "payment.avsc", schema(("at", kind)))
    found = checked(bank, lambda document: document["events"]["payment"].update(time_unit="s"))
    assert (found.problems, found.warnings) == ((), ())


def test_a_writer_s_time_that_states_no_unit_is_a_warning(bank: Bank) -> None:
    write(bank, "old.avsc", schema(("at", "long"), ("more", "string", "")))
    (one,) = said(checked(bank).warnings)
    assert "at has no logical type in old.avsc: it is taken for the reader's timestamp-millis" in one


@pytest.mark.parametrize(
    ("logical", "kind", "reads"),
    [
        ("date", "int", "days since 1970-01-01"),
        ("timestamp-micros", "long", "microseconds since 1970-01-01"),
        ("local-timestamp-nanos", "long", "nanoseconds since 1970-01-01"),
        ("time-millis", "int", "milliseconds since midnight"),
    ],
)
def test_a_feature_that_is_a_time_is_a_warning_with_its_unit(bank: Bank, logical: str, kind: str, reads: str) -> None:
    write(bank, "payment.avsc", schema(("risk", ["null", {"type": kind, "logicalType": logical}])))
    one = said(checked(bank).warnings, "models.")[0]
    assert f"risk is a {logical}: the model reads {reads}" in one


def test_files_that_are_not_needed_refuse_nothing(bank: Bank) -> None:
    write(bank, "key.avsc", '"string"')
    write(bank, "currency.avsc", {"type": "enum", "name": "Currency", "symbols": ["EUR"]})
    write(bank, "broken.avsc", "{")
    write(bank, "recursive.avsc", schema(("next", ["null", "Payment"])))
    write(bank, "ids.json", {"1": "key.avsc", "2": "broken.avsc", "3": "payment.avsc"})
    found = checked(bank)
    assert found.problems == ()
    assert sorted(one.partition(":")[0] for one in said(found.warnings, "schemas")) == ["broken.avsc", "recursive.avsc"]


def test_a_type_of_another_file_is_found(bank: Bank) -> None:
    write(bank, "payment.avsc", schema(("risk", "shop.Risk"), namespace="bank"))
    write(bank, "risk.avsc", {"type": "fixed", "name": "Risk", "namespace": "shop", "size": 2})
    messages = said(checked(bank).problems)
    assert all("risk is text" in one for one in messages), "it is found, and is no number"


def test_one_fingerprint_of_two_meanings_is_a_warning(bank: Bank) -> None:
    write(bank, "payment-2.avsc", schema(("at", {"type": "long", "logicalType": "timestamp-micros"})))
    (one,) = said(checked(bank).warnings, "events.payment.schema")
    assert "payment-2.avsc, payment.avsc have one fingerprint but differ in logical types" in one
    write(bank, "payment-2.avsc", schema(("id", {"type": "string", "logicalType": "uuid"})))
    assert checked(bank).warnings == (), "of no field that is read the meaning differs"


def test_years_in_the_wrong_order_are_refused(bank: Bank) -> None:
    found = checked(bank, lambda document: document["events"]["payment"].update(time_range=[2100, 2000]))
    assert said(found.problems, "events.payment.time_range") == [
        "2100 is after 2000 (give the first and the last year, for example [2000, 2100])"
    ]


@pytest.mark.parametrize(
    ("values", "problems", "warnings"),
    [(["true", "false"], 0, 0), (["true"], 1, 0), (["true", "false", "True"], 0, 1)],
)
def test_a_boolean_attribute_is_true_or_false(bank: Bank, values: list[str], problems: int, warnings: int) -> None:
    write(bank, "payment.avsc", schema(("risk", "boolean")))

    def change(document: Any) -> None:
        document["events"]["payment"]["intent"] = {"risky": {"field": "risk"}}
        document["routes"] = [{"when": {"risky": values}, "live": "plain", "shadow": ["retrained"]}]

    found = checked(bank, change)
    assert (len(found.problems) > 0, len(found.warnings)) == (problems > 0, warnings)
