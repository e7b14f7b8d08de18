"""What differs between two generations, by their files.

Made from two manifests alone, so it costs no reading of files. What the difference means in the words of the domain
(routes, maps, tenants) is for whoever opens both documents.
"""

from msgspec import Struct

from muse_stream.control.records import Manifest

SHOWN = 5


class Change(Struct, frozen=True):
    """Names of files, sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = [
            f"{verb}: {_some(names)}"
            for verb, names in (("changed", self.changed), ("added", self.added), ("removed", self.removed))
            if names
        ]
        return "; ".join(said) or "the same files"


def change(before: Manifest, after: Manifest) -> Change:
    """Return what became of the files of `before` in `after`."""
    old, new = before.files, after.files
    return Change(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
