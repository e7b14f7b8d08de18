"""Secrets do not get into the log: each is replaced by `**********`.

Masked by name (a key that names a secret, at any depth), by type (`SecretStr`) and by shape (`password=...`,
`user:password@host`, also inside messages and tracebacks). It errs on the side of masking.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from pydantic import SecretBytes, SecretStr

MASK = "**********"
_NAMES = re.compile(r"passw|secret|token|credential|authorization|api_?key|private_?key|sasl\.jaas", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<name>[\w.\-]*(?:password|passwd|secret|token|credential|api_?key)[\w.\-]*['\"]?\s*[=:]\s*['\"]?)[^\s'\",;}&]+",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?P<scheme>\w://[^/\s:@]*:)[^/\s@]+@")


def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: replace every secret in `event`."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes) or (value not in (None, "") and _NAMES.search(name)):
        return MASK
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: _masked(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", item) for item in value]
    return value


def text(value: str) -> str:
    """Replace what looks like a secret inside a text."""
    value = _ASSIGNED.sub(rf"\g<name>{MASK}", value)
    return _USERINFO.sub(rf"\g<scheme>{MASK}@", value)
