"""`--store` and MUSE_STORE: in place of the store, or the configuration, of every command that takes one."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from muse_stream import environment

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Generation store, a folder or a redis:// URL, as an option. Default: MUSE_STORE."),
]


class ConfigCommand(TyperCommand):
    """A command whose first argument, a store or a configuration, may be given as `--store` or by MUSE_STORE.

    The option stands in its signature (`StoreOption`) for the help, and never has a value there.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the store in its place among the arguments."""
        given, others = _taken(args)
        if given is not None:
            return super().parse_args(ctx, self.placed(given, others))
        try:
            return super().parse_args(ctx, list(args))
        except Exception as error:
            store = environment.read("MUSE_STORE") if _misses_an_argument(error) else ""
            if not store:
                raise
        ctx.params.clear()
        return super().parse_args(ctx, self.placed(store, list(args)))

    def placed(self, store: str, others: list[str]) -> list[str]:
        """Return the arguments with the store among them."""
        return [store, *others]


class PublishCommand(ConfigCommand):
    """The same for `publish`, whose store comes last."""

    def placed(self, store: str, others: list[str]) -> list[str]:
        """Return the arguments with the store behind them."""
        return [*others, store]


def _taken(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `--store`, and the other arguments."""
    for place, word in enumerate(args):
        if word == "--":
            break
        if word == "--store" and place + 1 < len(args):
            return args[place + 1], [*args[:place], *args[place + 2 :]]
        if word.startswith("--store="):
            return word.partition("=")[2], [*args[:place], *args[place + 1 :]]
    return None, list(args)


def _misses_an_argument(error: Exception) -> bool:
    """Whether a positional argument was not given: typer has a click of its own, whose errors cannot be imported."""
    return getattr(getattr(error, "param", None), "param_type_name", "") == "argument"
