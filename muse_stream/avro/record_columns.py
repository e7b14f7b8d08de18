"""The same as `arrow_columns`, one record at a time: for what the batch decoder cannot read, and for what it refuses.

The wanted fields of a record, as `strict.read` gives them, and a `Route` give the `Case` or `Default` that applies, by
the branches that were written; the values of many records become one array by the conversion that batches take too.
Property tests compare the two.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from muse_stream.avro.arrow_columns import constant
from muse_stream.avro.conversion import ARROW, PHYSICAL, Mask, convert, refusal
from muse_stream.avro.resolution import NULL, Access, Case, Default, Outcome, Refused, Route
from muse_stream.avro.strict import Wanted

Picked: TypeAlias = tuple[Case | Default, Any]
"""What to do with a value, and the value."""


class Unresolved(ValueError):
    """This record's value cannot be read as the reader's type."""


def wanted(routes: Iterable[Route]) -> Wanted:
    """Return the writer's fields that the routes need."""
    tree: dict[str, Any] = {}
    for route in routes:
        _add(route.root, tree)
    return tree


def _add(outcome: Outcome, tree: dict[str, Any]) -> None:
    if isinstance(outcome, Access):
        below = tree.setdefault(outcome.field, {})
        for branch in outcome.branches:
            _add(branch, below)


def pick(route: Route, record: dict[str, Any]) -> Picked:
    """Follow the branches that a record's writer took; raises Unresolved where they lead to nothing readable."""
    outcome: Outcome = route.root
    found: Any = record
    while isinstance(outcome, Access):
        branch, found = found[outcome.field]
        outcome = outcome.branches[branch]
    if isinstance(outcome, Refused):
        raise Unresolved(outcome.why)
    return outcome, found


def column(route: Route, picked: Sequence[Picked]) -> tuple[pa.Array, dict[int, str]]:
    """Return the route's array of `ARROW[route.domain]`, and why positions of it are refused.

    Raises Malformed when some text is not UTF-8.
    """
    outcomes = {id(outcome): outcome for outcome, _ in picked}
    written = [outcome for outcome in outcomes.values() if outcome != NULL]
    if len(written) == 1 and isinstance(written[0], Case):  # the usual column: null stays null in a conversion
        array, bad = _converted(written[0], [value for _, value in picked])
        return array, {} if bad is None else dict.fromkeys(np.flatnonzero(bad).tolist(), refusal(written[0]))
    return _mixed(route, picked)


def _converted(case: Case, values: list[Any]) -> tuple[pa.Array, Mask | None]:
    return convert(case, pa.array(values, PHYSICAL[case.kind]))


def _mixed(route: Route, picked: Sequence[Picked]) -> tuple[pa.Array, dict[int, str]]:
    """Make the column of values that the writer wrote in several ways."""
    kind = ARROW[route.domain]
    groups: dict[int, list[int]] = {}
    for position, (outcome, _) in enumerate(picked):
        groups.setdefault(id(outcome), []).append(position)
    arrays: list[pa.Array] = []
    refused: dict[int, str] = {}
    for positions in groups.values():
        outcome = picked[positions[0]][0]
        if isinstance(outcome, Default):
            arrays.append(constant(outcome, kind, len(positions)))
            continue
        array, bad = _converted(outcome, [picked[at][1] for at in positions])
        arrays.append(array)
        if bad is not None:
            refused |= {positions[at]: refusal(outcome) for at in np.flatnonzero(bad).tolist()}
    if len(arrays) == 1:
        return arrays[0], refused
    order = np.argsort(np.concatenate([np.array(positions) for positions in groups.values()]))
    return pa.concat_arrays(arrays).take(pa.array(order)), refused
