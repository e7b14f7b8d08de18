"""Promotion: the next generation, in which another predictor is live, and the evidence for it.

    current generation, or a file -> its text with other routes -> check -> changes -> evidence -> publish, or write

`prepare` needs no Kafka. `Prepared.evidence` reads the audit topics and `Prepared.refused` says what speaks against the
promotion; whoever goes on regardless gives a reason, which is kept.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_stream.commands.check import check_source
from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.difference import Change, answers_alike, differences
from muse_stream.commands.evidence import Evidence, Window, breaches, gather
from muse_stream.commands.publish import Proposal, Published, proposal
from muse_stream.config import KafkaSettings, Loaded, Promotion, load_document, parse, promote
from muse_stream.control import Note, Store, open_store
from muse_stream.errors import ConfigError, Problem, StoreError

TOLERANCE = 0.2
"""Share of a promised alert rate by which it may move."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A promotion that could be published."""

    candidate: str
    base: Loaded
    """What it starts from."""
    promotion: Promotion
    changes: tuple[Change, ...]
    warnings: tuple[Problem, ...]
    store: Store | None
    number: int | None
    """The generation that it starts from; None: a file."""
    proposal: Proposal | None
    """None for a file: it is not published."""

    def evidence(self, settings: KafkaSettings, window: Window) -> tuple[Evidence, ...]:
        """Read what the candidate said as a shadow. Raises the errors of Kafka."""
        old = {name for one in self.promotion.replaced for name in one.live}

        def alike(numbers: set[int]) -> set[int]:
            if self.store is None:  # nothing tells what those generations were: the newest counts
                return {max(numbers)} if numbers else set()
            return {number for number in numbers if number == self.number or self._alike(number, old)}

        return gather(self.base.document, settings, self.candidate, self.promotion.replaced, window, alike)

    def _alike(self, number: int, old: set[str]) -> bool:
        assert self.store is not None  # noqa: S101  # the caller has looked
        other = generation_or_none(self.store, number)
        return other is not None and answers_alike(self.base, other, {*old, self.candidate}, self.base.document.tenants)

    def refused(self, evidence: Sequence[Evidence], tolerance: float) -> list[Problem]:
        """Return what speaks against it: the harm of the change itself, and what the evidence says."""
        harmful = [
            Problem(f"tenants.{change.names[0]}" if change.names else change.area, str(change), change.harm)
            for change in self.changes
            if change.harm
        ]
        return [*harmful, *self._unseen(), *breaches(evidence, self.candidate, tolerance)]

    def _unseen(self) -> Iterator[Problem]:
        """Yield the routes of which there can be no evidence."""
        for one in self.promotion.replaced:
            if not one.shadowed:
                place = ", ".join(f"{name} {' or '.join(values)}" for name, values in one.when.items()) or "all intents"
                message = f"{place}: {self.candidate} is no shadow of {' or '.join(one.live)} there: no evidence"
                yield Problem("routes", message, "make it a shadow of that route first, or narrow --when")

    def where(self) -> list[dict[str, Any]]:
        """Return the routes that it takes over, and who answered there, as plain data; kept for `watch`."""
        return [
            {
                "when": {name: list(values) for name, values in one.when.items()},
                "live": {name: share for name, share in one.live.items() if name != self.candidate},
            }
            for one in self.promotion.replaced
        ]

    def publish(self, note: Note) -> Published:
        """Make it the current generation. Raises Conflict when `current` has moved since, StoreError."""
        assert self.proposal is not None  # noqa: S101  # a file is written, not published
        return self.proposal.publish(note)

    def close(self) -> None:
        """Close the store."""
        if self.store is not None:
            self.store.close()

    def write(self) -> Path:
        """Put the new text into the file that it started from, in one step."""
        path = self.base.source.path
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(self.promotion.text.encode())
        aside.chmod(path.stat().st_mode & 0o777)
        aside.replace(path)
        return path


def prepare(
    candidate: str,
    when: Mapping[str, Sequence[str]] | None = None,
    *,
    store: str | Path | None = None,
    file: Path | None = None,
    share: float = 1.0,
) -> Prepared | None:
    """Work out the promotion of `candidate` where `when` holds; None where it is live already.

    It starts from the current generation of `store`, or from `file`. Without `when` the candidate becomes live wherever
    it is a shadow or has a share. With a `share` below 1 it answers that part of the events.
    Raises ConfigError for what does not fit, and everything `check` finds; Conflict when somebody else has published
    meanwhile, StoreError.
    """
    opened = None if store is None else open_store(store)
    try:
        number, base = _base(opened, file)
        done = _promoted(base, candidate, when, share)
        if done is None:
            return None
        checked = check_source(parse(base.source.path, done.text.encode()), base.root)
        if checked.loaded is None or checked.problems:
            raise ConfigError(checked.problems)
        changes = differences(base, checked.loaded)
        proposed = proposal(checked, opened, number) if file is None and opened is not None else None
        prepared = Prepared(candidate, base, done, changes, checked.warnings, opened, number, proposed)
        opened = None  # the caller's now
    finally:
        if opened is not None:
            opened.close()
    return prepared


def _base(store: Store | None, file: Path | None) -> tuple[int | None, Loaded]:
    """Return what a promotion starts from, with its number if it is a generation."""
    if file is not None:
        return None, load_document(file)
    if store is None:
        hint = "name a store with --store or MUSE_STORE, or a file with --write"
        raise ConfigError([Problem("--store", "no store was given", hint)])
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    return number, load_document(store.open(number).path)


def _promoted(base: Loaded, candidate: str, when: Mapping[str, Sequence[str]] | None, share: float) -> Promotion | None:
    text = base.source.data.decode()
    done = promote(text, candidate, when, share=share, name=str(base.source.path))
    if done.replaced:
        return done
    if when is None and not any(candidate in route.live_shares for route in base.document.routes):
        message = f"'{candidate}' is no shadow of any route: there is nothing to promote it from"
        hint = "make it a shadow first, so that there is evidence; or say where with --when"
        raise ConfigError([base.source.problem(("routes",), message, hint)])
    return None
