"""Promotion as a change of routes: from a YAML text, a candidate and a condition to the text in which it is live.

`promote` changes the rules that answer where the condition holds: the candidate becomes live, what was live becomes a
shadow in the candidate's place. A rule that answers more than the condition is split: a narrower rule is put before
it. Everything else keeps its bytes: comments, order, layout. `replacing` gives the way back: promote the old predictor
where the candidate is live now, and a rule that was split off is removed again.

The rules are worked out on plain data first; the text is then changed to say the same, and parsed again to see that it
does.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from muse_stream.config.expected import nearest
from muse_stream.config.source import parse
from muse_stream.config.yaml_text import (
    MERGE,
    Edit,
    Item,
    column,
    comments,
    edited,
    flow,
    line_end,
    line_start,
    newline,
    outline,
)
from muse_stream.errors import ConfigError, Problem

Condition = Mapping[str, Sequence[str]]
"""Intent attribute to the values that it may have; all must hold."""
Rule = dict[str, Any]
"""A route as plain data."""

OTHER = "\0"
"""Stands for every value that nothing names, and for none."""


class Replaced(Struct, frozen=True):
    """One rule in which the candidate became live."""

    position: int
    """Of the rule, in the new text."""
    when: Mapping[str, tuple[str, ...]]
    live: Mapping[str, float]
    """What was live before, with its share of the events."""
    shadowed: bool
    """Whether the candidate scored these events before, as a shadow or with a share."""


class Promotion(Struct, frozen=True):
    """The new text, and what changed in it; nothing where the candidate is live already."""

    text: str
    replaced: tuple[Replaced, ...]


def promote(
    text: str,
    candidate: str,
    when: Condition | None = None,
    *,
    replacing: str | None = None,
    share: float = 1.0,
    name: str = "(document)",
) -> Promotion:
    """Make `candidate` live where `when` holds; without it, wherever it is a shadow or has a share of the live events.

    `text` is a sound document. With `replacing`, only rules in which that predictor is live are changed. With a `share`
    below 1 the candidate answers that part of the events, and both predictors shadow each other.
    Raises ConfigError for a predictor, an attribute or a tenant that is not there, and for rules that cannot be
    changed.
    """
    tree = parse(Path(name), text.encode()).tree
    _check(tree, candidate, when, name)
    rules: list[Rule] = tree["routes"]
    steps = list(_steps(tree, candidate, when, replacing))
    if share < 1:
        steps = [replace(step, rule={**step.rule, **_divided(step, rules, candidate, share, name)}) for step in steps]
        steps = [replace(step, kind="change") if step.kind == "remove" else step for step in steps]
    if not steps:
        return Promotion(text, ())
    changed, steps = _Text(text, rules, name).changed(steps)
    after, replaced = _applied(rules, steps, candidate)
    found = parse(Path(name), changed.encode()).tree
    if [_meaning(rule) for rule in found["routes"]] != [_meaning(rule) for rule in after] or _others(found) != _others(
        tree
    ):
        raise _refused(name, "routes", "this form of the rules cannot be changed", "change them by hand, and publish")
    return Promotion(changed, tuple(replaced))


def live_shares(live: Any) -> dict[str, float]:
    """Return what `live` of a rule says, as plain data: predictor to share."""
    return {live: 1.0} if isinstance(live, str) else dict(live)


def conditions(rule: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the condition of a rule, as plain data."""
    given = (rule.get("when") or {}).items()
    return {name: tuple(values) if isinstance(values, list) else (values,) for name, values in given}


class _Step(Struct, frozen=True):
    """What happens to one rule: it is changed, or a narrower one is put before it, or it is removed."""

    position: int
    kind: str
    rule: Rule
    live: Mapping[str, float]


def _check(tree: Any, candidate: str, when: Condition | None, name: str) -> None:
    def known(path: str, noun: str, given: str, names: Any) -> None:
        if given not in names:
            raise _refused(name, path, f"there is no {noun} '{given}'", nearest(given, list(names)))

    known("predictors", "predictor", candidate, tree["predictors"])
    attributes = {"tenant"} | {str(one) for event in tree["events"].values() for one in event.get("intent") or {}}
    for attribute, values in (when or {}).items():
        known("routes", "intent attribute", attribute, attributes)
        for value in values if attribute == "tenant" else ():
            known("tenants", "tenant", value, tree["tenants"])


def _refused(name: str, path: str, message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(path, message, hint, None, name)])


