"""What the columns of somebody's own transactions mean: a small YAML file.

Gives a `FileMapping`, or a ConfigError with every mistake, its line and what would be right. A column is a feature only
because the file says so; the label never is. `mappings/handbook.yaml` shows every key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_stream.config import Source, YamlKey, parse
from muse_stream.errors import ConfigError, Problem

HANDBOOK = Path(__file__).parent / "mappings" / "handbook.yaml"
MOST_ENTITIES = 2
KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(
        {"id", "time", "label", "features", "channel", "tenants", "thresholds"}
        | {"entities", "key", "days", "models", "rate", "drifts"}
    ),
    "tenants": frozenset({"by", "names", "column"}),
    "days": frozenset({"old", "past", "new", "stream"}),
    "models": frozenset({"trees", "leaves", "keep"}),
    "models.keep": frozenset({"old", "new"}),
}

Days = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Training:
    """How the two models are made."""

    old: Days
    past: Days
    """Maps of the old model are fitted to these, which it was not trained on."""
    new: Days
    stream: int
    """First day that is streamed."""
    trees: int
    leaves: int
    keep_old: float
    keep_new: float


@dataclass(frozen=True, slots=True)
class FileMapping:
    """Which column is what."""

    id: str
    time: str
    label: str
    features: tuple[str, ...]
    channel: str | None
    tenant_column: str
    names: tuple[str, ...]
    """Tenants that the column is hashed into; empty: its values are the tenants."""
    thresholds: Mapping[str, float]
    entities: tuple[str, ...]
    key: str
    training: Training
    rate: float | None
    drifts: bool


def read_mapping(path: Path) -> FileMapping:
    """Read a mapping file; raises ConfigError with all problems."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem("(document)", f"cannot be read: {error.strerror}", file=str(path))]) from error
    return _Reader(parse(path, data)).mapping()


class _Reader:
    """Takes values out of the tree, and collects what is wrong with them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.problems: list[Problem] = list(source.problems)

    def mapping(self) -> FileMapping:
        for place, known in KEYS.items():
            self._known(tuple(place.split(".")) if place else (), known)
        label, features = self.text("label"), self.texts("features")
        if label in features:
            self._refuse(("features",), f"the label {label} cannot be a feature")
        if not features:
            self._refuse(("features",), "at least one column is needed")
        entities = self.texts("entities")
        if len(entities) > MOST_ENTITIES:
            self._refuse(("entities",), f"at most {MOST_ENTITIES} columns, not {len(entities)}")
        names = self.texts("tenants", "names")
        by = self.text("tenants", "by") if names else self.text("tenants", "column")
        found = FileMapping(
            id=self.text("id"),
            time=self.text("time"),
            label=label,
            features=features,
            channel=self.text("channel", default="") or None,
            tenant_column=by,
            names=names,
            thresholds=self._thresholds(),
            entities=entities,
            key=self.text("key", default="") or self.text("id"),
            training=self._training(),
            rate=self.number("rate", default=None, low=1.0),
            drifts=self._get(("drifts",)) is True,
        )
        if self.problems:
            unique = {str(problem): problem for problem in self.problems}
            raise ConfigError(list(unique.values()))
        return found

    def text(self, *path: YamlKey, default: str | None = None) -> str:
        """Return the name of a column."""
        value = self._get(path)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            self._refuse(path, "the name of a column is expected" + ("" if value is None else f", not {value!r}"))
            return ""
        return value

    def texts(self, *path: YamlKey) -> tuple[str, ...]:
        """Return a list of names; empty when there is none."""
        value = self._get(path)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self._refuse(path, "a list of names is expected")
            return ()
        if len(set(value)) < len(value):
            self._refuse(path, "a name is there twice")
        return tuple(value)

    def number(self, *path: YamlKey, default: float | None, low: float, high: float = float("inf")) -> float | None:
        """Return a number within its bounds."""
        value = self._get(path)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self._refuse(
                path, f"a number of at least {low:g}{'' if high == float('inf') else f' and at most {high:g}'}"
            )
            return default
        return float(value)

    def _thresholds(self) -> dict[str, float]:
        given = self._get(("thresholds",)) or {}
        if not isinstance(given, dict):
            self._refuse(("thresholds",), "a threshold for each tenant is expected: {name: 0.8}")
            return {}
        return {str(name): self.number("thresholds", name, default=0.8, low=0.0, high=1.0) or 0.8 for name in given}

    def _training(self) -> Training:
        stream = self.number("days", "stream", default=30, low=1) or 30
        old, past, new = (self._days(name, int(stream)) for name in ("old", "past", "new"))
        if past[0] <= old[1] and old[0] <= past[1]:
            self._refuse(("days", "past"), "must not overlap `old`: maps are fitted to events the model has not seen")
        return Training(
            old,
            past,
            new,
            int(stream),
            int(self.number("models", "trees", default=100, low=1) or 100),
            int(self.number("models", "leaves", default=31, low=2) or 31),
            self.number("models", "keep", "old", default=0.1, low=1e-6, high=1.0) or 0.1,
            self.number("models", "keep", "new", default=0.03, low=1e-6, high=1.0) or 0.03,
        )

    def _days(self, name: str, stream: int) -> Days:
        value = self._get(("days", name))
        two = isinstance(value, list) and [type(one) for one in value] == [int, int]
        if not two or not 0 <= value[0] <= value[1] < stream:
            self._refuse(("days", name), f"two days are expected, first and last, before day {stream} of the stream")
            return (-1, -1)  # overlaps nothing: one mistake is told once
        return (value[0], value[1])

    def _get(self, path: tuple[YamlKey, ...]) -> Any:
        node = self._source.tree
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        return node

    def _known(self, path: tuple[YamlKey, ...], known: frozenset[str]) -> None:
        node = self._get(path)
        if node is None and path:
            return
        if not isinstance(node, dict):
            self._refuse(path, "a mapping is expected")
            return
        for name in node:
            if name not in known:
                self._refuse((*path, str(name)), "is not a key of a mapping", f"one of {', '.join(sorted(known))}")

    def _refuse(
        self, path: tuple[YamlKey, ...], message: str, hint: str = "mappings/handbook.yaml shows every key"
    ) -> None:
        self.problems.append(self._source.problem(path, message, hint))
