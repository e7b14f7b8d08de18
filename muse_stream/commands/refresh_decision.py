"""Decides a proposal: apply it as a promotion is published, or reject it.

proposal -> it still fits what is current -> check -> changes -> publish -> current
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from muse_stream.calibration import FittedMap, QuantileMap, largest, moves
from muse_stream.commands import refresh_incidents
from muse_stream.commands.refresh_outcome import applied, declined
from muse_stream.commands.refresh_record import Fitted, Overtaken, RefreshRecord, digest, find, keep
from muse_stream.commands.refresh_target import Target, anchor, current, target
from muse_stream.config import load_document
from muse_stream.control import Conflict, Note, Store, author, signer, trusted_keys
from muse_stream.errors import ConfigError, MuseError, Problem

ROUNDS: Final = 10
SAME: Final = 1e-9


def misfits(store: Store, known: RefreshRecord, wanted: Target | None) -> list[Problem]:
    """Return why a proposal cannot be applied to what is current. Raises StoreError, ConfigError."""
    path = f"tenants.{known.tenant}"
    if known.state != "proposed" or known.fitted is None:
        why = "; ".join(one.text for one in known.reasons)
        what = f"no map is proposed: {why}" if known.state == "waiting" else f"the proposal is {known.state}"
        return [Problem(path, f"{known.predictor}: {what}", "`muse-stream refresh show` has all that is known")]
    text = _misfit(store, known, wanted)
    return [Problem(path, text, "the role `calibrate` proposes anew at its next look")] if text else []


def _misfit(store: Store, known: RefreshRecord, wanted: Target | None) -> str:
    """Return what has changed since a map was fitted; empty where nothing has that matters to it."""
    if wanted is None:
        return f"the current generation has no map of {known.predictor} for it"
    changed = {
        f"{known.predictor} is another content than the map was fitted for": wanted.content != known.content,
        f"{known.predictor} keeps to another reference than the map was fitted for": wanted.promise != known.reference,
        f"{known.predictor}: the map that serves was changed since": wanted.present != known.present,
    }
    for text, differs in changed.items():
        if differs:
            return text
    if known.fitted is not None and not _says_what_it_does(store, known.fitted, wanted):
        return "the proposal does not say what its map does"
    if wanted.number == known.generation:
        return ""
    then = load_document(store.open(known.generation).path)
    told = refresh_incidents.answered_otherwise(then, wanted.loaded, known.tenant, known.predictor)
    return (
        f"generation {wanted.number} answers it otherwise than {known.generation} did: {'; '.join(told)}"
        if told
        else ""
    )


def _says_what_it_does(store: Store, held: Fitted, wanted: Target) -> bool:
    """Whether a map moves alert rates as far as its proposal says: who may write counts may not publish by that."""
    try:
        new = QuantileMap(FittedMap.from_json(held.map), wanted.served.reference)
    except ValueError:
        return False
    return abs(largest(moves(anchor(store, wanted), new, wanted.promised)) - held.largest_move) < SAME


def apply(
    store: Store,
    address: str,
    known: RefreshRecord,
    message: str = "",
    *,
    by_itself: bool = False,
    check: Callable[[], object] = lambda: None,
    failpoint: Callable[[str], None] = lambda _step: None,
) -> RefreshRecord:
    """Make a proposed map current, as the next generation, and return the record that says so.

    `check` is asked right before it becomes current; it raises Held where somebody else does this. Raises ConfigError
    for what speaks against it, Conflict where `current` moved meanwhile, Overtaken, StoreError.
    """
    number, loaded = current(store)
    wanted = target(loaded, number, known.tenant, known.predictor)
    against = misfits(store, known, wanted)
    if against or wanted is None or known.fitted is None:
        raise ConfigError(against)
    if by_itself and known.fitted.largest_move > loaded.document.refresh.step:
        text = f"{known.predictor}: the map moves an alert rate further than the step"
        raise ConfigError([Problem(f"tenants.{known.tenant}", text, "a person applies it, or rejects it")])
    if by_itself and (text := _nobody_would_serve()):
        raise ConfigError([Problem(f"tenants.{known.tenant}", text, "set MUSE_SIGN_KEY_FILE to a key that is trusted")])
    head = store.head()
    if head is None or head.number != number:
        raise Conflict(number, head, None)
    publishing = keep(store, known, known.but(state="publishing", sequence=head.sequence))
    try:
        failpoint("refresh-decided")
        note = _note(store, wanted, known, message, by_itself=by_itself)
        made = _publish(store, address, wanted, known, note, check, failpoint)
    except MuseError:
        with suppress(Overtaken):  # a look of the role has found that out by itself
            keep(store, publishing, publishing.but(state="proposed", sequence=0))
        raise
    failpoint("refresh-current")
    return _settled(store, publishing, made)


def _nobody_would_serve() -> str:
    """Return why workers that trust the keys that are trusted here would refuse what is published here."""
    known, own = trusted_keys(), signer()
    if known is None or (own is not None and own.key in known.names):
        return ""
    return "generations must be signed here, and no key signs" if own is None else "the key that signs is not trusted"


def _settled(store: Store, publishing: RefreshRecord, made: int) -> RefreshRecord:
    """Say in the record that its map is current, whatever a look of the role has made of the record meanwhile."""
    entry = next((one for one in store.list() if one.number == made), None)
    done = applied(publishing, made, datetime.now(UTC), entry)
    found: RefreshRecord | None = publishing
    for _ in range(ROUNDS):
        if found is not None and found.applied == done.applied:
            return found  # the role has said so
        version, past = (found.version, found.past) if found is not None else (0, publishing.past)
        done = applied(publishing.but(version=version, past=past), made, datetime.now(UTC), entry)
        with suppress(Overtaken):
            return keep(store, found, done)
        found = find(store, publishing.tenant, publishing.predictor)
    return done


def _note(store: Store, wanted: Target, known: RefreshRecord, message: str, *, by_itself: bool) -> Note:
    assert known.fitted is not None  # noqa: S101  # the caller has looked
    kept: dict[str, Any] = {"id": known.id, "map": digest(known.fitted.map), "by_itself": by_itself}
    left_out = ("past", "decision", "applied", "version", "format", "state", "sequence")
    kept |= {name: value for name, value in asdict(known).items() if name not in left_out}
    kept["fitted"] = {name: value for name, value in kept["fitted"].items() if name != "map"}
    if by_itself:
        kept["anchor"] = anchor(store, wanted).fitted.to_json()
    text = message or f"refresh {known.tenant}, {known.predictor}: map fitted on {known.fitted.events:,} events"
    return Note(text, evidence={"refreshed": kept})


def _publish(
    store: Store,
    address: str,
    wanted: Target,
    known: RefreshRecord,
    note: Note,
    check: Callable[[], object],
    failpoint: Callable[[str], None],
) -> int:
    from muse_stream.commands.fit import Fit, FittedTenant  # noqa: PLC0415 - it loads much, and is rarely needed

    assert known.fitted is not None  # noqa: S101  # the caller has looked
    fitted = FittedMap.from_json(known.fitted.map)
    one = FittedTenant(known.tenant, fitted, "own", fitted.samples, 0, None, None, 0, ())
    fit = Fit(
        *(known.predictor, known.content, wanted.reference, wanted.served.reference, {known.tenant: one}, None, {}),
        wanted.loaded,
    )
    with fit.proposed(address) as proposed:
        if proposed.before != wanted.number:
            raise Conflict(wanted.number, store.head(), None)
        others = [one for one in proposed.changes if one.harm or one.area != "tenant" or one.names != (known.tenant,)]
        if others:
            hint = "give the tenant a map of its own in the configuration, and publish it"
            raise ConfigError([Problem(f"tenants.{known.tenant}", f"more would change: {one}", hint) for one in others])
        number = proposed.publish(note, activate=False).number
        failpoint("refresh-stored")
        check()
        store.move_current(wanted.number, number, note)
    return number


def reject(store: Store, known: RefreshRecord, message: str = "") -> RefreshRecord:
    """Say no to a proposal: no map is fitted to the days up to today any more. Raises ConfigError, Overtaken."""
    if not known.open:
        hint = "`muse-stream refresh list` shows what waits for a decision"
        text = f"{known.predictor}: the proposal is {known.state} already"
        raise ConfigError([Problem(f"tenants.{known.tenant}", text, hint)])
    return keep(store, known, declined(known, "rejected", datetime.now(UTC), author(), message))
