"""What a guided run says while it runs: text in the terminal, with one live line at the bottom.

Nothing that is shown is computed here, and nothing of a file or a record is read as markup. Where there is no terminal
the live line is left out and the rest remains.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.text import Text

WIDTH = 118
"""Columns where nobody's terminal is there to fit."""
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Look:
    """How far things are, at one moment."""

    sent: int
    scored: int
    per_second: float
    dead_letters: int
    generation: int
    """The newest that answered."""
    done: float
    """Share of the current stage, 0 to 1."""

    def __str__(self) -> str:
        return (
            f"[bold]{self.scored:>9,}[/] scored [dim]of[/] {self.sent:,} sent   [bold]{self.per_second:>7,.0f}[/]/s   "
            f"{self.dead_letters} dead letters   generation [bold]{self.generation}[/]"
        )


class Screen:
    """Stages and lines on a console."""

    def __init__(self, console: Console | None = None, *, error: bool = False) -> None:
        """`error` writes to stderr, so that stdout is free for the answer."""
        self.console = console or Console(stderr=error, highlight=False)
        if not self.console.is_terminal:
            self.console.width = WIDTH
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def title(self, text: str) -> None:
        """Begin a part."""
        self.console.print()
        self.console.print(Rule(Text(text, style="bold"), align="left", style="cyan"))

    def step(self, number: int, name: str, text: str) -> None:
        """Announce a stage."""
        self._print((f"{number}  {name:<10}", "bold cyan"), text)

    def line(self, text: str, *, style: str = "") -> None:
        """Say something about the stage."""
        self._print(INDENT, (text, style))

    def fact(self, name: str, text: str) -> None:
        """Say one fact of many."""
        self._print(INDENT, (f"{name:<14}", "dim"), text)

    def note(self, text: str) -> None:
        """Explain something, in small print over as many lines as it takes."""
        self.console.print(Padding(Text(text, style="dim"), (1, 2, 0, 2)))

    def show(self, what: RenderableType) -> None:
        """Show a table."""
        self.console.print(what)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep one line at the bottom up to date, by `look` or `reading`, while the block lasts."""
        columns = (BarColumn(18), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            self._progress, self._task = progress, progress.add_task("", total=1.0)
            try:
                yield
            finally:
                self._progress = None

    def look(self, look: Look) -> None:
        """Bring the live line up to date."""
        self._update(str(look), look.done)

    def reading(self, what: str, done: float) -> None:
        """Show in the live line how much of something was read."""
        self._update(escape(what), done)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def _update(self, text: str, done: float) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=min(done, 1.0))
