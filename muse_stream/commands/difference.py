"""What differs between two configurations, in the words of the domain, and which of it can hurt a tenant.

    tenant acme, channel web: live card-v1 -> card-v2; map refitted on 184,220 events

Takes two loaded documents, or one that follows upon nothing, and gives `Change`s in the order in which people ask:
tenants, who answers whom (routes), predictors, maps, references, models, events, limits. Routes are compared by what
they answer and not by how they are written: moving or splitting a rule without an effect is no change. Pure, but for
the files of maps and schemas, which it reads.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Literal

from muse_stream.calibration import FittedMap, Recalibration
from muse_stream.commands.predictor_words import inside
from muse_stream.config import (
    TOPIC_KINDS,
    Document,
    Loaded,
    MapRefs,
    PredictorGraph,
    RouteSpec,
    content_hash,
    predictor_hash,
    referenced_files,
)
from muse_stream.scoring import promised_rates

Area = Literal[
    "namespace",
    "tenant",
    "predictor",
    "reference",
    "recalibration",
    "model",
    "category table",
    "event format",
    "file",
    "limit",
    "drift",
    "generation",
]
SHOWN = 5
"""Of a longer list of tenants so many are named, and how many there are."""
MOST_BOXES = 2_000
"""Distinct kinds of intents of a tenant; beyond that its routes are only said to differ."""
OTHER = "\0"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a difference."""

    area: Area
    names: tuple[str, ...]
    """Of the tenants, predictors, ... that it is about."""
    text: str
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of changed routes: the other intent attributes."""
    harm: str = ""
    """How it can hurt a tenant; empty where it cannot."""
    leads_to: tuple[str, ...] = ()
    """What is there afterwards, where the text does not tell it exactly, or tells more; `undone` compares it."""

    def facts(self) -> dict[str, Any]:
        """Return it as plain data, for machines."""
        return {name: value for name, value in asdict(self).items() if name != "leads_to"}

    def __str__(self) -> str:
        shown = self.names if len(self.names) <= SHOWN + 1 else (*self.names[:SHOWN], f"... ({len(self.names)})")
        noun = self.area if len(self.names) < 2 else f"{self.area}s"
        place = "".join(f", {name} {' or '.join(values)}" for name, values in self.where.items())
        return f"{noun} {', '.join(shown)}{place}: {self.text}" if shown else f"{noun}: {self.text}"


def differences(old: Loaded | None, new: Loaded) -> tuple[Change, ...]:
    """Return every change from `old` (None: nothing was there) to `new`; none where they mean the same."""
    return grouped(changes(old, new))


def answers_alike(one: Loaded, other: Loaded, predictors: Iterable[str], tenants: Iterable[str]) -> bool:
    """Say whether predictors give these tenants the same scores under both: content, maps and promise are the same."""
    sides = _Side.of(one), _Side.of(other)
    return all(name in side.graphs for name in predictors for side in sides) and all(
        predictor_hash(one.document, name) == predictor_hash(other.document, name)
        and len({(side.promise(name) or ("", ""))[1] for side in sides}) == 1
        and len({side.content_for(name, tenant) for side in sides}) == 1
        for name in predictors
        for tenant in tenants
    )


def changes(old: Loaded | None, new: Loaded) -> Iterator[Change]:
    """Yield every change, each for one tenant."""
    return _Difference(old, new).all()


def undone(made: Sequence[Change], back: Iterable[Change]) -> list[Change]:
    """Return those of the changes `made` that lead where changes `back`, to a former configuration, lead as well.

    Both begin at one configuration. Of routes it is enough that some intents are the same, and who is live.
    """
    led: dict[tuple[object, ...], list[Mapping[str, tuple[str, ...]]]] = defaultdict(list)
    for change in back:
        for mark in change.leads_to or (change.text,):
            led[change.area, change.names, mark].append(change.where)
    return [
        change
        for change in made
        if any(
            _meet(change.where, where)
            for mark in change.leads_to or (change.text,)
            for where in led.get((change.area, change.names, mark), ())
        )
    ]


def _meet(one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]) -> bool:
    return all(set(one[name]) & set(other[name]) for name in one.keys() & other.keys())


def grouped(found: Iterable[Change]) -> tuple[Change, ...]:
    """Join what is said of several tenants in the same words."""
    groups: dict[Any, list[Change]] = defaultdict(list)
    for change in found:
        groups[change.area == "tenant" or change.names, change.text, *change.where.items(), change.harm].append(change)
    return tuple(
        Change(some[0].area, tuple(dict.fromkeys(name for one in some for name in one.names)), some[0].text,
               some[0].where, some[0].harm)
        for some in groups.values()
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two configurations."""

    document: Document
    maps: Mapping[str, FittedMap]
    contents: Mapping[str, str]
    """Hash of what each map is."""
    curves: Mapping[str, Recalibration]
    graphs: Mapping[str, PredictorGraph]
    refs: Mapping[str, Sequence[MapRefs]]
    """The quantile maps on the way to each predictor's score, in order."""

    @classmethod
    def of(cls, loaded: Loaded) -> "_Side":
        maps, graphs = loaded.fitted.maps, loaded.document.graphs()
        refs = {name: [*graph.map_nodes().values()] for name, graph in graphs.items()}
        contents, curves = {name: _content(one) for name, one in maps.items()}, loaded.fitted.recalibrations
        return cls(loaded.document, maps, contents, curves, graphs, refs)

    def promise(self, predictor: str) -> tuple[str, str] | None:
        """Return the reference that a predictor's score keeps to: its name, and a hash of what it promises."""
        name = self.graphs[predictor].promise()
        return None if name is None else (name, content_hash(self.document.references[name]))

    def map_of(self, predictor: str, tenant: str) -> str | None:
        """Return the name of the last map on the way to a predictor's score."""
        names = [name for refs in self.refs[predictor] if (name := refs.map_of(tenant)) is not None]
        return names[-1] if names else None

    def content_for(self, predictor: str, tenant: str) -> str:
        """Return the content of the map that a tenant's scores go through; empty where there is none."""
        found = self.map_of(predictor, tenant)
        return "" if found is None else self.contents[found]

    def own_maps(self) -> dict[str, set[str]]:
        """Return content of a map -> the tenants that have it as their own; without those that are for everybody."""
        own: dict[str, set[str]] = defaultdict(set)
        pooled = set()
        for refs in (one for some in self.refs.values() for one in some):
            pooled |= {self.contents[refs.default]} if refs.default else set()
            for tenant, name in refs.tenants.items():
                own[self.contents[name]].add(tenant)
        return {content: tenants for content, tenants in own.items() if content not in pooled}


