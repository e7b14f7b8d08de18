"""What settings from variables have in common: files that must be there, a secret or the file that holds it, URLs.

Field `password` has its file in `password_file`; a message names fields by their variables. A file is read each time,
so that a secret can be changed while a worker runs; a trailing line end is dropped. Nothing here shows a secret.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, SecretStr

from muse_stream.config import kafka_properties


def _file(value: Path) -> Path:
    # librdkafka says of a missing file only that "the client could not be created"
    if not value.is_file():
        raise ValueError("is not a file" if value.exists() else "no such file")
    return value


def _url(value: str) -> str:
    if wrong := kafka_properties.url_problem(value):
        raise ValueError(wrong)
    return value


ExistingFile = Annotated[Path, AfterValidator(_file)]
EndpointUrl = Annotated[str, AfterValidator(_url)]
"""A URL without a user in it."""


def refuse_both(settings: BaseModel, secrets: Iterable[str], variables: Mapping[str, str]) -> None:
    """Raise ValueError where a secret is given twice, by its variable and in a file."""
    for field in secrets:
        if getattr(settings, field) is not None and getattr(settings, f"{field}_file") is not None:
            raise ValueError(f"give one of {variables[field]} and {variables[field]}_FILE")


def secret(settings: BaseModel, field: str, variables: Mapping[str, str]) -> SecretStr | None:
    """Return a secret as it is now; None where neither is given. Raises ValueError where its file cannot be read."""
    given: SecretStr | None = getattr(settings, field)
    file: Path | None = getattr(settings, f"{field}_file")
    if given is not None or file is None:
        return given
    try:
        return SecretStr(file.read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{variables[field]}_FILE cannot be read: {what}") from None
