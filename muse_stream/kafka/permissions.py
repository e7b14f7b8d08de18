"""What each role of a fleet, and each command that a person runs, may do on Kafka: the one place that says it.

`permissions` gives the grants that a role needs for a configuration, and no others; docs/kafka-security.md has them for
the default names of topics, and tests/integration/test_security.py works under exactly these.

Topics are named one by one, unless the caller wants prefixes (so that a new tenant needs no new grants). A prefix that
would take in topics of another kind is not used: it would grant what nobody asked for. `READ` and `WRITE` imply
`DESCRIBE`, `ALTER_CONFIGS` implies `DESCRIBE_CONFIGS`; nothing on the cluster is needed, since `IDEMPOTENT_WRITE`
follows from `WRITE` on a topic or on the transactional id.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from muse_stream.config import Document
from muse_stream.kafka.topic_plan import needed

Resource = Literal["topic", "group", "transactional id"]
Pattern = Literal["literal", "prefixed"]
Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"]
Outputs = Literal["events", "scores", "audit", "dlq"]
KINDS: tuple[Outputs, ...] = ("events", "scores", "dlq", "audit")
INTERNAL = ("__consumer_offsets", "__transaction_state")
READ: tuple[Operation, ...] = ("READ",)
WRITE: tuple[Operation, ...] = ("WRITE",)
BOTH: tuple[Operation, ...] = ("READ", "WRITE")
DESCRIBE: tuple[Operation, ...] = ("DESCRIBE",)
CONFIGS: tuple[Operation, ...] = ("READ", "DESCRIBE_CONFIGS")
LOOK: tuple[Operation, ...] = ("DESCRIBE", "DESCRIBE_CONFIGS")
MAKE: tuple[Operation, ...] = ("CREATE", "DESCRIBE", "ALTER_CONFIGS")


class Grant(Struct, frozen=True):
    """What a principal may do with a resource, or with all whose names begin so."""

    resource: Resource
    pattern: Pattern
    name: str
    operations: tuple[Operation, ...]


class Needs(Struct, frozen=True):
    """What a role needs; `{namespace}`, `{lane}` and `{tenant}` stand for every one that is asked for."""

    does: str
    topics: Mapping[Outputs, tuple[Operation, ...]] = field(default_factory=dict)
    groups: tuple[tuple[Pattern, str, tuple[Operation, ...]], ...] = ()
    transactional_ids: tuple[str, ...] = ()
    """Prefixes."""
    internal: tuple[Operation, ...] = ()
    """On Kafka's own topics."""
    of_a_tenant: bool = False
    """Whether each tenant has a principal of its own."""


def _worker(role: str, topics: Mapping[Outputs, tuple[Operation, ...]], does: str) -> Needs:
    group = f"{{namespace}}.{{lane}}.{role}"
    return Needs(does, topics, (("literal", group, READ),), (f"muse-{group}-",))


NEEDS: Mapping[str, Needs] = {
    "live": _worker("live", {"events": READ, "scores": BOTH, "dlq": BOTH}, "`run --role live`"),
    "shadow": _worker("shadow", {"events": READ, "audit": BOTH}, "`run --role shadow`"),
    "calibrate": Needs(
        "`run --role calibrate`; DESCRIBE of dead letters where maps are refreshed",
        {"scores": READ, "dlq": DESCRIBE, "audit": READ},
        (("literal", "{namespace}.{lane}.calibrate", READ),),
    ),
    "producer": Needs("`produce`, or the tenant's own producer", {"events": WRITE}, of_a_tenant=True),
    "consumer": Needs(
        "whoever acts on a tenant's scores, in groups named after the tenant; `tail`",
        {"scores": READ},
        (("prefixed", "{tenant}.", READ),),
        of_a_tenant=True,
    ),
    "analyst": Needs(
        "`tail --kind audit`, and consumers of audit records in groups named `analyst.`",
        {"audit": READ},
        (("prefixed", "analyst.", READ),),
    ),
    "reporter": Needs("`audit`, `report`, `fit`", {"scores": READ, "audit": READ}),
    "promoter": Needs(
        "`promote`; scores and dead letters for `--steps` and `--resume` alone",
        {"scores": READ, "dlq": READ, "audit": READ},
    ),
    "watcher": Needs("`watch`", {"audit": READ}),
    "verifier": Needs(
        "`verify`; the group for `--upto committed` alone",
        {"events": CONFIGS, "scores": CONFIGS, "dlq": CONFIGS, "audit": READ},
        (("literal", "{namespace}.{lane}.live", DESCRIBE),),
    ),
    "replayer": Needs(
        "`dlq`, `tail --kind dlq`; `dlq list`, `dlq show` and `tail` need READ of dead letters alone",
        {"events": WRITE, "dlq": BOTH},
        transactional_ids=("muse-dlq-replay-",),
    ),
    "doctor": Needs(
        "`doctor`; what it may not see it says",
        dict.fromkeys(KINDS, CONFIGS),
        (("prefixed", "{namespace}.{lane}.", DESCRIBE),),
        internal=LOOK,
    ),
    "operator": Needs("`topics`", dict.fromkeys(KINDS, MAKE)),
    "mover": Needs(
        "`offsets`; `show` needs no transactional id",
        dict.fromkeys(KINDS, READ),
        (("prefixed", "{namespace}.{lane}.", READ),),
        ("muse-{namespace}.{lane}.",),
    ),
}
"""Role -> what it needs."""


