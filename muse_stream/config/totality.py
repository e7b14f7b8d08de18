"""Route totality: every tenant has an answer for every intent it can send; and the rules that can never answer.

A document and the domains of its attributes (from Avro enums; constants are known here) give `Totality`: a
counterexample intent per tenant without an answer, the rules no intent reaches, and values no event can carry.

Exact, not sampled. Intents are boxes (a set of values per attribute, plus "any other" where the domain is open); each
rule is subtracted from what the rules before it left. Only when that would exceed `MAX_BOXES` is a tenant called
unproven.
"""

from collections.abc import Iterator, Mapping, Set

from msgspec import Struct

from muse_stream.config.document import Document
from muse_stream.config.expected import nearest
from muse_stream.config.source import Source
from muse_stream.errors import Problem

Domains = Mapping[tuple[str, str], Set[str | None] | None]
"""(event format, attribute) to the values it can have (None among them is a null), or None: any string can come."""

OTHER = "<any other value>"
"""Stands in an intent for every string no rule names, and for a null."""
MAX_BOXES = 5_000
"""Boxes per tenant before the proof gives up; an ordinary rule set leaves a handful."""

_Box = dict[str, frozenset[str | None]]


class Counterexample(Struct, frozen=True):
    """An intent of a tenant that no route answers."""

    tenant: str
    intent: Mapping[str, str | None]
    proven: bool = True
    """False: there were too many combinations to tell."""


class Totality(Struct, frozen=True):
    """What is known about the routes of a document."""

    uncovered: tuple[Counterexample, ...]
    unreachable: tuple[int, ...]
    """Positions of the routes that no intent of any tenant reaches."""
    impossible: tuple[tuple[int, str, str, str], ...]
    """(route, attribute, value, hint): values that no event can carry."""

    def problems(self, source: Source) -> list[Problem]:
        """Return an error per tenant that is left without an answer."""
        return [source.problem(("routes",), *_told(example)) for example in self.uncovered]

    def warnings(self, source: Source) -> list[Problem]:
        """Return a warning per rule that cannot answer, and per value that cannot come."""
        found = [
            source.problem(("routes", position, "when", attribute), f"no event has {attribute} = '{value}'", hint)
            for position, attribute, value, hint in self.impossible
        ]
        message, hint = (
            "no intent reaches this rule: earlier rules answer all of its intents",
            "move it up or remove it",
        )
        return [*found, *(source.problem(("routes", position), message, hint) for position in self.unreachable)]


def _told(example: Counterexample) -> tuple[str, str]:
    if not example.proven:
        return (
            f"tenant '{example.tenant}': too many combinations to prove that every intent has an answer",
            "end the routes with one that has no `when`",
        )
    intent = ", ".join(f"{name}: {'null' if value is None else value}" for name, value in example.intent.items())
    return (
        f"tenant '{example.tenant}' has no answer for the intent {{{intent}}}",
        f"add a route for it, for example `when: {{tenant: {example.tenant}}}`, or end with one that has no `when`",
    )


def prove_total(document: Document, domains: Domains) -> Totality:
    """Return which tenants lack an answer and which rules never give one.

    `domains` need not be complete: what is absent is open (any string, or none). Constants are taken from the document.
    """
    uncovered: list[Counterexample] = []
    reached: set[int] = set()
    for tenant, spec in document.tenants.items():
        if spec.event in document.events:
            rest, hit = _subtract_all(document, _first_box(document, tenant, domains))
            reached |= hit
            if rest is None:
                uncovered.append(Counterexample(tenant, {"tenant": tenant}, proven=False))
            elif rest:
                uncovered.append(Counterexample(tenant, _example(rest[0])))
    impossible = tuple(_impossible(document, domains))
    unreachable = tuple(position for position in range(len(document.routes)) if position not in reached)
    return Totality(tuple(uncovered), unreachable, impossible)


def _domain(document: Document, event: str, attribute: str, domains: Domains) -> frozenset[str | None] | None:
    constant = document.events[event].intent[attribute].value
    if constant is not None:
        return frozenset({constant})
    known = domains.get((event, attribute))
    return None if known is None else frozenset(known)


def _first_box(document: Document, tenant: str, domains: Domains) -> _Box:
    """Return all intents of a tenant: per attribute its values, or those that rules name and `OTHER`."""
    event = document.tenants[tenant].event
    box: _Box = {"tenant": frozenset({tenant})}
    for attribute in document.events[event].intent:
        known = _domain(document, event, attribute, domains)
        named = {value for route in document.routes for value in route.when.get(attribute, ())}
        box[attribute] = frozenset({*named, OTHER}) if known is None else known
    return box


def _subtract_all(document: Document, first: _Box) -> tuple[list[_Box] | None, set[int]]:
    """Return the intents that no rule answers (None: too many boxes) and the rules that answer some."""
    left = [first]
    hit: set[int] = set()
    for position, route in enumerate(document.routes):
        if len(left) > MAX_BOXES:
            # What is left over-counts nothing: later rules may still be reached, so none of them is called unreachable.
            return None, hit | set(range(position, len(document.routes)))
        if not route.when.keys() <= first.keys():
            continue  # an attribute that events of this tenant do not have is never equal to anything
        remaining: list[_Box] = []
        for box in left:
            pieces = _subtract(box, {name: frozenset(values) for name, values in route.when.items()})
            if pieces is None:
                remaining.append(box)
            else:
                hit.add(position)
                remaining.extend(pieces)
        left = remaining
    return left, hit


def _subtract(box: _Box, rule: Mapping[str, frozenset[str]]) -> list[_Box] | None:
    """Return `box` without the intents of `rule` as disjoint boxes; None when they have nothing in common."""
    common = {name: box[name] & values for name, values in rule.items()}
    if not all(common.values()):
        return None
    pieces: list[_Box] = []
    inner = dict(box)
    for name, values in common.items():
        outside = inner[name] - values
        if outside:
            pieces.append({**inner, name: outside})
        inner[name] = values
    return pieces


def _example(box: _Box) -> dict[str, str | None]:
    return {name: min(values, key=lambda value: (value == OTHER, value or "")) for name, values in box.items()}


def _impossible(document: Document, domains: Domains) -> Iterator[tuple[int, str, str, str]]:
    events = {tenant.event for tenant in document.tenants.values()} & document.events.keys()
    for position, route in enumerate(document.routes):
        for attribute in route.when.keys() - {"tenant"}:
            known = [
                _domain(document, event, attribute, domains)
                for event in events
                if attribute in document.events[event].intent
            ]
            possible = {value for domain in known if domain is not None for value in domain if value is not None}
            if known and None not in known:
                for value in route.when[attribute]:
                    if value not in possible:
                        yield position, attribute, value, nearest(value, possible)
