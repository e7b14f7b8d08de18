"""The program `muse-stream`: its options, its help, its exit codes.

An error that is meant for a person is one line (`--debug` shows where it came from); the exit code says what kind it
was; Ctrl-C ends every command with 130.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any

import typer
import typer.main

import muse_stream
from muse_stream import environment
from muse_stream.cli.lazy_group import MARKUP, LazyGroup
from muse_stream.cli.options import Session
from muse_stream.cli.output import complain, console, note
from muse_stream.errors import ConfigError, MuseError, Retriable
from muse_stream.extras import missing_extra

FAILED, REFUSED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
STDOUT = "standard output"
PLACE = re.compile(r"[^\s:]+:\d+: ")
"""`file:line: `, which a terminal makes a link when it begins the line."""


def _listed(variables: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {meaning}" for name, meaning in variables.items())


HELP = f"""Score multi-tenant event streams on Kafka, exactly once, with models that change and thresholds that do not.

Wherever a command takes a CONFIG, it is a configuration file, or a generation store, which means its current
generation. A store is a folder, or a Redis (redis://, rediss://, redis+sentinel://); `--store` and MUSE_STORE name it
as well. `muse-stream broker` starts a Kafka to try things out on.

Environment; any other variable that begins with MUSE_ is refused:

{_listed(environment.CONNECTION)}
{_listed(environment.STORE)}
{_listed(environment.REGISTRY)}
{_listed(environment.PROCESS)}

Exit codes:

- 0 all well
- 1 something was found, or something failed
- 2 wrong usage, or a configuration was refused
- 3 Kafka cannot be reached
- 130 interrupted; but `run` that drained after Ctrl-C, and `broker`, have done what they were asked to: 0
"""

program = typer.Typer(
    name="muse-stream",
    cls=LazyGroup,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"muse-stream {muse_stream.__version__}")
        raise typer.Exit


@program.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    log_level: Annotated[
        str, typer.Option(envvar="MUSE_LOG_LEVEL", help="Least level of log lines: debug, info, warning, error.")
    ] = "info",
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    session: Session = context.obj
    if not session.asks_for_help:
        environment.check()
    session.debug, session.log_level = debug, log_level
    session.start_log()


@cache
def _command() -> Any:
    """Return the program with its options; a command is built once, for who calls `main` again and again."""
    return typer.main.get_command(program)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name in a file may hold what the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        _name_errors(sys.stdout)
    session = Session(asks_for_help=not {"-h", "--help"}.isdisjoint(words))
    try:
        _command()(args=words, prog_name="muse-stream", obj=session)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
        return code if _flushed() else code or FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is told as one, without forty lines
        if session.debug:
            console(error=True).print_exception()
        return _told(error, session)
    finally:
        environment.forget_choices()
    return 0 if _flushed() else FAILED


def _name_errors(stream: io.TextIOWrapper) -> None:
    """Have errors of standard output say that it was standard output."""

    def named(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            try:
                return method(*given)
            except OSError as error:
                raise OSError(error.errno, error.strerror, STDOUT) from error

        return call

    for method in ("write", "flush"):
        setattr(stream, method, named(getattr(stream, method)))


def _flushed() -> bool:
    """Write out what is left for standard output; where it takes no more, say so."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _full(error)
        return False
    return True


def _full(error: OSError) -> None:
    # what could not be written is tried again at the interpreter's end, which would tell it as a traceback
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:  # else who read it has seen enough
        note(f"Error: {STDOUT}: {error.strerror}", "red")


def _told(error: Exception, session: Session) -> int:
    if isinstance(error, ModuleNotFoundError):
        error = missing_extra(error) or error
    if isinstance(error, ConfigError):
        count = len(error.problems)
        complain(error.problems, style="red", title=f"refused: {count} problem{'s' if count > 1 else ''}")
        return REFUSED
    if isinstance(error, OSError) and error.filename == STDOUT:
        _full(error)
        return FAILED
    if isinstance(error, MuseError | OSError):  # a full disk, a folder nobody may write: no bug of ours
        text = str(error)
        note(text if PLACE.match(text) else f"Error: {text}", "red")
        return UNREACHABLE if isinstance(error, Retriable) else getattr(error, "exit_code", FAILED)
    note(f"This is a bug in muse-stream: {type(error).__name__}: {error}", "red")
    if not session.debug:
        note("`muse-stream --debug ...` shows where it happened.")
    return FAILED