def _content(fitted: FittedMap | Recalibration) -> str:
    if not isinstance(fitted, FittedMap):
        return content_hash({**fitted.to_json(), "fitted_on": ()})
    digest = sha256(f"{fitted.fitted_for} {fitted.samples} ".encode())
    digest.update(fitted.levels.tobytes())
    digest.update(fitted.values.tobytes())
    return digest.hexdigest()


class _Difference:
    def __init__(self, old: Loaded | None, new: Loaded) -> None:
        self._loaded = (old, new)
        self._old, self._new = None if old is None else _Side.of(old), _Side.of(new)
        self._said: set[tuple[str, str]] = set()
        """(tenant, predictor) whose new map was told of with its route."""

    def all(self) -> Iterator[Change]:
        new, old = self._new, self._old
        if old is not None:
            was, now = old.document.namespace, new.document.namespace
            if was != now:
                yield Change("namespace", (), f"{was} -> {now}: other consumer groups; workers that run refuse it")
            yield from self._tenants(old, new)
            yield from self._routes(old, new)
            yield from self._predictors(old, new)
            yield from self._maps(old, new)
        yield from self._astray(old, new)
        if old is not None:
            yield from self._references(old, new)
            yield from self._models(old, new)
            yield from self._recalibrations(old, new)
            yield from _entries("category table", old.document.categories, new.document.categories)
            yield from _entries("event format", old.document.events, new.document.events)
            yield from _refresh(old.document, new.document)
            yield from self._files()
            yield from _numbers("limit", old.document.limits, new.document.limits)
            yield from _drift(old.document, new.document)

    def _tenants(self, old: _Side, new: _Side) -> Iterator[Change]:
        before, after = old.document.tenants, new.document.tenants
        for name in before:
            if name not in after:
                yield Change("tenant", (name,), "gone", harm="its events are not scored any more")
        for name, tenant in after.items():
            if name not in before:
                yield Change("tenant", (name,), f"new, in lane {tenant.lane}")
                continue
            if tenant.paused != before[name].paused:
                yield Change("tenant", (name,), "paused: its events wait" if tenant.paused else "no longer paused")
            for key, told in (("refresh", "refresh of its maps"), ("lane", "lane"), ("event", "event format")):
                one, other = getattr(before[name], key), getattr(tenant, key)
                if one != other:
                    yield Change("tenant", (name,), f"{told} {one} -> {other}")
            was, now = old.document.tenant_topics(name), new.document.tenant_topics(name)
            for kind in TOPIC_KINDS:
                one, other = getattr(was, kind), getattr(now, kind)
                if one != other:
                    yield Change("tenant", (name,), f"{kind} topic {one} -> {other}")
        yield from self._unknown(old, new)

    def _unknown(self, old: _Side, new: _Side) -> Iterator[Change]:
        was_unknown = {lane: old.document.unknown_topic(lane) for lane in old.document.lanes()}
        for lane in new.document.lanes():
            topic = new.document.unknown_topic(lane)
            if was_unknown.get(lane, topic) != topic:
                yield Change("tenant", (), f"of nobody in lane {lane}: unknown topic {was_unknown[lane]} -> {topic}")

    def _routes(self, old: _Side, new: _Side) -> Iterator[Change]:
        for tenant in new.document.tenants:
            if tenant not in old.document.tenants:
                continue
            pairs = _answers(_rules(old.document, tenant), _rules(new.document, tenant))
            if pairs is None:
                leads_to = (f"{_rules(new.document, tenant)}",)
                yield Change("tenant", (tenant,), "other routes, too many to compare", leads_to=leads_to)
                continue
            for where, was, now in pairs:
                if was == now:
                    continue
                text = _in_words(was, now)
                if not where and len(pairs) > 1:
                    text = f"otherwise {text}"
                text += self._fitted(old, new, tenant, [name for name in now.live if name not in was.live])
                yield Change("tenant", (tenant,), text, where, _harm(old, new, was, now), _leads_to(was, now))

    def _fitted(self, old: _Side, new: _Side, tenant: str, predictors: Sequence[str]) -> str:
        """Return what is new about the maps of predictors that become live for a tenant."""
        words = ""
        for name in predictors:
            was = old.content_for(name, tenant) if name in old.graphs else ""
            now = new.map_of(name, tenant)
            if now is not None and was != new.contents[now]:
                words += f"; map {'refitted' if was else 'fitted'} on {new.maps[now].samples:,} events"
                self._said.add((tenant, name))
        return words

    def _predictors(self, old: _Side, new: _Side) -> Iterator[Change]:
        before, after = old.document.predictors, new.document.predictors
        for name in before:
            if name not in after:
                yield Change("predictor", (name,), "gone")
        for name, spec in after.items():
            if name not in before:
                yield Change("predictor", (name,), f"new, version {spec.version}")
                continue
            same = predictor_hash(old.document, name) == predictor_hash(new.document, name)
            more = "".join(f"; {one}" for one in inside(old.graphs[name], new.graphs[name]))
            if before[name].version != spec.version:
                text = f"version {before[name].version} -> {spec.version}"
                leads_to = (f"version {spec.version}",)
                yield Change("predictor", (name,), text + (", the same content" if same else more), leads_to=leads_to)
            elif not same:
                harm = f"records name '{name}' version {spec.version} for two different contents"
                text, content = "other content under the same version", predictor_hash(new.document, name)
                yield Change("predictor", (name,), text + more, harm=harm, leads_to=(content,))
            yield from self._promise(old, new, name)

    def _promise(self, old: _Side, new: _Side, name: str) -> Iterator[Change]:
        was, now = old.promise(name), new.promise(name)
        if was is not None and now is None:
            yield Change(
                "predictor", (name,), "quantile map gone", harm="its scores keep to no promised distribution any more"
            )
        elif was is None and now is not None:
            yield Change("predictor", (name,), f"quantile map to reference {now[0]}")
        elif was is not None and now is not None and was[0] != now[0]:
            harm = "another distribution is promised: thresholds change their meaning" if was[1] != now[1] else ""
            yield Change("predictor", (name,), f"reference {was[0]} -> {now[0]}", harm=harm)

    def _maps(self, old: _Side, new: _Side) -> Iterator[Change]:
        """Yield, for each tenant and predictor, whose map is another one now."""
        for tenant in new.document.tenants:
            for name in new.graphs:
                if name not in old.graphs or tenant not in old.document.tenants or (tenant, name) in self._said:
                    continue
                was, now = old.map_of(name, tenant), new.map_of(name, tenant)
                if now is None or (was is not None and old.contents[was] == new.contents[now]):
                    continue
                if was is None or was == now:
                    text = "map fitted" if was is None else "map refitted"
                else:
                    text = f"map {was} -> {now}, fitted"
                text = f"{name}: {text} on {new.maps[now].samples:,} events"
                yield Change("tenant", (tenant,), text, leads_to=(f"map of {name}: {new.contents[now]}",))

    def _astray(self, old: _Side | None, new: _Side) -> Iterator[Change]:
        """Yield every tenant that has come by a map that was fitted on the scores of others."""
        owners = {} if old is None else old.own_maps()
        shared = new.own_maps()
        for tenant in new.document.tenants:
            for predictor in new.graphs:
                found = new.map_of(predictor, tenant)
                if found is None:
                    continue
                before = old.content_for(predictor, tenant) if old is not None and predictor in old.graphs else ""
                if before == new.contents[found]:
                    continue  # nothing new
                own = any(tenant in refs.tenants for refs in new.refs[predictor])
                whose = _whose(tenant, new.maps[found], new.contents[found], owners, shared, own=own)
                if whose:
                    text = f"{predictor}: map {found} was fitted on the scores of {', '.join(sorted(whose))}"
                    yield Change("tenant", (tenant,), text, harm="its alert rates are not those that were promised")

    def _references(self, old: _Side, new: _Side) -> Iterator[Change]:
        before, after = old.document.references, new.document.references
        kept = {graph.promise() for graph in old.graphs.values()}
        for name, spec in after.items():
            if name in before and content_hash(before[name]) != content_hash(spec):
                was, now = promised_rates(before[name]), promised_rates(spec)
                words = [
                    f"alert rate at {threshold:g} {_rate(was.get(threshold))} -> {_rate(now.get(threshold))}"
                    for threshold in sorted({*was, *now})
                    if was.get(threshold) != now.get(threshold)
                ]
                harm = "what tenants were promised changes: thresholds change their meaning" if name in kept else ""
                text = "; ".join(words) or "changed between its thresholds"
                leads_to = (*words, content_hash(spec))
                yield Change("reference", (name,), text, harm=harm, leads_to=leads_to)
        yield from _come_and_gone("reference", before, after)

    def _recalibrations(self, old: _Side, new: _Side) -> Iterator[Change]:
        """Yield what became of the curves, and every tenant that has come by one of somebody else's events."""
        for name, curve in new.curves.items():
            was = old.curves.get(name)
            if was is not None and _content(was) != _content(curve):
                text = f"refitted on {curve.samples:,} events, {curve.positives:,} of them positive"
                yield Change("recalibration", (name,), text, leads_to=(_content(curve),))
        yield from _come_and_gone("recalibration", old.curves, new.curves)
        for predictor, graph in new.graphs.items():
            for node in graph.recalibration_nodes().values():
                for tenant, name in node.tenants.items():
                    owners = new.curves[name].fitted_on
                    known = name in old.curves and old.curves[name].fitted_on == owners
                    if owners and tenant not in owners and not known:
                        text = f"{predictor}: recalibration {name} was fitted on the events of {', '.join(owners)}"
                        yield Change("tenant", (tenant,), text, harm="its scores are no probabilities")

    def _models(self, old: _Side, new: _Side) -> Iterator[Change]:
        before, after = old.document.models, new.document.models
        for name, spec in after.items():
            if name not in before:
                continue
            was = before[name]
            if (was.sha256, was.data) != (spec.sha256, spec.data):
                text = f"another file, sha256 {was.sha256[:12]} -> {spec.sha256[:12]}"
                yield Change("model", (name,), text, leads_to=(f"file {spec.sha256} {spec.data}",))
            parts = [
                part for part in ("inputs", "output", "golden", "backend") if getattr(was, part) != getattr(spec, part)
            ]
            if parts:
                leads_to = tuple(f"{part} {getattr(spec, part)}" for part in parts)
                yield Change("model", (name,), f"{', '.join(parts)} changed", leads_to=leads_to)
        yield from _come_and_gone("model", before, after)

    def _files(self) -> Iterator[Change]:
        """Yield the Avro schemas that are others now."""
        old, new = self._loaded
        if old is not None:
            before, after = _schemas(old), _schemas(new)
            for name in sorted({*before, *after}):
                if name not in before or name not in after:
                    yield Change("file", (name,), "new" if name in after else "gone")
                elif before[name] != after[name]:
                    yield Change("file", (name,), "changed", leads_to=(sha256(after[name]).hexdigest(),))


