"""What a configuration would take back: it descends from a generation that is older than the current one.

    changes from what is current to the configuration, and to each former generation -> those that lead to the same

A former generation is opened only where its document and the configuration can agree against the current one: each
entry of a section, and each rule, is compared as plain data first. With 300 predictors that takes 0.03 s a generation,
and to open one takes ten times that.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.difference import Change, changes, grouped, undone
from muse_stream.config import Loaded, parse
from muse_stream.control import Manifest, Store
from muse_stream.errors import MuseError

LOOKED_BACK = 40
"""How many former generations of other content are compared: a nightly refresh makes one a day."""
UNPINNED = (".avsc", "ids.json")
"""Files whose content the document does not name."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What a former generation was followed by, and what would be taken back."""

    generation: int
    """The first one that has it; the file is older than this generation."""
    changes: tuple[Change, ...]


def taken_back(store: Store, before: int, current: Loaded, new: Loaded, made: Sequence[Change]) -> Iterator[Undone]:
    """Yield which of the changes `made` to generation `before` take back what was brought since a former one.

    Raises StoreError where the store does not answer; a former generation that is damaged tells nothing.
    """
    now = _manifest(store, before)
    known, left, later, looked = {now.sha256 if now else ""}, list(made), before, 0
    has, wants = _parts(current.source.tree), _parts(new.source.tree)
    for former in store.former():
        if not left or looked == LOOKED_BACK:
            return
        manifest = _manifest(store, former)
        if manifest is None:
            continue
        if manifest.sha256 not in known:
            known.add(manifest.sha256)
            looked += 1
            if _agrees(store, manifest, now, has, wants):
                then = generation_or_none(store, former)
                if then is None:
                    continue
                back = undone(left, changes(current, then))
                if back:
                    yield Undone(later, grouped(back))
                    left = [change for change in left if change not in back]
        later = former


def _manifest(store: Store, number: int) -> Manifest | None:
    try:
        return store.manifest(number)
    except MuseError:
        store.head()  # raises where the store is away
        return None


def _agrees(store: Store, former: Manifest, now: Manifest | None, has: set[str], wants: set[str]) -> bool:
    """Whether the configuration may be as a former generation was, where the current one is not."""
    others = former.files.items() - (now.files if now else {}).items()
    if any(name.endswith(UNPINNED) for name, _ in others):
        return True
    try:
        had = _parts(parse(Path(former.document), store.document(former.number)).tree)
    except MuseError:
        return True  # whoever opens it finds out
    return bool((had - has) & wants or (has - had) - wants)


def _parts(tree: Any) -> set[str]:
    """Return each entry of each section of a document, as text."""
    parts: set[str] = set()
    for section, content in tree.items():
        if isinstance(content, dict):
            parts |= {_text(section, name, one) for name, one in content.items()}
        elif isinstance(content, list):
            parts |= {_text(section, one) for one in content}
        else:
            parts.add(_text(section, content))
    return parts


def _text(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, default=str)