def _steps(tree: Any, candidate: str, when: Condition | None, replacing: str | None) -> Iterator[_Step]:
    rules: list[Rule] = tree["routes"]
    steps: dict[int, _Step] = {}
    rest = _Rest(tree, when or {})
    for position, rule in enumerate(rules):
        own, lives = conditions(rule), live_shares(rule["live"])
        reached = rest.take(own)
        wanted = candidate in lives or candidate in _names(rule) if when is None else reached
        if not wanted or set(lives) == {candidate} or (replacing is not None and replacing not in lives):
            continue
        new = {**rule, **_roles(rule, candidate)}
        narrow = {
            name: values for name, values in (when or {}).items() if not set(own.get(name, (OTHER,))) <= {*values}
        }
        if narrow:
            common = {**own, **{name: _common(own.get(name), values) for name, values in narrow.items()}}
            new["when"] = {name: values[0] if len(values) == 1 else [*values] for name, values in common.items()}
            steps[position] = _Step(position, "split", new, lives)
        elif position + 1 < len(rules) and position + 1 not in steps and _redundant(new, rules[position + 1]):
            steps[position] = _Step(position, "remove", new, lives)
        else:
            steps[position] = _Step(position, "change", new, lives)
    yield from steps.values()


def _common(own: Sequence[str] | None, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values)) if own is None else tuple(value for value in own if value in values)


def _names(rule: Rule) -> list[str]:
    return [one if isinstance(one, str) else one["predictor"] for one in rule.get("shadow") or []]


def _roles(rule: Rule, candidate: str) -> Rule:
    """Return `live` and `shadow` once the candidate is live: what was live takes its place among the shadows."""
    shadows, names = list(rule.get("shadow") or []), _names(rule)
    missing = [one for one in live_shares(rule["live"]) if one != candidate and one not in names]
    if candidate in names:
        place = names.index(candidate)
        taken = shadows[place]
        old = [{**taken, "predictor": missing[0]} if isinstance(taken, dict) else missing[0]] if missing else []
        shadows[place : place + 1] = old
        missing = missing[1:]
    return {"live": candidate, "shadow": [*missing, *shadows]}


def _divided(step: _Step, rules: list[Rule], candidate: str, share: float, name: str) -> Rule:
    """Return `live` and `shadow` while the candidate answers a share of the events."""
    olds = [one for one in step.live if one != candidate]
    path = f"routes[{step.position}].live"
    if len(olds) > 1:
        message = f"{' and '.join(olds)} share these events: {candidate} cannot take them over step by step"
        raise _refused(name, path, message, "leave one of them first")
    if (answers := step.live.get(candidate, 0.0)) >= share:
        message = f"{candidate} answers {100 * answers:g} % of these events already"
        raise _refused(name, path, message, f"begin with a step above {100 * answers:g} %")
    (old,) = olds
    rule = rules[step.position]
    shadows, names = list(rule.get("shadow") or []), _names(rule)
    if candidate not in names:
        shadows, names = [candidate, *shadows], [candidate, *names]
    if old not in names:  # in the place that is its own when the candidate answers everything
        place = names.index(candidate)
        taken = shadows[place]
        shadows.insert(place + 1, {**taken, "predictor": old} if isinstance(taken, dict) else old)
    # the old one first: an event that met the candidate meets it again when its share has grown
    return {"live": {old: round(1.0 - share, 12), candidate: share}, "shadow": shadows}


def _redundant(rule: Rule, following: Rule) -> bool:
    """Say whether the rule after it gives the same answers to every intent of a rule."""
    narrow, wide = conditions(rule), conditions(following)
    inside = all(name in narrow and set(narrow[name]) <= set(values) for name, values in wide.items())
    return inside and _roles_of(rule) == _roles_of(following)


def _roles_of(rule: Rule) -> Any:
    shadows = [{"predictor": one} if isinstance(one, str) else one for one in rule.get("shadow") or []]
    return live_shares(rule["live"]), [(one["predictor"], one.get("sample", 1.0)) for one in shadows]


def _meaning(rule: Rule) -> Any:
    return conditions(rule), _roles_of(rule)


def _others(tree: Any) -> Any:
    return {name: value for name, value in tree.items() if name != "routes"}


