"""`schema`: the JSON Schema of the configuration, or the Avro schema of what workers write."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.output import say, show_text


class RecordKind(StrEnum):
    """What workers write."""

    SCORE = "score"
    DLQ = "dlq"
    AUDIT = "audit"


def schema(
    record: Annotated[
        RecordKind | None,
        typer.Option(help="Print the Avro schema of this record instead; dlq: a dead letter with its headers."),
    ] = None,
    canonical: Annotated[
        bool, typer.Option("--canonical", help="The Avro schema in parsing canonical form, on one line.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="With --record: schema, canonical form, fingerprint and frame as one JSON document."
        ),
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead of stdout.")] = None,
) -> None:
    """Print the JSON Schema of the configuration, or the Avro schema of a score, audit record or dead letter.

    The JSON Schema is for completion and checks in an editor. The Avro schemas are for readers of the topics:
    docs/for-score-readers.md.

    Examples:

    ```
    muse-stream schema > muse.schema.json
    # first line of a configuration, for editors that use yaml-language-server:
    # yaml-language-server: $schema=muse.schema.json
    muse-stream schema --record score -o score.avsc
    muse-stream schema --record audit --json | jq -r .fingerprint
    ```
    """
    if record is None and (canonical or as_json):
        raise typer.BadParameter("is about an Avro schema: give --record", param_hint="--canonical, --json")
    text = _configuration() if record is None else _record(record, canonical=canonical, as_json=as_json)
    if output is None:
        show_text(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        say(f"{output} written")


def _configuration() -> str:
    from muse_stream.config import json_schema  # noqa: PLC0415

    return json.dumps(json_schema(), indent=2)


def _record(kind: RecordKind, *, canonical: bool, as_json: bool) -> str:
    from muse_stream.commands.schema import record_schema  # noqa: PLC0415

    found = record_schema(kind.value)
    if as_json:
        document = {
            "record": found.record,
            "name": found.name,
            "fingerprint": found.fingerprint,
            "frame": found.frame,
            "canonical": found.canonical,
            "schema": found.schema,
        }
        return json.dumps(document, indent=2)
    return found.canonical if canonical else found.text.rstrip("\n")
