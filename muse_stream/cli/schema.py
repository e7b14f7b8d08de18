"""`schema`: the JSON Schema of the configuration."""

import json
from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.output import say, show_json


def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead of stdout.")] = None,
) -> None:
    """Print the JSON Schema of the configuration, for completion and checks in an editor.

    Examples:

    ```
    muse-stream schema > muse.schema.json
    # first line of a configuration, for editors that use yaml-language-server:
    # yaml-language-server: $schema=muse.schema.json
    ```
    """
    from muse_stream.config import json_schema  # noqa: PLC0415

    if output is None:
        show_json(json_schema())
    else:
        output.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
        say(f"{output} written")
