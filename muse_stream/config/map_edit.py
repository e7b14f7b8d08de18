"""Fitted maps and betas as a change of a YAML text: what else stands in it keeps its bytes.

`with_maps` gives a predictor the maps of its tenants, `with_betas` its experts' corrections. The change is worked out
on plain data too, and the new text is parsed again to see that it says the same.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from muse_stream.config.document import Document
from muse_stream.config.source import YamlKey, parse, written
from muse_stream.config.yaml_text import Edit, Item, column, edited, flow, line_end, newline, outline
from muse_stream.errors import ConfigError, Problem


def with_maps(
    text: str,
    document: Document,
    predictor: str,
    files: Mapping[str, Mapping[str, str]],
    tenants: Mapping[str, str],
    reference: str,
    default: str | None = None,
    name: str = "(document)",
) -> str:
    """Return the text in which `tenants` of a predictor use the maps of `files` (name under `maps` -> its entry).

    `reference` and a quantile map are put there where the predictor has none yet. Raises ConfigError for a form of the
    text that cannot be changed, and for a graph that has no quantile map before its output.
    """
    spec = document.predictors[predictor]
    graph = spec.graph()
    pre = graph.pre_map_node()
    node = next((one for one, held in graph.map_nodes().items() if held.input == pre), None)
    place: tuple[YamlKey, ...] = ("predictors", predictor, "quantile_map")
    if node is not None:
        place = ("predictors", predictor, *spec.where(node))
    elif "nodes" in type(spec).model_fields:
        message = f"the graph of '{predictor}' has no quantile_map node to give maps to"
        raise _refused(name, ("predictors", predictor), message, "put one in, with its reference")
    text = put(text, ("maps",), files, name)
    if node is None:
        extra = {} if default is None else {"default": default}
        return put(
            text,
            ("predictors", predictor),
            {"quantile_map": {"reference": reference, **extra, "tenants": tenants}},
            name,
        )
    if default is not None:
        text = put(text, place, {"default": default}, name)
    return put(text, (*place, "tenants"), tenants, name) if tenants else text


def with_betas(text: str, document: Document, predictor: str, betas: Mapping[str, float], name: str) -> str:
    """Return the text in which the predictor's experts have these betas (model -> beta)."""
    spec = document.predictors[predictor]
    graph = spec.graph()
    for model, beta in betas.items():
        places = [node for node, held in graph.nodes.items() if getattr(held, "model", None) == model]
        if not places or model not in graph.experts():
            known = ", ".join(sorted(graph.experts()))
            raise _refused(name, ("predictors", predictor), f"'{model}' is no expert of it", f"there is: {known}")
        for place in places:
            corrections = [
                node
                for node, held in graph.nodes.items()
                if type(held).__name__ == "CorrectionNode" and held.sources == (place,)
            ]
            if place.startswith("experts["):
                where: tuple[YamlKey, ...] = ("predictors", predictor, *spec.where(place))
            elif corrections:
                where = ("predictors", predictor, *spec.where(corrections[0]))
            else:
                message = f"the graph has no posterior_correction of '{place}'"
                raise _refused(name, ("predictors", predictor), message, "put one in")
            text = put(text, where, {"beta": beta}, name)
    return text


def put(text: str, path: Sequence[YamlKey], values: Mapping[str, Any], name: str = "(document)") -> str:
    """Return the text with these keys in the mapping at `path`; mappings that are missing on the way are made.

    A key that is there gets the new value, in its place. Raises ConfigError where the text has an alias or a merge on
    the way.
    """
    wanted = deepcopy(parse(Path(name), text.encode()).tree)
    node = wanted
    for step in path:
        if isinstance(node, dict) and node.get(step) is None:
            node[step] = {}
        node = node[step]
    node.update(deepcopy({key: _plain(value) for key, value in values.items()}))
    item = outline(text)
    steps, left = list(path), dict(values)
    while steps:
        below = item.items[steps[0]] if isinstance(steps[0], int) else item.value(str(steps[0]))
        if below is None or (below.kind == "scalar" and below.text in ("", "null", "~")):
            left = {str(steps[0]): _nested(steps[1:], left)}
            break
        item, steps = below, steps[1:]
    if item.kind != "mapping":
        raise _refused(name, path, "this form of the text cannot be changed", "write it out as a mapping of its own")
    changed = edited(text, _edits(text, item, left))
    if parse(Path(name), changed.encode()).tree != wanted:
        raise _refused(
            name, path, "this form of the text cannot be changed", "write it out, without anchors and merges"
        )
    return changed


def _plain(value: Any) -> Any:
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _nested(steps: Sequence[YamlKey], values: Mapping[str, Any]) -> Mapping[str, Any]:
    for step in reversed(steps):
        values = {str(step): values}
    return values


def _edits(text: str, item: Item, values: Mapping[str, Any]) -> list[Edit]:
    edits: list[Edit] = []
    new: dict[str, Any] = {}
    for key, value in values.items():
        held = item.value(key)
        if held is None:
            new[key] = value
        elif held.kind == "scalar" and held.end > held.start:
            edits.append(Edit(held.start, held.end, flow(value)))
        else:
            place = item.key(key)
            assert place is not None  # noqa: S101  # its value was found
            edits.append(Edit(place.end, max(held.end, place.end), f": {flow(value)}"))
    if not new:
        return edits
    if item.flow or not item.keys:
        inside = ", ".join(f"{flow(key)}: {flow(value)}" for key, value in new.items())
        end = item.end - 1
        edits.append(Edit(end, end, f", {inside}" if item.keys else inside))
        return edits
    margin = column(text, item.keys[0].start)
    end = line_end(text, max([item.end, *(one.end for one in item.items)]))
    lines = [line for key, value in new.items() for line in _lines(key, value, margin)]
    edits.append(Edit(end, end, "".join(newline(text) + line for line in lines)))
    return edits


def _lines(key: str, value: Any, margin: int) -> list[str]:
    """Return a key and its value as lines of a block: one level for people to read, what is below it in one line."""
    if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
        below = [line for name, one in value.items() for line in _lines(name, one, margin + 2)]
        return [f"{' ' * margin}{flow(key)}:", *below]
    return [f"{' ' * margin}{flow(key)}: {flow(value)}"]


def _refused(name: str, path: Sequence[YamlKey], message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(written(tuple(path)), message, hint, None, name)])