def _whose(
    tenant: str,
    fitted: FittedMap,
    content: str,
    owners: Mapping[str, set[str]],
    shared: Mapping[str, set[str]],
    *,
    own: bool,
) -> set[str]:
    """Return the other tenants on whose scores alone a map was fitted, as far as can be told; none if all is well.

    A map may say it (`fitted_on`). Otherwise a map is another tenant's when it was that one's own until now. A pooled
    map is for everybody, and so is one that several tenants had in common.
    """
    if fitted.fitted_on:
        others = set(fitted.fitted_on) - {tenant}
        return others if tenant not in fitted.fitted_on and (own or len(others) == 1) else set()
    before = owners.get(content, set())
    if before:
        return before if tenant not in before and len(before) == 1 else set()
    return set() if own or content not in shared else shared[content] - {tenant}


@dataclass(frozen=True, slots=True)
class _Roles:
    """Who answers, and who shadows."""

    live: Mapping[str, float]
    shadow: Mapping[str, float]

    @classmethod
    def of(cls, route: RouteSpec) -> "_Roles":
        return cls(route.live_shares, {one.predictor: one.sample for one in route.shadow})


_Rule = tuple[Mapping[str, tuple[str, ...]], _Roles]
_Box = dict[str, frozenset[str]]
NOBODY = _Roles({}, {})


