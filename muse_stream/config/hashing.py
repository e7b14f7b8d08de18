"""Content hashes: what a document, or a part of a predictor, *is*, independent of names and layout.

SHA-256 in hexadecimal over canonical JSON: keys sorted, no spaces, floats as their shortest round-trip text, NaN
refused.

Invariant: `pre_map_hash` changes exactly when the value that reaches the quantile map can change: models by their
bytes, inputs, category tables, betas, priors, recalibrations, aggregation. Names of models, nodes and predictors,
version numbers and file names do not count.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from muse_stream.config.document import Document
from muse_stream.config.graph import (
    AggregateNode,
    ClipNode,
    CorrectionNode,
    MapNode,
    ModelNode,
    PredictorGraph,
    PriorCorrectionNode,
    RecalibrationNode,
)
from muse_stream.config.model import FeatureSpec, OutputSpec
from muse_stream.config.recalibration import RecalibrationSpec
from muse_stream.config.reference import MapSpec

NO_CONTENT = {"file", "fitted_on", "own_share", "format"}
"""What says where a map comes from, and not what it does."""


def content_hash(content: object) -> str:
    """Return the SHA-256 of `content` (a document class, or plain data) as canonical JSON. ValueError on NaN."""
    plain = content.model_dump(mode="json", by_alias=True) if isinstance(content, BaseModel) else content
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def pre_map_hash(document: Document, predictor_name: str, node: str | None = None) -> str:
    """Return what `fitted_for` of a map must equal: the content hash of everything up to the map's input.

    `node` names a quantile_map or recalibration node of the predictor's graph (`quantile_map` in the short form);
    without it, the map nearest the output is meant, or the output itself of a predictor that has no map yet.
    KeyError when the predictor, the node, or anything they name does not exist.
    """
    graph = document.predictors[predictor_name].graph()
    if node is None:
        return _node_hash(document, graph, graph.pre_map_node())
    chosen = graph.nodes[node]
    if not isinstance(chosen, MapNode | RecalibrationNode):
        raise KeyError(f"{node} is no quantile_map and no recalibration")
    return _node_hash(document, graph, chosen.input)


def predictor_hash(document: Document, predictor_name: str) -> str:
    """Return the content hash of a predictor without its quantile maps, which may be fitted anew under one version."""
    graph = document.predictors[predictor_name].graph()
    return _node_hash(document, graph, graph.output, mapped=False)


def _node_hash(document: Document, graph: PredictorGraph, top: str, *, mapped: bool = True) -> str:
    hashes: dict[str, str] = {}
    needed = graph.upstream(top)
    for name in graph.order():
        if name in needed:
            node = graph.nodes[name]
            if isinstance(node, MapNode) and not mapped:
                hashes[name] = hashes[node.input]
            else:
                hashes[name] = content_hash(_node_content(document, graph, name, hashes))
    return hashes[top]


def _node_content(document: Document, graph: PredictorGraph, name: str, hashes: dict[str, str]) -> dict[str, Any]:
    match graph.nodes[name]:
        case ModelNode(model=model):
            return {"model": _model_content(document, model)}
        case CorrectionNode(input=source, beta=beta):
            return {"posterior_correction": {"input": hashes[source], "beta": beta}}
        case AggregateNode() as node:
            rule = node.how if node.model is None else _model_content(document, node.model)
            return {"aggregate": rule, "inputs": [hashes[source] for source in node.inputs], "weights": node.weights}
        case ClipNode(input=source, low=low, high=high):
            return {"clip": {"input": hashes[source], "low": low, "high": high}}
        case PriorCorrectionNode() | RecalibrationNode() as node:
            return _of_tenants(document, node, hashes[node.input])
        case MapNode(input=source) as node:
            maps = _chosen(document.maps, node)
            reference = document.references[node.reference].model_dump(mode="json")
            return {"quantile_map": {"input": hashes[source], "reference": reference, "maps": maps}}


def _of_tenants(document: Document, node: PriorCorrectionNode | RecalibrationNode, source: str) -> dict[str, Any]:
    if isinstance(node, PriorCorrectionNode):
        return {"prior_correction": {**node.model_dump(exclude={"input"}), "input": source}}
    return {"recalibration": {"input": source, "curves": _chosen(document.recalibrations, node)}}


def _chosen(section: Mapping[str, MapSpec | RecalibrationSpec], node: MapNode | RecalibrationNode) -> dict[str, str]:
    """Return the content of what each tenant uses; `*` is any other."""
    return {
        tenant: content_hash(section[name].model_dump(exclude=NO_CONTENT))
        for tenant, name in {"*": node.default, **node.tenants}.items()
        if name is not None
    }


def _model_content(document: Document, name: str) -> dict[str, Any]:
    model = document.models[name]
    return {
        **({} if model.data is None else {"data": model.data.sha256}),
        "sha256": model.sha256,
        # A list keeps the order of features; the order of named inputs means nothing, so a mapping is right for them.
        "inputs": {
            key: [_binding(document, feature) for feature in features] for key, features in model.inputs.items()
        },
        "output": _output_content(model.output),
    }


def _output_content(output: OutputSpec) -> dict[str, Any]:
    """Return what is read from a model's answer; keys that are left out do not count, so a new key changes no hash."""
    classes = output.model_dump(exclude_none=True).pop("positive", (1,))
    content: dict[str, Any] = {"name": output.name, "positive": classes[0] if len(classes) == 1 else classes}
    if output.link is not None:
        content["link"] = output.link
    if output.scale is not None:
        content["scale"] = output.scale
    return content


def _binding(document: Document, feature: FeatureSpec) -> dict[str, Any]:
    table = None if feature.categories is None else document.categories[feature.categories]
    return {**feature.model_dump(), "categories": table}
