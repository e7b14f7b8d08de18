"""`generations`: what a store holds, and which generation is current."""

from dataclasses import asdict
from typing import Any

from muse_stream.cli.options import Json, Store
from muse_stream.cli.output import show_json, show_table


def generations(store: Store, as_json: Json = False) -> None:
    """List the generations of a store and which one is current.

    Examples:

    ```
    muse-stream generations /var/lib/muse/store
    ```
    """
    from muse_stream.control import open_store  # noqa: PLC0415

    opened = open_store(store)
    current = opened.current()
    rows: list[dict[str, Any]] = [{"current": entry.number == current, **asdict(entry)} for entry in opened.list()]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        row["current"] = "*" if row["current"] else ""
        row["sha256"] = row["sha256"][:12]
        row["created"] = row["created"].isoformat(sep=" ", timespec="seconds") if row["created"] else ""
    title = f"{store}: {'no generation' if not rows else 'generations'}"
    show_table(title, rows, right=("number", "parent", "files"))