def _rules(document: Document, tenant: str) -> list[_Rule]:
    """Return the rules that a tenant's events may meet, without the condition on the tenant."""
    attributes = document.attributes(tenant)
    rules: list[_Rule] = []
    for route in document.routes:
        if tenant not in route.when.get("tenant", (tenant,)) or not set(route.when) <= attributes:
            continue
        when = {name: tuple(values) for name, values in route.when.items() if name != "tenant"}
        rules.append((when, _Roles.of(route)))
        if not when:
            break
    return rules


def _answers(old: list[_Rule], new: list[_Rule]) -> list[tuple[dict[str, tuple[str, ...]], _Roles, _Roles]] | None:
    """Return, for each kind of intent, its condition and who answered and who does now; None where there are too many.

    One entry without a condition where it is the same for all intents.
    """
    if old == new:
        return []
    named: dict[str, dict[str, None]] = defaultdict(dict)
    for when, _ in [*new, *old]:
        for name, values in when.items():
            named[name].update(dict.fromkeys(values))
    whole: _Box = {name: frozenset({*values, OTHER}) for name, values in named.items()}
    found: list[tuple[dict[str, tuple[str, ...]], _Roles, _Roles]] = []
    count = 0
    for when, now, boxes in _met(new, [whole]):
        for before, was, parts in _met(old, boxes):
            count += len(parts)
            if count > MOST_BOXES:
                return None
            common = {name: (when.get(name), before.get(name)) for name in named if name in when or name in before}
            where = {
                name: tuple(value for value in one if value in other) if one and other else one or other or ()
                for name, (one, other) in common.items()
            }
            found.append((where, was, now))
    if all((was, now) == found[0][1:] for _, was, now in found):
        return [({}, *found[0][1:])] if found else []
    once: list[tuple[dict[str, tuple[str, ...]], _Roles, _Roles]] = []
    for one in found:
        if one not in once:
            once.append(one)
    return once


