"""What differs inside of a predictor, in words: experts, corrections, aggregation, bounds; its maps are told elsewhere.

expert cards-2026q3 new; correction of cards-2026q2: beta 0.1 -> 0.2; aggregation mean -> max
"""

from collections.abc import Iterator, Mapping

from muse_stream.config import (
    AggregateNode,
    ClipNode,
    CorrectionNode,
    ModelNode,
    PredictorGraph,
    PriorCorrectionNode,
    RecalibrationNode,
)


def inside(old: PredictorGraph, new: PredictorGraph) -> list[str]:
    """Return what differs; nothing where only the names of nodes do, or what lies behind a name."""
    was, now = dict(_parts(old)), dict(_parts(new))
    return [
        f"{part} {'gone' if part not in now else 'new' if part not in was else ''}".rstrip()
        if not (was.get(part) or now.get(part))
        else f"{part} {was.get(part) or 'none'} -> {now.get(part) or 'none'}"
        for part in dict.fromkeys([*now, *was])
        if was.get(part) != now.get(part)
    ]


def _parts(graph: PredictorGraph) -> Iterator[tuple[str, str]]:
    """Yield what each node is called, and what it says; a model says nothing but that it is there."""
    nodes = graph.nodes
    several = sum(isinstance(node, AggregateNode) for node in nodes.values()) > 1
    for name, node in nodes.items():
        of = _called(nodes, node.sources[0]) if node.sources else ""
        match node:
            case ModelNode():
                yield f"expert {node.model}", ""
            case CorrectionNode():
                yield f"correction of {of}: beta", f"{node.beta:g}"
            case PriorCorrectionNode():
                shares = {"": node.prior, **node.tenants}
                told = ", ".join(f"{who} {share:g}".strip() for who, share in shares.items() if share is not None)
                yield f"share of positives of {of}:", f"{told} (trained {node.trained:g})"
            case RecalibrationNode():
                curves = {"": node.default, **node.tenants}
                told = ", ".join(f"{who} {curve}".strip() for who, curve in curves.items() if curve is not None)
                yield f"recalibration of {of}:", told
            case AggregateNode():
                weights = node.weights or ()
                told = f" of weights {', '.join(f'{one:g}' for one in weights)}" if len({*weights}) > 1 else ""
                yield f"aggregation{f' {name}' if several else ''}", f"{node.how or node.model}{told}"
            case ClipNode():
                yield "bounds", f"{node.low:g} to {node.high:g}"


def _called(nodes: Mapping[str, object], name: str) -> str:
    node = nodes[name]
    return node.model if isinstance(node, ModelNode) else name
