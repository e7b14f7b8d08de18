"""What to grant on Kafka: the permissions of each role for a configuration, in the words of whoever grants them.

Nothing is asked of a cluster, and nothing is granted: what is printed is carried out by who may.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from muse_stream import environment
from muse_stream.commands.configuration import Configuration
from muse_stream.errors import ConfigError, Problem
from muse_stream.kafka import NEEDS, Grant, permissions

USER = "User:"
KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_OPTIONS = {"topic": "--topic", "group": "--group", "transactional id": "--transactional-id"}
_STRIMZI = {"topic": "topic", "group": "group", "transactional id": "transactionalId"}


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom."""

    roles: Sequence[str] = ()
    """By default all."""
    lanes: Sequence[str] = ()
    tenants: Sequence[str] = ()
    principal: str | None = None
    """Who gets all of it; by default each role has a principal of its name, and `producer` and `consumer` one a tenant
    (`producer-acme`)."""
    prefixed: bool = False
    moves: bool = False


def needed_permissions(configuration: Configuration, asked: Asked) -> dict[str, tuple[Grant, ...]]:
    """Return principal -> what it needs; raises ConfigError for a tenant, lane or role that there is not."""
    document = configuration.loaded.document
    tenants = [configuration.tenant(name) for name in asked.tenants]
    _known("role", asked.roles, NEEDS, configuration)
    _known("lane", asked.lanes, document.lanes(), configuration)
    found: dict[str, tuple[Grant, ...]] = {}
    for role in asked.roles or NEEDS:
        options = {"prefixed": asked.prefixed, "moves": asked.moves}
        for principal, grants in permissions(document, role, lanes=asked.lanes, tenants=tenants, **options).items():
            name = asked.principal.removeprefix(USER) if asked.principal else principal
            found[name] = _merged((*found.get(name, ()), *grants))
    return found


def _known(what: str, given: Sequence[str], known: Mapping[str, object], configuration: Configuration) -> None:
    file = str(configuration.path)
    wrong = [name for name in given if name not in known]
    if wrong:
        hint = f"there is: {', '.join(known)}"
        raise ConfigError([Problem(f"--{what}", f"there is no {what} '{name}'", hint, file=file) for name in wrong])


def _merged(grants: Sequence[Grant]) -> tuple[Grant, ...]:
    """Return each resource once, with all its operations."""
    found: dict[tuple[str, str, str], Grant] = {}
    for one in grants:
        key = (one.resource, one.pattern, one.name)
        before = found[key].operations if key in found else ()
        operations = (*before, *(name for name in one.operations if name not in before))
        found[key] = Grant(one.resource, one.pattern, one.name, operations)
    return tuple(found.values())


def rows(found: Mapping[str, Sequence[Grant]]) -> Iterator[dict[str, object]]:
    """Yield one dict a grant."""
    for principal, grants in found.items():
        for one in grants:
            yield {
                "principal": f"{USER}{principal}",
                "resource": one.resource,
                "pattern": one.pattern,
                "name": one.name,
                "operations": list(one.operations),
            }


def kafka_acls(found: Mapping[str, Sequence[Grant]]) -> Iterator[str]:
    """Yield one command of Kafka's own tool a grant."""
    bootstrap = environment.read("MUSE_KAFKA_BOOTSTRAP_SERVERS") or "HOST:PORT"
    start = f"kafka-acls.sh --bootstrap-server {shlex.quote(bootstrap)} --command-config admin.properties --add"
    for principal, grants in found.items():
        for one in grants:
            yield f"{start} {acl(one, principal)}"


def acl(one: Grant, principal: str) -> str:
    """Return a grant as the arguments of kafka-acls.sh."""
    operations = " ".join(f"--operation {_camel(name)}" for name in one.operations)
    who = shlex.quote(f"{USER}{principal}")
    where = f"{_OPTIONS[one.resource]} {shlex.quote(one.name)}"
    return f"--allow-principal {who} {operations} {where} --resource-pattern-type {one.pattern}"


def strimzi(found: Mapping[str, Sequence[Grant]], cluster: str) -> Iterator[str]:
    """Yield the lines of a KafkaUser of Strimzi (kafka.strimzi.io/v1) for each principal, as YAML documents.

    Raises ConfigError for a principal that cannot be the name of one.
    """
    for principal, grants in found.items():
        if not KUBERNETES_NAME.fullmatch(principal):
            message = f"'{principal}' cannot be the name of a KafkaUser"
            raise ConfigError([Problem("--principal", message, "use small letters, digits, hyphens and dots")])
        yield "---"
        yield "apiVersion: kafka.strimzi.io/v1"
        yield "kind: KafkaUser"
        yield "metadata:"
        yield f"  name: {json.dumps(principal)}"
        yield f"  labels: {{strimzi.io/cluster: {json.dumps(cluster)}}}"
        yield "spec:"
        yield "  authentication: {type: scram-sha-512}"
        yield "  authorization:"
        yield "    type: simple"
        yield "    acls:"
        for one in grants:
            pattern = "prefix" if one.pattern == "prefixed" else "literal"
            resource = f"type: {_STRIMZI[one.resource]}, name: {json.dumps(one.name)}, patternType: {pattern}"
            yield f"      - resource: {{{resource}}}"
            yield f"        operations: [{', '.join(map(_camel, one.operations))}]"


def _camel(operation: str) -> str:
    return "".join(word.title() for word in operation.split("_"))
