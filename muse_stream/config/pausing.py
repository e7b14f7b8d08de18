"""Pausing as a change of a YAML text: `tenants.NAME.paused` is set, or taken out again, and the rest keeps its bytes.

A tenant that is written as an alias, or that others are (`&`, `*`, `<<`), gets a text of its own where that is needed,
so that the others go on to mean what they meant. The text is parsed again to see that it says what was asked for.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muse_stream.config.expected import nearest
from muse_stream.config.source import parse
from muse_stream.config.yaml_text import Edit, Item, column, edited, flow, line_end, line_start, newline, outline
from muse_stream.errors import ConfigError, Problem

PAUSED = "paused"


def pause(text: str, tenants: Iterable[str], *, paused: bool, name: str = "(document)") -> str:
    """Return a sound document's text in which these tenants are paused, or are not; the same where nothing changes.

    Raises ConfigError for a tenant that is not there, and for a form of the text that cannot be changed.
    """
    tree = parse(Path(name), text.encode()).tree
    wanted = {tenant: bool(one.get(PAUSED, False)) for tenant, one in tree["tenants"].items()}
    for tenant in tenants:
        if tenant not in wanted:
            hint = nearest(tenant, list(wanted)) or f"there is: {', '.join(wanted)}"
            raise ConfigError([Problem("tenants", f"there is no tenant '{tenant}'", hint, None, name)])
        wanted[tenant] = paused
    for _ in range(len(wanted) + 1):  # a change may show in those that are written by reference to it
        found = parse(Path(name), text.encode()).tree
        wrong = [tenant for tenant, value in wanted.items() if _is_paused(found, tenant) != value]
        if not wrong:
            break
        text = _changed(text, wrong[0], wanted[wrong[0]], tree["tenants"][wrong[0]], name)
    if _meaning(found, wanted) != _meaning(tree, wanted):
        hint = "write the tenants out, or change them by hand and publish"
        raise ConfigError([Problem("tenants", "this form of the tenants cannot be changed", hint, None, name)])
    return text


def _is_paused(tree: Any, tenant: str) -> bool:
    return bool(tree["tenants"].get(tenant, {}).get(PAUSED, False))


def _meaning(tree: Any, wanted: Mapping[str, bool]) -> Any:
    """Return what a document says, as if the tenants were paused as wanted."""
    tenants = {name: {**one, PAUSED: wanted[name]} for name, one in tree["tenants"].items()}
    return {**tree, "tenants": tenants}


def _changed(text: str, tenant: str, paused: bool, plain: Mapping[str, Any], name: str) -> str:
    tenants = outline(text).value("tenants")
    item = tenants.value(tenant) if tenants is not None and tenants.kind == "mapping" else None
    if item is None:
        hint = "write it out under `tenants`"
        problem = Problem(f"tenants.{tenant}", "the tenant is not written out here", hint, None, name)
        raise ConfigError([problem])
    if item.kind != "mapping" or not item.keys:
        own = {key: value for key, value in plain.items() if key != PAUSED}
        return edited(text, [Edit(item.start, item.end, flow({PAUSED: True, **own} if paused else own))])
    key, value = item.key(PAUSED), item.value(PAUSED)
    if key is None or value is None:
        return edited(text, [_insertion(text, item, paused)])
    removal = None if paused else _removal(text, item, key, value)
    return edited(text, [removal or Edit(value.start, value.end, flow(paused))])


def _insertion(text: str, item: Item, paused: bool) -> Edit:
    start = item.keys[0].start
    key = f'"{PAUSED}"' if text[start] == '"' else PAUSED
    behind = ", " if item.flow else newline(text) + " " * column(text, start)
    return Edit(start, start, f"{key}: {flow(paused)}{behind}")


def _removal(text: str, item: Item, key: Item, value: Item) -> Edit | None:
    """Return how the key goes, with its line; None where it shares the line with anything else."""
    place = item.keys.index(key)
    if item.flow:
        end = item.keys[place + 1].start if place + 1 < len(item.keys) else None
        return None if end is None or "#" in text[value.end : end] else Edit(key.start, end, "")
    start, end = line_start(text, key.start), line_end(text, value.end)
    alone = not text[start : key.start].strip() and not text[value.end : end].strip() and end < len(text)
    return Edit(start, text.index("\n", end) + 1, "") if alone and len(item.keys) > 1 else None