def _met(rules: list[_Rule], boxes: list[_Box]) -> Iterator[tuple[Mapping[str, tuple[str, ...]], _Roles, list[_Box]]]:
    """Yield each rule that answers some of the intents, and those; at last the intents that none answers."""
    left = boxes
    for when, roles in rules:
        hit: list[_Box] = []
        rest: list[_Box] = []
        for box in left:
            inner = {**box, **{name: box[name] & set(values) for name, values in when.items()}}
            if not all(inner[name] for name in when):
                rest.append(box)
                continue
            hit.append(inner)
            outer = dict(box)
            for name, values in when.items():
                if outer[name] - set(values):
                    rest.append({**outer, name: outer[name] - set(values)})
                outer[name] = inner[name]
        if hit:
            yield when, roles, hit
        left = rest
    if left:
        yield {}, NOBODY, left


def _leads_to(was: _Roles, now: _Roles) -> tuple[str, ...]:
    """Return who is live, where that changes, else who shadows: a shadow more does not make a live one another."""
    role, roles = ("live", now.live) if was.live != now.live else ("shadow", now.shadow)
    return (f"{role} {[*roles.items()]}",)


def _in_words(was: _Roles, now: _Roles) -> str:
    parts = []
    if was.live != now.live:
        parts.append(f"live {_shares(was.live, 'nobody')} -> {_shares(now.live, 'nobody')}")
    if was.shadow != now.shadow:
        parts.append(f"shadow {_shares(was.shadow, 'none')} -> {_shares(now.shadow, 'none')}")
    return "; ".join(parts) or "the shares in another order"


