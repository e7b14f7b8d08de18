"""Secrets do not belong in the document; this finds those that were written there anyway.

Reports every key or value that looks like one and never repeats the value. Names that an operator chooses freely
(category strings, intent values, tenants) are not keys in this sense.
"""

import re
from collections.abc import Iterator
from typing import Any

from muse_stream.config.source import Source, YamlPath
from muse_stream.errors import Problem

_KEY = re.compile(
    r"(^|[._-])(password|passwd|passphrase|pwd|secret|secrets|token|api[._-]?key|access[._-]?key|private[._-]?key"
    r"|credentials?|sasl|jaas)([._-]|$)|password$|secret$",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@|https?://[^/\s@]+@"
    # signed URLs: whoever has one may read the file
    r"|://[^\s]*[?&](x-(amz|goog|oss|cos|obs)-[a-z-]+|awsaccesskeyid|googleaccessid|signature|sig|se|sv|access[_-]?token"
    r"|auth[a-z_-]*|token|api[_-]?key|key|password|secret)=",
    re.IGNORECASE,
)
_FREE_NAMES = ("when", "categories", "intent", "inputs", "tenants")
HINT = "secrets never live in the document: use environment variables (MUSE_KAFKA_...) or files they point to"


def secret_problems(source: Source) -> list[Problem]:
    """Return a problem for everything in the file that looks like a secret."""
    return list(_walk(source, source.tree, ()))


def _walk(source: Source, node: Any, path: YamlPath) -> Iterator[Problem]:
    if isinstance(node, dict):
        for key, below in node.items():
            step = (*path, str(key))
            chosen = path and (path[0] == "categories" or path[-1] in _FREE_NAMES)
            given = isinstance(below, str | int | float) and not isinstance(below, bool) and below != ""
            if given and not chosen and _KEY.search(str(key)):
                yield source.problem(step, "this key looks like a secret", HINT)
            else:
                yield from _walk(source, below, step)
    elif isinstance(node, list):
        for position, below in enumerate(node):
            yield from _walk(source, below, (*path, position))
    elif isinstance(node, str) and _VALUE.search(node):
        yield source.problem(path, "this value carries a secret", HINT)
