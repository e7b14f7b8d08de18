"""Which class each column of an output stands for, where an ONNX file says so.

A classifier's columns follow its own order of classes (scikit-learn sorts them: `fraud`, `legit`), so a column's number
alone does not tell what it is the probability of. Exporters write the classes down in one of three places: in a ZipMap
behind the probabilities, in the table from which the predicted label is taken, or in the classifier's operator. The
first of them that says anything counts.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Classes = tuple[str | int, ...]
"""The class of each column."""
Labels = tuple[tuple[Classes, ...], ...]
"""The lists of classes that a file gives for one output: place by place, the one to be believed first at the start."""

STRINGS, INTEGERS = 8, 7
"""TensorProto.DataType."""


def class_labels(graph: Any) -> Mapping[str, Labels]:
    """Return the classes of each output of a graph that the file names classes for."""
    makers = {name: node for node in graph.node for name in node.output}
    tables = _tables(graph)
    predicted = [
        value.name
        for value in graph.output
        if value.type.WhichOneof("value") == "tensor_type" and value.type.tensor_type.elem_type in (STRINGS, INTEGERS)
    ]
    of_label = _distinct(labels for name in predicted for labels in _of_label(name, makers, tables))
    found: dict[str, Labels] = {}
    for value in graph.output:
        if value.name in predicted:
            continue
        zipmap = makers.get(value.name)
        own = _attribute_labels(zipmap) if zipmap is not None and zipmap.op_type == "ZipMap" else None
        upstream = _distinct(_attribute_labels(node) for node in _upstream(value.name, makers))
        labels = [places for places in (_distinct([own]), of_label, upstream) if places]
        if labels:
            found[value.name] = tuple(labels)
    return found


def fitting(labels: Labels, columns: int) -> tuple[Classes, ...]:
    """Return the lists of as many classes as there are columns, from the first place that has any."""
    fit = (tuple(classes for classes in place if len(classes) == columns) for place in labels)
    return next((found for found in fit if found), ())


def _distinct(labels: Iterable[Classes | None]) -> tuple[Classes, ...]:
    return tuple(dict.fromkeys(classes for classes in labels if classes is not None))


def _tables(graph: Any) -> Mapping[str, Classes]:
    """Return the constant lists of strings and integers of a graph, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], one.t) for one in node.attribute if one.name == "value")
    return {name: values for name, tensor in tensors.items() if (values := _values(tensor)) is not None}


def _values(tensor: Any) -> Classes | None:
    if tensor.data_type == STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in tensor.string_data)
    if tensor.data_type == INTEGERS:
        raw = tensor.raw_data
        numbers = [int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8)]
        return tuple(tensor.int64_data) or tuple(numbers)
    return None


def _attribute_labels(node: Any) -> Classes | None:
    """Return the classes that a classifier or a ZipMap has written into it."""
    for one in node.attribute:
        if one.name == "classlabels_strings" and one.strings:
            return tuple(text.decode("utf-8", "replace") for text in one.strings)
        if one.name in ("classlabels_int64s", "classlabels_ints") and one.ints:
            return tuple(one.ints)
    return None


def _of_label(name: str, makers: Mapping[str, Any], tables: Mapping[str, Classes]) -> Iterator[Classes]:
    """Yield the classes that a predicted label is taken from: the nearest table or classifier on each way to it."""
    waiting, seen = [name], set[str]()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        labels = _attribute_labels(node)
        if node.op_type in ("ArrayFeatureExtractor", "Gather", "GatherElements") and node.input[0] in tables:
            labels = tables[node.input[0]]
        if labels is not None:
            yield labels
        else:
            waiting += [one for one in node.input if one]


def _upstream(name: str, makers: Mapping[str, Any]) -> Iterator[Any]:
    waiting, seen = [name], set[str]()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            yield node
            waiting += [one for one in node.input if one]
