"""`golden`: does the export answer as the trained model does?"""

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from muse_stream.cli.options import Config, Json, pairs
from muse_stream.cli.output import note, say, show_json


def golden(
    config: Config,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model in the configuration.")],
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Features and predictions: Parquet, Avro, JSON lines or CSV.")
    ],
    column: Annotated[str, typer.Option("--column", help="Column with the trainer's predicted probabilities.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; MODEL.golden.json beside CONFIG by default.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Write at most so many rows, over the whole range of scores.")] = 500,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="field=column, where the table's names differ.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write golden events of a model from the trainer's own predictions, and compare the model with them.

    The table holds the fields that the model's features name, and what the training library predicted for them. The
    file that is written belongs under the model as `golden: {file: ...}`; `check` then compares at every change.

    Examples:

    ```
    muse-stream golden muse.yaml cards predictions.parquet --column score
    muse-stream golden muse.yaml cards predictions.csv --column p1 --field amount=TX_AMOUNT
    ```

    Exit code 1 when the model disagrees.
    """
    from muse_stream.commands.golden import write_golden  # noqa: PLC0415 - loads every vendor

    beside = Path(config).parent / f"{model}.golden.json"
    done = write_golden(config, model, table, column, output or beside, rows=rows, columns=pairs(field, "--field"))
    found = done.agreement
    if as_json:
        show_json({"file": str(done.file), "agrees": done.agrees, "tolerance": done.tolerance, **asdict(found)})
    else:
        say(f"{found.rows:,} golden events in {done.file}")
        say(f"{found.differing:,} differ by more than {done.tolerance:g}; largest difference {found.largest:.3g}")
        if found.shown:
            note(found.shown)
        say(f"models.{model}: golden: {{file: {done.file.name}}}")
    if not done.agrees:
        raise typer.Exit(1)