class Names(Struct, frozen=True):
    """What the placeholders stand for, and how topics are called."""

    namespace: str
    lanes: Sequence[str]
    tenants: Sequence[str]
    topics: Mapping[Outputs, Sequence[tuple[Pattern, str]]]
    of_tenants: Mapping[tuple[str, Outputs], str]
    """Tenant and kind -> topic."""


def permissions(
    document: Document,
    role: str,
    *,
    lanes: Sequence[str] = (),
    tenants: Sequence[str] = (),
    prefixed: bool = False,
    moves: bool = False,
) -> dict[str, tuple[Grant, ...]]:
    """Return principal -> what it needs: one principal named as the role, or one for each tenant (`producer-acme`).

    `lanes` and `tenants` restrict it, by default to none less than all. With `prefixed`, topics are granted by what
    their template begins with; with `moves`, workers may also look at the groups of the fleet's other lanes, for
    tenants that move from one to another.
    """
    chosen = [
        name
        for name, tenant in document.tenants.items()
        if (not lanes or tenant.lane in lanes) and (not tenants or name in tenants)
    ]
    names = Names(
        document.namespace,
        tuple(dict.fromkeys(document.tenants[name].lane for name in chosen)),
        chosen,
        {kind: _topics(document, chosen, kind, prefixed=prefixed) for kind in KINDS},
        {(name, kind): getattr(document.tenant_topics(name), kind) for name in chosen for kind in KINDS},
    )
    found = grants(role, names)
    if moves and role in ("live", "shadow"):
        others = [lane for lane in document.lanes() if lane not in names.lanes or len(names.lanes) > 1]
        look = [Grant("group", "literal", document.group(lane, role), DESCRIBE) for lane in others]  # type: ignore[arg-type]
        found[role] += tuple(one for one in look if all(one.name != other.name for other in found[role]))
    return found


def grants(role: str, names: Names) -> dict[str, tuple[Grant, ...]]:
    """Return principal -> what it needs, with these names."""
    needs = NEEDS[role]
    if not needs.of_a_tenant:
        return {role: tuple(_of(needs, names))}
    return {f"{role}-{tenant}": tuple(_of(needs, _of_tenant(names, tenant))) for tenant in names.tenants}


def _of(needs: Needs, names: Names) -> Iterator[Grant]:
    for kind in KINDS:
        for pattern, name in names.topics[kind] if kind in needs.topics else ():
            yield Grant("topic", pattern, name, needs.topics[kind])
    if needs.internal:
        for name in INTERNAL:
            yield Grant("topic", "literal", name, needs.internal)
    for pattern, template, operations in needs.groups:
        for name in _filled(template, names):
            yield Grant("group", pattern, name, operations)
    for template in needs.transactional_ids:
        for name in _filled(template, names):
            yield Grant("transactional id", "prefixed", name, WRITE)


def _of_tenant(names: Names, tenant: str) -> Names:
    topics: dict[Outputs, Sequence[tuple[Pattern, str]]] = {
        kind: [("literal", names.of_tenants[tenant, kind])] for kind in KINDS
    }
    return Names(names.namespace, names.lanes, [tenant], topics, names.of_tenants)


def _filled(template: str, names: Names) -> Iterator[str]:
    template = template.replace("{namespace}", names.namespace)
    for lane in names.lanes if "{lane}" in template else [""]:
        for tenant in names.tenants if "{tenant}" in template else [""]:
            yield template.replace("{lane}", lane).replace("{tenant}", tenant)


def _topics(document: Document, tenants: Sequence[str], kind: Outputs, *, prefixed: bool) -> list[tuple[Pattern, str]]:
    """Return the topics of a kind; dead letters of events without a tenant are dead letters."""
    wanted = ("dlq", "unknown") if kind == "dlq" else (kind,)
    named = list(dict.fromkeys(one.name for one in needed(document, tenants) if one.kind in wanted))
    if not prefixed:
        return [("literal", name) for name in named]
    others = {one.name for one in needed(document) if one.kind not in wanted}
    prefixes = [
        prefix
        for prefix in _prefixes(document, tenants, kind)
        if prefix and not any(name.startswith(prefix) for name in others)
    ]
    covering = [one for one in prefixes if not any(one != other and one.startswith(other) for other in prefixes)]
    left = [name for name in named if not any(name.startswith(prefix) for prefix in covering)]
    return [*(("prefixed", prefix) for prefix in covering), *(("literal", name) for name in left)]


def _prefixes(document: Document, tenants: Sequence[str], kind: Outputs) -> list[str]:
    """Return what the templates of a kind begin with, before the first placeholder that differs between tenants."""
    templates = [getattr(document.topics, kind)]
    templates += [own for name in tenants if (own := getattr(document.tenants[name].topics, kind)) is not None]
    templates += [document.topics.unknown] if kind == "dlq" else []
    found = []
    for template in templates:
        text = template.replace("{namespace}", document.namespace)
        if "{" in text:
            found.append(text.partition("{")[0])
    return list(dict.fromkeys(found))
