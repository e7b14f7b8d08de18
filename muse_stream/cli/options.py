"""What all commands of one call share: the options before the command, the log, Kafka settings, types of arguments.

Settings are read when a command needs them, so that `check` works where no Kafka is configured.
"""

import logging
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream import environment

if TYPE_CHECKING:
    from muse_stream.config import KafkaSettings
    from muse_stream.files import Encoding

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="Configuration file, or a generation store: folder or redis:// URL.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Configuration file (YAML).")]
Store = Annotated[str, typer.Argument(metavar="STORE", help="The generation store: its folder, or a redis:// URL.")]
Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Name of a tenant in the configuration.")]
Events = Annotated[Path, typer.Argument(metavar="EVENTS", help="Parquet, Avro or JSON-lines file.")]
Columns = Annotated[list[str] | None, typer.Option("--column", help="field=column, where the file's names differ.")]
Headers = Annotated[list[str] | None, typer.Option("--header", help="name=value, a Kafka header for every event.")]
Force = Annotated[
    str | None, typer.Option("--force", metavar="REASON", help="Do it although it can hurt a tenant, and say why.")
]
Message = Annotated[str, typer.Option("--message", "-m", help="Why; kept with the generation.")]


def _sign_with(file: Path | None) -> Path | None:
    if file is not None:
        environment.choose("MUSE_SIGN_KEY_FILE", str(file))
    return file


SignKey = Annotated[
    Path | None,
    typer.Option(
        "--sign-key",
        metavar="FILE",
        help="Private key that signs it (`muse-stream keys generate`). Default: MUSE_SIGN_KEY_FILE.",
        callback=_sign_with,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Redact = Annotated[
    bool,
    typer.Option("--redact", help="Mask what is in events; ids and keys become pseudonyms of this call."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class JsonText(StrEnum):
    """How JSON lines write Avro values."""

    AUTO = "auto"
    PLAIN = "plain"
    AVRO = "avro"

    @property
    def encoding(self) -> "Encoding | None":
        """What `files` calls it; None: the file tells."""
        return None if self is JsonText.AUTO else "avro" if self is JsonText.AVRO else "plain"


JsonEncoding = Annotated[
    JsonText,
    typer.Option(
        "--json-encoding",
        help='How JSON lines write Avro values: plain, the Avro JSON encoding ({"double": 1.5}), or as the file tells.',
    ),
]


class Role(StrEnum):
    """What a worker writes: scores, or audit records of shadow predictors."""

    LIVE = "live"
    SHADOW = "shadow"


class Session:
    """Options and settings of one call."""

    def __init__(self, *, asks_for_help: bool = False) -> None:
        self.asks_for_help = asks_for_help
        """Help is shown whatever the environment holds: it may be what somebody needs to set it right."""
        self.debug = False
        self.log_level = "info"

    def start_log(self) -> None:
        """Send log lines to stderr; raises a usage error for an unknown level."""
        from muse_stream import telemetry  # noqa: PLC0415 - not before a command runs

        try:
            telemetry.configure(level=self.log_level)
        except ValueError:
            raise typer.BadParameter(f"'{self.log_level}' is not a log level: debug, info, warning or error") from None
        if self.log_level.lower() != "debug":
            # what the client library reports and then mends by itself; what it cannot mend, the command says
            logging.getLogger("muse_stream.kafka").setLevel(logging.CRITICAL)

    @property
    def kafka(self) -> "KafkaSettings":
        """Kafka settings of the environment; raises ConfigError naming each wrong variable."""
        from muse_stream.config import KafkaSettings  # noqa: PLC0415

        return KafkaSettings.from_environment()


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """Return `name=value` options as a dict; raises a usage error for anything else."""
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"'{text}' is not name=value", param_hint=option)
        if not text.isprintable():
            raise typer.BadParameter(f"{text!a} has characters that are no text", param_hint=option)
        found[name] = value
    return found
