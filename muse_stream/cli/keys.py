"""`keys generate`, `keys show`: keys that sign generations."""

from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.output import note, show_text

keys = typer.Typer(
    name="keys",
    help="Make keys that sign generations: `publish --sign-key`, `run --trusted-keys` (docs/signed-generations.md).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
PrivateKey = Annotated[Path, typer.Argument(metavar="FILE", help="The private key.")]
Name = Annotated[str | None, typer.Option(help="Whose key it is, as `status` shows it. Default: the file's name.")]


@keys.command()
def generate(file: PrivateKey, name: Name = None) -> None:
    """Write a new private key, for its owner alone to read, and its public key to FILE.pub; print that.

    A file that is there is never written over. Give the line of the public key to whoever runs workers; the private
    key stays with who publishes.

    Example:

    ```
    muse-stream keys generate release.pem --name release-2026
    ```
    """
    from muse_stream.control import generate as write  # noqa: PLC0415

    line = write(file, name or file.name.partition(".")[0])
    note(f"{file}: the private key, without a password; {file}.pub: the public key")
    show_text(line)


@keys.command()
def show(file: PrivateKey, name: Name = None) -> None:
    """Print the public key of a private key.

    Example:

    ```
    muse-stream keys show release.pem --name release-2026 >>trusted.pub
    ```
    """
    from muse_stream.control import signer  # noqa: PLC0415

    found = signer(file)
    assert found is not None  # noqa: S101  # a file was given
    show_text(f"{found.key} {name or file.name.partition('.')[0]}")
