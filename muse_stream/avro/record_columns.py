"""The same as `arrow_columns`, one record at a time: for what the batch decoder cannot read, and for what it refuses.

The wanted fields of a record, as `strict.read` gives them, and a `Route` give one Python value of the route's domain,
or `Unresolved`. It is exactly what `arrow_columns.extract` gives; property tests compare the two.
"""

from collections.abc import Iterable
from typing import Any

from muse_stream.avro.resolution import Case, Route, decimal_number
from muse_stream.avro.strict import Wanted


class Unresolved(ValueError):
    """This record's value cannot be read as the reader's type."""


def wanted(routes: Iterable[Route]) -> Wanted:
    """Return the writer's fields that the routes need."""
    tree: dict[str, Any] = {}
    for route in routes:
        node = tree
        for step in route.steps:
            node = node.setdefault(step.field, {})
        if route.name:
            node.setdefault(route.name, {})
    return tree


def value(route: Route, record: dict[str, Any]) -> Any:
    """Return None, or an int, bool, float or str as the route's domain wants it; raises Unresolved."""
    node = record
    for step in route.steps:
        _, inner = node[step.field]
        if inner is None:
            if step.required:
                raise Unresolved(f"{route.path}: {step.field} is null, which the reader does not allow")
            return None
        node = inner
    if not route.name:
        return _domain(route.constant, route)
    branch, found = node[route.name]
    case = route.cases[branch]
    if case is None:
        raise Unresolved(f"{route.path}: {route.wrote[branch]} cannot be read here")
    return None if found is None else _domain(_convert(case, found, route.path), route)


def _convert(case: Case, found: Any, path: str) -> Any:
    if case.limit is not None and not -case.limit <= found < case.limit:
        raise Unresolved(f"{path}: the value is outside the range of an int")
    if case.decimal is not None:
        return decimal_number(found, case.decimal)
    if case.scale_by != (1, 1):
        times, over = case.scale_by
        return found * times // over
    if case.symbols is not None and found not in case.symbols:
        if case.substitute is None:
            raise Unresolved(f"{path}: the reader's enum lacks the symbol written, and has no default")
        return case.substitute
    return found


def _domain(found: Any, route: Route) -> Any:
    if found is None:
        return None
    if route.domain == "number":
        return float(found)
    if route.domain == "text" and isinstance(found, bytes):
        return _text(found, route)
    return found


def _text(found: bytes, route: Route) -> str:
    """Bytes as text: UTF-8; where the reader says `bytes`, what is not UTF-8 is spelled out as \\xNN."""
    try:
        return found.decode("utf-8", errors="backslashreplace" if route.binary else "strict")
    except UnicodeDecodeError:
        raise Unresolved(f"{route.path}: bytes read as a string must be UTF-8") from None
