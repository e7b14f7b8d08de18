"""What becomes of a proposal: applied, declined, taken back, or left by somebody who was killed over it."""

from datetime import datetime, timedelta

from muse_stream.commands.refresh_record import Applied, RefreshRecord, digest, text_of
from muse_stream.commands.refresh_target import Target
from muse_stream.control import Entry, Head, Store, author


def reconcile(store: Store, known: RefreshRecord, wanted: Target | None, head: Head, now: datetime) -> RefreshRecord:
    """Return what has become of a record, whoever has done it; nothing is stored. Raises StoreError.

    `wanted` is of the generation of `head`, and `head` was read after the record: a map that became current after
    `wanted` was read would look as if it had been taken back.
    """
    known = _taken_back(store, known, wanted, head, now)
    if not known.open:
        return known
    if wanted is None:
        return known.decided("withdrawn", text_of(now), author(), "the tenant has no such map any more")
    if known.fitted is not None and wanted.present == digest(known.fitted.map):
        made = _made(store, known)
        return applied(known, made.number if made else wanted.number, now, made)
    if known.state == "publishing":
        if head.sequence == known.sequence or _made(store, known) is None:
            return known.but(state="proposed", sequence=0)  # it never became current: who did it was stopped before
        return declined(known, "withdrawn", now, author(), "it was taken back as soon as it was current").but(
            person=True
        )
    return known


def _taken_back(store: Store, known: RefreshRecord, wanted: Target | None, head: Head, now: datetime) -> RefreshRecord:
    """Return a record with what a rollback of the refresh that was applied last means."""
    if known.applied is None or (wanted is not None and wanted.present == known.applied.map):
        return known
    if known.applied.generation in (head.number, *store.former()):
        return known.but(applied=None) if wanted is not None and not known.open else known
    text = f"generation {known.applied.generation} was rolled back"
    who = head.author or author()
    return declined(known, "withdrawn", now, who, text).but(person=True, applied=None)


def declined(known: RefreshRecord, state: str, now: datetime, by: str, text: str) -> RefreshRecord:
    """Return a record that a person has decided against: a map may be fitted to later days only."""
    tomorrow = (now.date() + timedelta(days=1)).isoformat()
    return known.decided(state, text_of(now), by, text).but(not_before=tomorrow)  # type: ignore[arg-type]


def _made(store: Store, known: RefreshRecord) -> Entry | None:
    """Return the last generation that was made of a proposal, current or not."""
    for entry in reversed(store.list()):
        told = (entry.evidence or {}).get("refreshed")
        if isinstance(told, dict) and (told.get("tenant"), told.get("predictor"), told.get("id")) == (
            *(known.tenant, known.predictor, known.id),
        ):
            return entry
    return None


def applied(known: RefreshRecord, number: int, now: datetime, made: Entry | None = None) -> RefreshRecord:
    """Return a record whose map is current, as generation `number`; `made`: what the store says of it."""
    told = (made.evidence or {}).get("refreshed", {}) if made is not None else {}
    assert known.fitted is not None  # noqa: S101  # the caller has looked
    by_role = bool(told.get("by_itself"))
    now_serves = Applied(map=digest(known.fitted.map), generation=number)
    who, text = (made.author, made.message) if made is not None else (author(), "")
    done = known.decided("applied", text_of(now), who, text, number)
    return done.but(
        applied=now_serves, person=known.person and by_role, not_before="" if not by_role else known.not_before
    )
