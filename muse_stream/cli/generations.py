"""`generations`: what a store holds, and which generation is current."""

from typing import Any

from msgspec.structs import asdict

from muse_stream.cli.options import Json, Store
from muse_stream.cli.output import show_json, show_table
from muse_stream.cli.store_option import StoreOption


def generations(store: Store, as_json: Json = False, _store: StoreOption = None) -> None:
    """List the generations of a store: which one is current, who published it, when and why.

    Examples:

    ```
    muse-stream generations /var/lib/muse/store
    muse-stream generations --store redis://redis:6379 --json
    ```
    """
    from muse_stream.control import open_store, signer_name  # noqa: PLC0415

    opened = open_store(store)
    current = opened.current()
    rows: list[dict[str, Any]] = [{"current": entry.number == current, **asdict(entry)} for entry in opened.list()]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        row["current"] = "*" if row["current"] else ""
        del row["evidence"], row["version"]  # --json has them
        row["sha256"] = row["sha256"][:12]
        row["signed_by"] = signer_name(row["signed_by"])
        row["created"] = row["created"].isoformat(sep=" ", timespec="seconds") if row["created"] else ""
    title = f"{opened}: {'no generation' if not rows else 'generations'}"
    show_table(title, rows, right=("number", "parent", "files"))