class _Rest:
    """The intents of a condition that no rule has answered so far, as boxes of values."""

    def __init__(self, tree: Any, when: Condition) -> None:
        rules = [conditions(rule) for rule in tree["routes"]]
        attributes = {name for rule in [*rules, when] for name in rule}
        whole = {
            name: frozenset({OTHER, *(value for rule in [*rules, when] for value in rule.get(name, ()))})
            for name in attributes
        }
        if "tenant" in whole:
            whole["tenant"] = frozenset(tree["tenants"])
        self._boxes = [{name: frozenset(when[name]) if name in when else values for name, values in whole.items()}]

    def take(self, rule: Condition) -> bool:
        """Take the intents of a rule away; say whether there were any."""
        left: list[dict[str, frozenset[str]]] = []
        hit = False
        for box in self._boxes:
            inner = dict(box)
            if not all(inner[name] & set(values) for name, values in rule.items()):
                left.append(box)
                continue
            hit = True
            for name, values in rule.items():
                outside = inner[name] - set(values)
                if outside:
                    left.append({**inner, name: outside})
                inner[name] &= set(values)
        self._boxes = left
        return hit


def _applied(rules: list[Rule], steps: list[_Step], candidate: str) -> tuple[list[Rule], list[Replaced]]:
    by_position = {step.position: step for step in steps}
    after: list[Rule] = []
    replaced: list[Replaced] = []
    for position, rule in enumerate(rules):
        step = by_position.get(position)
        if step is None:
            after.append(rule)
            continue
        shadowed = candidate in step.live or candidate in _names(rule)
        replaced.append(Replaced(len(after), conditions(step.rule), step.live, shadowed))
        if step.kind != "remove":
            after.append(step.rule)
        if step.kind == "split":
            after.append(rule)
    return after, replaced


