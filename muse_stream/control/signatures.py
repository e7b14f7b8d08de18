"""Signatures of generations: who made a record of a store, as a key says (ed25519).

A publisher with a private key signs the two records it writes (control/records.py): the manifest of a generation, which
holds its number and the hash of every file, and what is current. What is signed is the whole record but the signature,
with the kind of record before it, so that a signature is good for no other record, number or kind.

Workers that are given public keys (`TrustedKeys`) take nothing that none of them has signed. The extra `signing` brings
the library (cryptography); it is loaded by whoever signs or checks, and by nobody else.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from muse_stream import environment
from muse_stream.errors import StoreError
from muse_stream.extras import missing_extra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Kind = Literal["generation", "current"]
ALGORITHM = "ed25519"
SIGNATURE = "signature"
"""Key of a record under which its signature stands."""
_LENGTH = {"key": 32, "value": 64}
_NAME = re.compile(r"[\w.@+-]{1,100}")
RIGHT = "a line is ed25519:KEY NAME, as `muse-stream keys generate` writes it"


class Signature(Struct, frozen=True):
    """What stands in a signed record."""

    key: str
    """Public key of the signer, `ed25519:` and base64."""
    value: str
    """Base64."""

    def facts(self) -> dict[str, str]:
        """Return it as it stands in the record."""
        return {"key": self.key, "value": self.value}

    @classmethod
    def read(cls, value: object) -> "Signature | None":
        """Return what a record holds, None for none; raises ValueError for what is no signature."""
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) != {"key", "value"}:
            raise ValueError
        _bytes(_key(value["key"]), "key")
        _bytes(value["value"], "value")
        return cls(value["key"], value["value"])


class Signer(Struct, frozen=True):
    """A private key, kept in memory for one command; never shown."""

    _private: "Ed25519PrivateKey"

    @classmethod
    def read(cls, path: Path) -> "Signer":
        """Read a private key (PEM, PKCS#8); raises StoreError naming the file."""
        from muse_stream.control.signing_keys import read_private  # noqa: PLC0415 - an extra

        return cls(read_private(path))

    @property
    def key(self) -> str:
        """The public key."""
        from muse_stream.control.signing_keys import public_text  # noqa: PLC0415 - an extra

        return public_text(self._private)

    def sign(self, record: bytes, kind: Kind) -> bytes:
        """Return the record with a signature in it."""
        content = json.loads(record)
        value = base64.b64encode(self._private.sign(signed_part(content, kind))).decode()
        return json.dumps({**content, SIGNATURE: Signature(self.key, value).facts()}, indent=1).encode()


def signer(path: Path | None = None) -> Signer | None:
    """Return who signs here: the key in `path`, else the one that MUSE_SIGN_KEY_FILE names; None where none is."""
    named = path or environment.read("MUSE_SIGN_KEY_FILE")
    return _loaded(Signer.read, Path(named)) if named else None


def signed_part(content: Mapping[str, Any], kind: Kind) -> bytes:
    """Return what a signature is of."""
    rest = {name: value for name, value in content.items() if name != SIGNATURE}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"muse-stream {kind}\n{canonical}".encode()


class TrustedKeys(Struct, frozen=True):
    """Public keys whose signatures are taken, by name."""

    names: Mapping[str, str]
    """Key -> who it is."""
    file: str = ""

    @classmethod
    def read(cls, path: Path) -> "TrustedKeys":
        """Read a file of public keys, `ed25519:BASE64 NAME` a line, `#` for comments; raises StoreError."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise StoreError(f"{path}: the trusted keys cannot be read: {why}") from None
        names: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.strip().startswith("#"):
                continue
            key, _, name = line.strip().partition(" ")
            try:
                _bytes(_key(key), "key")
            except (ValueError, TypeError):
                raise StoreError(f"{path}:{number}: not a public key; {RIGHT}") from None
            if not _NAME.fullmatch(name.strip()):
                raise StoreError(f"{path}:{number}: the key has no name, or one that is not a word; {RIGHT}")
            names[key] = name.strip()
        if not names:
            raise StoreError(f"{path}: has no key, so nothing could be served; {RIGHT}")
        return cls(names, str(path))

    def check(self, record: bytes, kind: Kind, where: str) -> str:
        """Return who has signed a record that was read; raises StoreError where nobody trusted has, or not this one."""
        content = json.loads(record)
        try:
            signature = Signature.read(content.get(SIGNATURE))
        except (ValueError, TypeError):
            raise StoreError(f"{where} has a signature that is none; {self._right()}") from None
        if signature is None:
            raise StoreError(f"{where} is not signed; {self._right()}")
        name = self.names.get(signature.key)
        if name is None:
            raise StoreError(f"{where} is signed by a key that is not trusted here ({signature.key}); {self._right()}")
        if not _loaded(_good, signature, signed_part(content, kind)):
            raise StoreError(f"{where} bears a signature of {name} that is not of it: it was altered, or copied there")
        return name

    def _right(self) -> str:
        place = f" ({self.file})" if self.file else ""
        return f"publish it with --sign-key, by one of {', '.join(sorted(self.names.values()))}{place}"


def trusted_keys() -> TrustedKeys | None:
    """Return the keys that MUSE_TRUSTED_KEYS_FILE names, None where it is not set."""
    named = environment.read("MUSE_TRUSTED_KEYS_FILE")
    return TrustedKeys.read(Path(named)) if named else None


def signer_name(signature: Signature | str | None) -> str:
    """Return whose signature it is, for a person: the name by which the key is trusted here, else the key.

    Whether the signature is good is not asked.
    """
    key = signature.key if isinstance(signature, Signature) else signature or ""
    with suppress(StoreError):
        known = trusted_keys()
        if known is not None:
            return known.names.get(key, key)
    return key


def generate(path: Path, name: str) -> str:
    """Write a new private key to `path`, readable by its owner alone, and its public line to `path.pub`; return that.

    Raises StoreError where one of the two is there already.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(f"'{name}' is no name of a key: use letters, digits and . @ + - _")
    pem, public = _loaded(_fresh)
    line = f"{public} {name}"
    for file, content, mode in ((path, pem, 0o600), (path.with_name(f"{path.name}.pub"), f"{line}\n".encode(), 0o644)):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}; a key is never written over") from None
        with open(descriptor, "wb") as opened:
            opened.write(content)
    return line


def _fresh() -> tuple[bytes, str]:
    from muse_stream.control.signing_keys import fresh, public_text  # noqa: PLC0415 - an extra

    private, pem = fresh()
    return pem, public_text(private)


def _good(signature: Signature, message: bytes) -> bool:
    from muse_stream.control.signing_keys import good  # noqa: PLC0415 - an extra

    return good(_bytes(_key(signature.key), "key"), _bytes(signature.value, "value"), message)


def _loaded(call: Any, *given: Any) -> Any:
    """Call what needs the library; raises MissingExtra where it is not installed."""
    try:
        return call(*given)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None


def _key(text: object) -> str:
    if not isinstance(text, str) or not text.startswith(f"{ALGORITHM}:"):
        raise ValueError
    return text.partition(":")[2]


def _bytes(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(found) != _LENGTH[what] or base64.b64encode(found).decode() != text:  # one way to write a key
        raise ValueError
    return found
