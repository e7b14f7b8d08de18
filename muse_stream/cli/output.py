"""What commands show and how: tables or JSON on stdout, progress and errors on stderr.

stdout holds the command's answer and nothing else, so that it can be piped; with `--json` it is one JSON document (or
one a line, where the answer never ends). Nothing that comes from a record or a file is read as markup.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import typer

from muse_stream.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 200
"""Columns of a table that goes to a file: nobody's terminal is there to fit."""


def console(*, error: bool = False) -> "Console":
    """Return a console on stdout (stderr for errors and progress) as it is now."""
    from rich.console import Console  # noqa: PLC0415 - a worker prints nothing

    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=True)


def _escaped(text: str) -> str:
    """Return a text with nothing in it that is read as markup."""
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


def show_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(_json(value, indent=2) + "\n")


def show_text(text: str) -> None:
    """Print a text that is an answer as it is."""
    sys.stdout.write(text + "\n")


def show_line(value: Any) -> None:
    """Print one JSON document on one line, at once."""
    sys.stdout.write(_json(value) + "\n")
    sys.stdout.flush()


def _json(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, default=_plain, allow_nan=False)
    except ValueError:  # an event may hold NaN or infinity, for which JSON has no number
        return json.dumps(_finite(value), indent=indent, default=_plain, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return the value with non-finite numbers as text, named as protobuf's JSON names them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    # bytes as Avro's own JSON writes them, a character a byte
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def show_table(title: str, rows: Sequence[Mapping[str, Any]], *, right: Sequence[str] = ()) -> None:
    """Print rows as a table; the first row's keys are the columns, `right` those aligned to the right."""
    out = console()
    out.print(table(title, rows, right=right) if rows else _escaped(title))


def table(title: str, rows: Sequence[Mapping[str, Any]], *, right: Sequence[str] = ()) -> "Table":
    """Return rows as `show_table` prints them."""
    from rich.table import Table  # noqa: PLC0415

    made = Table(title=_escaped(title), title_justify="left", title_style="bold", header_style="bold")
    for name in rows[0]:
        made.add_column(_escaped(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_escaped(cell(value)) for value in row.values()))
    return made


def text_line(text: str, style: str = "") -> "Text":
    """Return a line as `say` prints it."""
    from rich.text import Text  # noqa: PLC0415

    return Text(text, style)


def cell(value: Any) -> str:
    """Return a value as a table shows it: numbers with thousands separated, nothing for None, lists by commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return str(value)


def say(text: str, style: str = "") -> None:
    """Print one line to stdout."""
    console().print(_escaped(text), style=style or None)


def note(text: str, style: str = "") -> None:
    """Print one line to stderr; a full disk under it changes no exit code."""
    with suppress(OSError):
        console(error=True).print(_escaped(text), style=style or None)


class Said(Protocol):
    """A line of a difference."""

    @property
    def harm(self) -> str:
        """How it can hurt a tenant, empty where it cannot."""


def show_changes(changes: Sequence[Said], *, title: str) -> None:
    """Print the lines of a difference to stdout; what can hurt a tenant is marked, with the reason below it."""
    out = console()
    if title:
        out.print(_escaped(title if changes else f"{title}: no difference"), style="bold")
    for change in changes:
        out.print(f"{'! ' if change.harm else '  '}{_escaped(str(change))}", style="red" if change.harm else None)
        if change.harm:
            out.print(f"      {_escaped(change.harm)}")


def agreed(question: str, *, yes: bool) -> bool:
    """Ask on the terminal; raises ConfigError where there is none and `--yes` was not said."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError([Problem("--yes", "there is no terminal to ask on", "say --yes, or --dry-run to look")])
    return typer.confirm(question, err=True)


def complain(problems: Sequence[Problem], *, style: str, title: str) -> None:
    """Print problems to stderr as compilers do: `file:line: path: message`, with what would be right below it."""
    lines = [f"[bold {style}]{_escaped(title)}[/]"]
    for problem in problems:
        place = "".join(f"{part}:" for part in (problem.file, problem.line) if part)
        lines.append(
            f"{_escaped(f'{place} ' if place else '')}[{style}]{_escaped(problem.path)}[/]: {_escaped(problem.message)}"
        )
        if problem.hint:
            lines.append(f"    [dim]{_escaped(problem.hint)}[/]")
    with suppress(OSError):  # as in `note`
        console(error=True).print("\n".join(lines))


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int, int | None, str], None]]:
    """Show a bar on stderr while the block runs; call what it gives with done, total (None: as before) and a label.

    On a stream that is no terminal nothing is shown: a log file is no place for a bar.
    """
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    error = console(error=True)
    with Progress(*columns, console=error, disable=not error.is_terminal, transient=True) as bar:
        task = bar.add_task(_escaped(what), total=total)

        def update(done: int, of: int | None = None, label: str = "") -> None:
            bar.update(task, completed=done, total=total if of is None else of, description=_escaped(label or what))

        yield update
