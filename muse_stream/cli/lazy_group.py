"""A group of commands each of which is imported when it is asked for.

To import and build all forty commands takes longer than to run one of them; help and completion ask for all.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from muse_stream.cli.status import StatusCommand
from muse_stream.cli.store_option import ConfigCommand, PublishCommand

MARKUP: Final = "markdown"
"""How docstrings of commands are written."""
COMMANDS = (
    *("check", "golden", "fit", "schema", "event", "diff", "publish", "promote", "watch", "generations", "rollback"),
    *("drift", "status", "pause", "resume", "export", "topics", "acl", "produce", "tail", "audit", "report", "run"),
    *("verify", "doctor", "replay", "backtest", "plan", "demo", "broker", "dlq", "refresh", "schemas", "keys"),
    "offsets",
)
"""In the order of the help; `cli/<name>.py` has a function, or a group of commands, of that name."""
CLASSES: dict[str, type[TyperCommand]] = {
    **dict.fromkeys(("acl", "audit", "drift", "event", "generations", "produce", "replay"), ConfigCommand),
    **dict.fromkeys(("report", "rollback", "tail", "topics", "verify", "watch"), ConfigCommand),
    "publish": PublishCommand,
    "status": StatusCommand,
}
"""Of the commands that take a store by `--store` or MUSE_STORE as well."""


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands()})


class _Commands(Mapping[str, Any]):
    """Commands by name; looking one up imports it."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._built:
            self._built[name] = _built(name)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _built(name: str) -> Any:
    command = getattr(import_module(f"muse_stream.cli.{name}"), name)
    parent = typer.Typer(rich_markup_mode=MARKUP, add_completion=False)
    if isinstance(command, typer.Typer):
        parent.add_typer(command, name=name)
    else:
        parent.callback()(_nothing)  # else the only command of a program is the program
        parent.command(name, cls=CLASSES.get(name))(command)
    return typer.main.get_group(parent).commands[name]


def _nothing() -> None: ...
