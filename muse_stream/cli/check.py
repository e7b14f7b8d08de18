"""`check`: is what was written right?"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from muse_stream.cli.options import File, Json
from muse_stream.cli.output import complain, say, show_json, show_table


def check(
    file: File,
    as_json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as problems.")] = False,
) -> None:
    """Check a configuration: document, models, schemas and routes, all problems at once.

    Validates the document, loads every model and compares it with its golden rows, checks every feature against the
    event schemas, proves that each tenant has an answer for every intent, compiles it as workers will, and sends
    made-up events of every format through it. Needs no Kafka.

    Examples:

    ```
    muse-stream check deploy/config/muse.yaml
    muse-stream check muse.yaml --json | jq '.problems[].path'
    ```

    Shows the hash of each predictor's content before its quantile map (`fitted_for` with --json), which a map is pinned
    to: it changes with models, inputs, category tables, betas and aggregation. Under `predictor/node` it has the hash
    before each recalibration.

    Shows what runs each model: native code (`compiled`), or onnxruntime and why.

    Exit code 2 when anything is wrong.
    """
    from muse_stream.commands.check import check as run_check  # noqa: PLC0415 - loads every vendor

    checked = run_check(file)
    refused = bool(checked.problems or (strict and checked.warnings))
    backends = {name: {"backend": one.name, "why": one.why} for name, one in checked.backends.items()}
    if as_json:
        found = {name: [asdict(one) for one in getattr(checked, name)] for name in ("problems", "warnings")}
        show_json({"ok": not refused, **found, "fitted_for": dict(checked.contents), "backends": backends})
    else:
        if checked.warnings:
            complain(checked.warnings, style="yellow", title=f"{_counted(len(checked.warnings), 'warning')}")
        if checked.problems:
            complain(checked.problems, style="red", title=f"refused: {_counted(len(checked.problems), 'problem')}")
        if checked.loaded is not None and not refused:
            document = checked.loaded.document
            show_table(f"{file}: all well", [_tenant(document, name) for name in document.tenants])
            hashes = [{"predictor": name, "a map is pinned to": content} for name, content in checked.contents.items()]
            show_table("what each predictor is before its quantile map", hashes)
            show_table("what runs each model", [{"model": name, **one} for name, one in backends.items()])
            counts = (
                (len(document.models), "model"),
                (len(document.predictors), "predictor"),
                (len(document.routes), "route"),
            )
            say(", ".join(_counted(count, noun) for count, noun in counts))
    if refused:
        raise typer.Exit(2)


def _tenant(document: Any, name: str) -> dict[str, Any]:
    topics = document.tenant_topics(name)
    return {
        "tenant": name,
        "lane": document.tenants[name].lane,
        "events": topics.events,
        "scores": topics.scores,
        "audit": topics.audit,
        "dead letters": topics.dlq,
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
