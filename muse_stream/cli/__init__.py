"""The command line: one file per group of commands; it parses, calls, and shows.

In: arguments. Out: an answer on stdout (a table, or JSON), progress and logs on stderr, an exit code.
Law: nothing is computed here; every command is one call of `operations`, `app` or `demo`. The rooms it needs are
imported when a command runs, so that `--help` and completion answer at once. typer lives here, rich here and in demo.

    start       the program, its options, its exit codes       screen        tables, JSON, progress, errors
    configuring check, schema                                  releasing     publish, generations, rollback
    serving     run                                            streaming     topics, produce, tail
    proving     verify, replay                                 showing       demo
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see `start.main`. A worker process imports this module too, and needs nothing of it."""
    from muse_stream.cli.start import main as run  # noqa: PLC0415

    return run(arguments)
