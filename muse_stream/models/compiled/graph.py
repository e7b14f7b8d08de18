"""Cuts a graph at its tree ensemble: what comes before it, the ensemble, and what comes after it.

The parts before and after are ONNX files again, which onnxruntime runs. A part that changes no value (Identity, the
multiplication by one that LightGBM's exporter writes, a ZipMap whose tensor is asked for) is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from muse_stream.models.compiled.ensemble import READERS, NotCompiledError
from muse_stream.models.onnx_nodes import constant_values

FLOAT = 1
STANDARD = ("", "ai.onnx")
ML = "ai.onnx.ml"
Makers = Mapping[str, tuple[Any, int]]
"""Tensor -> the node that makes it, and which of that node's outputs it is."""


class Cut(Struct, frozen=True):
    """A graph in three parts; None for a part that there is no need to run."""

    before: Any | None
    table: str
    """What goes into the ensemble: a tensor that `before` makes, or an input of the file."""
    node: Any
    place: int
    """Which of the node's outputs counts."""
    answer: str
    """What comes out of the ensemble: what `after` takes."""
    after: Any | None


def cut(model: Any, output: str) -> Cut:
    """Cut a parsed file at the ensemble behind an output; raises NotCompiledError where there is not just one."""
    makers = {name: (node, place) for node in model.graph.node for place, name in enumerate(node.output) if name}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    _constant_nodes(model.graph, constants)
    found = [node for node in model.graph.node if _is_ensemble(node) and _leads_to(node, output, makers)]
    if len(found) != 1:
        raise NotCompiledError("it has no tree ensemble" if not found else f"it has {len(found)} tree ensembles")
    (node,) = found
    behind = _needed(output, makers, set(node.output))
    used = {name for one in behind for name in one.input} | {output}
    places = [place for place, name in enumerate(node.output) if name in used]
    if len(places) != 1:
        raise NotCompiledError("what comes after the trees takes their labels, too")
    answer = node.output[places[0]]
    inputs = {value.name for value in model.graph.input} - constants.keys()
    if any(name in inputs for one in behind for name in one.input):
        raise NotCompiledError("what comes after the trees takes an input of the file, too")
    after = None if _unchanged(output, makers, constants) == answer else _part(model, behind, [answer], output)
    table = _unchanged(node.input[0], makers, constants)
    if table in inputs:
        return Cut(None, table, node, places[0], answer, after)
    before = _part(model, _needed(table, makers, set()), sorted(inputs), table)
    return Cut(before, table, node, places[0], answer, after)


def _is_ensemble(node: Any) -> bool:
    return node.domain == ML and node.op_type in READERS


def _constant_nodes(graph: Any, constants: dict[str, Any]) -> None:
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD:
            constants.update((node.output[0], one.t) for one in node.attribute if one.name == "value")


def _leads_to(node: Any, output: str, makers: Makers) -> bool:
    return any(one is node for one in _needed(output, makers, set()))


def _needed(output: str, makers: Makers, given: set[str]) -> list[Any]:
    """Return the nodes that make a tensor, but for what makes those that are `given`."""
    found: dict[int, Any] = {}
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name in given or name not in makers:
            continue
        node, _ = makers[name]
        if id(node) not in found:
            if any(one.HasField("g") or one.graphs for one in node.attribute):
                raise NotCompiledError(f"it has a branch or a loop ({node.op_type})")
            found[id(node)] = node
            waiting += [name for name in node.input if name]
    return list(found.values())


def _unchanged(name: str, makers: Makers, constants: Mapping[str, Any]) -> str:
    """Return the first tensor on the way to this one that has the same values."""
    while name in makers:
        node, _ = makers[name]
        kind = (ML if node.domain == ML else "" if node.domain in STANDARD else node.domain, node.op_type)
        by_one = kind == ("", "Mul") and _is_one(constants.get(node.input[1]))
        if not by_one and kind not in (("", "Identity"), (ML, "ZipMap")):
            break
        name = node.input[0]
    return name


def _is_one(tensor: Any | None) -> bool:
    """Whether a constant is a float 1 that stretches nothing: what it multiplies has one or two dimensions."""
    return (
        tensor is not None and tensor.data_type == FLOAT and len(tensor.dims) <= 1 and constant_values(tensor) == (1.0,)
    )


def _part(model: Any, nodes: Sequence[Any], inputs: Sequence[str], output: str) -> Any:
    """Return some nodes of a file as a file."""
    part = type(model)()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = "part"
    chosen = {id(node) for node in nodes}
    part.graph.node.extend(node for node in model.graph.node if id(node) in chosen)
    used = {name for node in nodes for name in node.input}
    part.graph.initializer.extend(one for one in model.graph.initializer if one.name in used)
    part.graph.sparse_initializer.extend(one for one in model.graph.sparse_initializer if one.values.name in used)
    declared = {value.name: value for value in model.graph.input}
    for name in inputs:
        if name in declared:
            part.graph.input.append(declared[name])
        else:
            value = part.graph.input.add()
            value.name = name
            value.type.tensor_type.elem_type = FLOAT
            value.type.tensor_type.shape.dim.add()
            value.type.tensor_type.shape.dim.add()
    for node in part.graph.node:
        if node.op_type == "ZipMap" and node.domain == ML:
            node.op_type, node.domain = "Identity", ""
            node.ClearField("attribute")
    part.graph.output.add().name = output
    return part
