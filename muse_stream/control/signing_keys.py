"""Keys of the library cryptography (an extra): made, read, and asked whether a signature is good."""

import base64
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from muse_stream.control.signatures import ALGORITHM
from muse_stream.errors import StoreError


def fresh() -> tuple[Ed25519PrivateKey, bytes]:
    """Return a new private key, and it as PEM."""
    private = Ed25519PrivateKey.generate()
    return private, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key without a password; raises StoreError naming the file, and showing nothing of it."""
    right = "a private key of ed25519 as PEM, as `muse-stream keys generate` writes it"
    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: the key to sign with cannot be read") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise StoreError(f"{path}: cannot be read as a key without a password; wanted is {right}") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise StoreError(f"{path}: a key of another kind; wanted is {right}")
    return found


def public_text(private: Ed25519PrivateKey) -> str:
    """Return the public key of a private one, as records and files of keys have it."""
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"{ALGORITHM}:{base64.b64encode(raw).decode()}"


def good(key: bytes, value: bytes, message: bytes) -> bool:
    """Whether a signature is the key's, of this message."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(value, message)
    except (InvalidSignature, ValueError):
        return False
    return True
