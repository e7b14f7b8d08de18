"""Predictor graphs: missing nodes, cycles, unreachable nodes, number of inputs of meta-models.

Every cycle and every missing node of every predictor is reported. A node that the output does not depend on is an
error, because it would cost time at every event and change nothing.
"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from muse_stream.config.expected import nearest
from muse_stream.config.graph import AggregateNode, PredictorGraph
from muse_stream.config.predictor import GraphPredictor
from muse_stream.config.structure import Draft
from muse_stream.errors import Problem


def graph_problems(draft: Draft) -> Iterator[Problem]:
    """Yield a problem for every mistake in a graph or in the use of a meta-model."""
    for name, predictor in draft.document.predictors.items():
        if isinstance(predictor, GraphPredictor):
            yield from _graph(draft, name, predictor)
        yield from _meta_arity(draft, name)
    yield from _meta_roles(draft)


def _graph(draft: Draft, name: str, predictor: GraphPredictor) -> Iterator[Problem]:
    graph = predictor.graph()
    for node, spec in graph.nodes.items():
        step = "inputs" if isinstance(spec, AggregateNode) else "input"
        for position, source in enumerate(spec.sources):
            if source not in graph.nodes:
                path = ("predictors", name, *predictor.where(node), step, position)
                yield draft.problem(path, f"no node '{source}'", nearest(source, graph.nodes))
    if graph.output not in graph.nodes:
        hint = nearest(graph.output, graph.nodes)
        yield draft.problem(("predictors", name, "output"), f"no node '{graph.output}'", hint)
        return
    yield from _cycles(draft, name, graph)
    for node in graph.nodes.keys() - graph.upstream(graph.output):
        message = f"the output '{graph.output}' does not depend on this node"
        yield draft.problem(("predictors", name, "nodes", node), message, "remove it, or let a node on the way read it")


def _cycles(draft: Draft, name: str, graph: PredictorGraph) -> Iterator[Problem]:
    sources = {node: set(spec.sources) for node, spec in graph.nodes.items()}
    while True:
        try:
            TopologicalSorter(sources).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1]
            first = min(cycle[:-1])
            start = cycle.index(first)
            way = " -> ".join([*cycle[start:-1], *cycle[:start], first])
            yield draft.problem(
                ("predictors", name, "nodes", first),
                f"the nodes read each other in a cycle: {way}",
                "cut one of the inputs",
            )
            # Cut one edge of it, so that the next cycle, if there is one, shows.
            sources[cycle[1]].discard(cycle[0])
        else:
            return


def _meta_arity(draft: Draft, name: str) -> Iterator[Problem]:
    predictor = draft.document.predictors[name]
    for node, spec in predictor.graph().nodes.items():
        if not isinstance(spec, AggregateNode) or spec.model is None:
            continue
        model = draft.document.models.get(spec.model)
        if model is not None and len(model.features()) != len(spec.inputs):
            yield draft.problem(
                ("predictors", name, *predictor.where(node), "model"),
                f"meta-model '{spec.model}' reads {len(model.features())} scores, but {len(spec.inputs)} are given",
                "give it one feature per aggregated score, in their order",
            )


def _meta_roles(draft: Draft) -> Iterator[Problem]:
    graphs = draft.document.graphs().values()
    experts = {model for graph in graphs for model in graph.experts()}
    for name in sorted(draft.document.meta_models()):
        model = draft.document.models.get(name)
        if name in experts:
            yield draft.problem(
                ("models", name),
                "is used as an expert and as a meta-model",
                "an expert reads event fields, a meta-model reads scores: declare two models",
            )
        if model is None:
            continue
        for tensor, features in model.inputs.items():
            for position, feature in enumerate(features):
                if feature.default is not None or feature.required or feature.categories is not None:
                    yield draft.problem(
                        ("models", name, "inputs", tensor, position),
                        "a meta-model reads scores: default, required and categories mean nothing",
                        "give the name alone",
                    )