class _Text:
    """Makes a text say what the steps say."""

    def __init__(self, text: str, rules: list[Rule], name: str) -> None:
        self._text, self._rules, self._name = text, rules, name
        self._root = outline(text)
        found = self._root.value("routes")
        if found is None or found.kind != "list":
            raise _refused(name, "routes", "the rules are not written as a list here", "write them out")
        self._list = found
        self._edits: list[Edit] = []
        self._written: list[tuple[Item, Any]] = []
        """What is edited, or around what is edited, and what it said before."""

    def changed(self, steps: Sequence[_Step]) -> tuple[str, list[_Step]]:
        """Return the new text and what was done: a rule that something hangs on is changed, not removed."""
        done: list[_Step] = []
        for step in steps:
            item, rule = self._list.items[step.position], self._rules[step.position]
            if step.kind == "split":
                self._insert(step)
            elif step.kind == "change" or not self._remove(step):
                self._rewrite(item, rule, step.rule)
                step = replace(step, kind="change")  # noqa: PLW2901
            done.append(step)
        self._keep_aliases()
        return edited(self._text, self._edits), done

    def _edit(self, start: int, end: int, text: str) -> None:
        self._edits.append(Edit(start, end, text))

    def _edit_scalar(self, item: Item, text: str) -> None:
        """Put another name there; a comment behind it stays in its column where there is room."""
        rest = self._text[item.end : line_end(self._text, item.end)]
        gap = len(rest) - len(rest.lstrip(" "))
        wider = len(text) - (item.end - item.start)
        if rest.startswith("#", gap) and gap > 1:
            self._edit(item.start, item.end + gap, text + " " * max(gap - wider, 1))
        else:
            self._edit(item.start, item.end, text)

    def _insert(self, step: _Step) -> None:
        rule = {name: step.rule[name] for name in ("when", "live", "shadow") if step.rule[name]}
        if self._list.flow:
            start = self._list.items[step.position].start
            self._edit(start, start, flow(rule) + ", ")
            return
        margin = column(self._text, self._list.start)
        parts = [
            f"{' ' * margin}{'  ' if number else '- '}{name}: {flow(rule[name])}" for number, name in enumerate(rule)
        ]
        start = self._above(step.position)
        self._edit(start, start, "".join(part + newline(self._text) for part in parts))

    def _dash(self, position: int) -> int:
        """Return where the line of a rule's dash begins."""
        start = line_start(self._text, self._list.items[position].start)
        margin = column(self._text, self._list.start)
        while not (self._text[start : start + margin].isspace() or margin == 0) or not self._text.startswith(
            "-", start + margin
        ):
            start = line_start(self._text, start - 1)
        return start

    def _above(self, position: int) -> int:
        """Return where the comments right above a rule begin: they are about this rule."""
        start = self._dash(position)
        floor = self._list.start if position == 0 else self._list.items[position - 1].end
        while True:
            above = line_start(self._text, start - 1) if start > 0 else start
            if above >= start or above <= floor or not self._text[above:start].lstrip(" ").startswith("#"):
                return start
            start = above

    def _remove(self, step: _Step) -> bool:
        """Remove a rule that the next one makes needless; False when a comment would go with it."""
        if self._list.flow:
            start, end = (self._list.items[step.position + more].start for more in (0, 1))
        else:
            start, end = self._dash(step.position), self._above(step.position + 1)
        gone = self._list.items[step.position]
        inside = Item("list", start, end, items=[gone])
        if comments(self._text, inside) or any(one.anchor and one.kind != "alias" for one in gone.below()):
            return False
        self._edit(start, end, "")
        return True

    def _rewrite(self, item: Item, old: Rule, new: Rule) -> None:
        self._written.append((item, old))
        if item.kind == "alias":
            self._edit(item.start, item.end, flow({name: new[name] for name in new if new[name]}))
            return
        live, shadow = item.value("live"), item.value("shadow")
        if live is None:
            self._put_first(item, f"live: {flow(new['live'])}")
        else:
            self._written.append((live, old["live"]))
            self._replace(item, "live", new["live"])
        was, now = list(old.get("shadow") or []), new["shadow"]
        if now == was:
            return
        if shadow is not None:
            self._written.append((shadow, was))
            self._shadows(item, shadow, was, now)
        elif live is None:
            self._put_first(item, f"shadow: {flow(now)}")
        elif item.flow:
            self._edit(live.end, live.end, f", shadow: {flow(now)}")
        else:
            end = line_end(self._text, live.end)
            key = item.key("live") or item
            margin = " " * column(self._text, key.start)
            self._edit(end, end, f"{newline(self._text)}{margin}shadow: {flow(now)}")

    def _put_first(self, item: Item, text: str) -> None:
        start = item.keys[0].start
        self._edit(start, start, text + (", " if item.flow else newline(self._text) + " " * column(self._text, start)))

    def _replace(self, item: Item, name: str, new: Any) -> None:
        """Put a new value under a key; comments inside of the old one go above it."""
        key, value = item.key(name), item.value(name)
        assert key is not None and value is not None  # noqa: S101  # the caller has looked
        if line_start(self._text, key.start) == line_start(self._text, value.start) and value.kind == "scalar":
            self._edit_scalar(value, flow(new))
            return
        start, text = key.end, f": {flow(new)}"
        said = comments(self._text, Item("list", start, value.end, items=[value]))
        self._edit(start, value.end, text)
        if said:
            margin = newline(self._text) + " " * column(self._text, key.start)
            self._edit(key.start, key.start, "".join(comment + margin for comment in said))

    def _shadows(self, item: Item, shadow: Item, was: list[Any], now: list[Any]) -> None:
        different = [place for place, (a, b) in enumerate(zip(was, now, strict=False)) if a != b]
        if shadow.kind == "list" and len(was) == len(now) and len(different) == 1:
            (place,) = different
            entry, new = shadow.items[place], now[place]
            self._written.append((entry, was[place]))
            named = entry.value("predictor") if entry.kind == "mapping" else None
            if named is not None:
                self._written.append((named, was[place]["predictor"]))
                self._edit_scalar(named, flow(new["predictor"]))
            else:
                self._edit_scalar(entry, flow(new))
        elif shadow.kind == "list" and was and now[1:] == was:
            start = shadow.items[0].start if shadow.flow else shadow.start
            more = ", " if shadow.flow else newline(self._text) + " " * column(self._text, start)
            self._edit(start, start, ("" if shadow.flow else "- ") + flow(now[0]) + more)
        else:
            self._replace(item, "shadow", now)

    def _keep_aliases(self) -> None:
        """Write out what stands for something that is changed here, so that it goes on to mean what it meant."""
        before = {id(item): value for item, value in self._written if item.kind != "alias" and item.anchor}
        if not before:
            return
        anchors: dict[str, Item] = {}
        merged = {
            id(item.items[n]) for item in self._root.below() for n, key in enumerate(item.keys) if key.text == MERGE
        }
        for item in list(self._root.below()):
            if item.kind != "alias":
                anchors |= {item.anchor: item} if item.anchor else {}
                continue
            value = before.get(id(anchors[item.anchor or ""]), OTHER)
            if value == OTHER or any(edit.start <= item.start < edit.end for edit in self._edits):
                continue
            if id(item) in merged:
                message = f"a rule that changes is merged into another one (<<: *{item.anchor})"
                raise _refused(self._name, "routes", message, "write the rules out")
            self._edit(item.start, item.end, flow(value))