def _shares(shares: Mapping[str, float], none: str) -> str:
    return ", ".join(name if share == 1.0 else f"{name} {_rate(share)}" for name, share in shares.items()) or none


def _harm(old: _Side, new: _Side, was: _Roles, now: _Roles) -> str:
    """Return how a tenant can be hurt by who answers it now."""
    before = {name: old.promise(name) for name in was.live if name in old.graphs}
    for name in now.live:
        if name in was.live:
            continue  # what changes about it is told of the predictor
        promise = new.promise(name)
        for other, kept in before.items():
            if kept is not None and promise is None:
                return f"{other} has a quantile map and {name} has none: its scores keep to no promised distribution"
            if kept is not None and promise is not None and kept[1] != promise[1]:
                return (
                    f"{other} keeps to reference {kept[0]} and {name} to {promise[0]}: thresholds change their meaning"
                )
    return ""


def _rate(rate: float | None) -> str:
    return "nothing" if rate is None else f"{100 * rate:.6g} %"


def _come_and_gone(area: Area, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    yield from (Change(area, (name,), "gone") for name in before if name not in after)
    yield from (Change(area, (name,), "new") for name in after if name not in before)


def _entries(area: Area, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name, now in after.items():
        if name in before and before[name] != now:
            was = before[name]
            fields: Mapping[str, object] = getattr(type(now), "model_fields", {})
            parts = [part for part in fields if getattr(was, part) != getattr(now, part)]
            leads_to = tuple(f"{part} {getattr(now, part)}" for part in parts) or (f"{now}",)
            yield Change(area, (name,), f"{', '.join(parts)} changed" if parts else "changed", leads_to=leads_to)
    yield from _come_and_gone(area, before, after)


def _refresh(old: Document, new: Document) -> Iterator[Change]:
    for name in type(new.refresh).model_fields:
        was, now = getattr(old.refresh, name), getattr(new.refresh, name)
        if was != now:
            yield Change("limit", (f"refresh.{name}",), f"{was:g} -> {now:g}")


def _schemas(loaded: Loaded) -> dict[str, bytes]:
    folder = loaded.document.schemas
    names = [path for path in referenced_files(loaded) if path.is_relative_to(folder)]
    return {path.relative_to(folder).as_posix(): (loaded.root / path).read_bytes() for path in names}


def _numbers(area: Area, old: Any, new: Any) -> Iterator[Change]:
    """Yield what changed of a section that holds numbers."""
    for name in type(new).model_fields:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield Change(area, (name,), f"{_number(was)} -> {_number(now)}")


def _number(value: Any) -> str:
    return "not set" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _drift(old: Document, new: Document) -> Iterator[Change]:
    yield from _numbers("drift", old.drift, new.drift)
    for name, tenant in new.tenants.items():
        if name in old.tenants:
            for change in _numbers("drift", old.tenants[name].drift, tenant.drift):
                yield Change("tenant", (name,), f"drift {change.names[0]} {change.text}")
