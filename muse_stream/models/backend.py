"""Which of two backends runs a model: onnxruntime alone, or native code for its trees.

Native code answers as onnxruntime does, in every bit, and is several times faster. It is chosen where a file's answer
comes from one tree ensemble whose rules are known (`compiled/`); onnxruntime still runs what comes before and after the
trees. Before it serves, it is compared with onnxruntime on rows that stand on the file's own thresholds: where a bit
differs, because another version computes in another way, onnxruntime runs it all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream import environment
from muse_stream.errors import ConfigError, ModelError
from muse_stream.models.compiled import Branch, Cut, Ensemble, NotCompiledError, cut, read_ensemble
from muse_stream.models.constants import Constants
from muse_stream.models.session import BLOCK_ROWS, CHUNK_ROWS, Backend, OnnxModel, Session, padded, part_session
from muse_stream.models.signature import Bound
from muse_stream.models.warmup import fitting_type
from muse_stream.scoring import ModelInput

ROWS = 1024
"""Rows on which the two backends are compared."""
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(int32)": "int32"}


def choose_backend(model: OnnxModel, parsed: Any, bound: Bound, known: Constants) -> None:
    """Let native code run a model where that is wanted and possible; `model.backend` says what was decided, and why.

    Raises ModelError where the configuration wants native code that the file rules out.
    """
    wanted = model.binding.backend
    if wanted == "onnxruntime":
        model.backend = Backend("onnxruntime", "`backend: auto` compiles trees")
        return
    try:
        runner, what = _compiled(model, parsed, bound, known)
    except NotCompiledError as error:
        if wanted == "compiled":
            raise ModelError(
                f"backend: it cannot be compiled: {error}; `backend: auto` has onnxruntime run it"
            ) from None
        model.backend = Backend("onnxruntime", str(error))
    except _NotHereError as error:  # the same bits by onnxruntime: nothing to refuse
        model.backend = Backend("onnxruntime", str(error), lacking=True)
    else:
        model.run_by(runner, Backend("compiled", what))


class _NotHereError(Exception):
    """Why what can be compiled is not, in this process: nothing is wrong with the file."""


def _compiled(model: OnnxModel, parsed: Any, bound: Bound, known: Constants) -> tuple["_Split", str]:
    parts = cut(parsed, model.binding.output)
    if model.one_by_one:
        raise NotCompiledError("its rows are run one by one")
    if bound.batch is not None:
        raise NotCompiledError("it takes a fixed number of rows")
    before, table = _before(parts, bound)
    plain = _rows(bound, None, known)
    try:
        width = table.width if before is None else before.run([array[:BLOCK_ROWS] for array in plain]).shape[-1]
    except RuntimeError:
        raise NotCompiledError("what comes before the trees cannot answer made-up rows") from None
    ensemble = read_ensemble(parts.node, parts.place, width, double=table.dtype == np.float64)
    split = _Split(before, _trees(ensemble), _after(parts, ensemble))
    _compare(model, split, _rows(bound, ensemble if before is None else None, known))
    return split, f"{len(ensemble.trees):,} trees, {ensemble.nodes:,} nodes"


def _before(parts: Cut, bound: Bound) -> tuple[Session | None, ModelInput]:
    """Return what makes the trees' table, and the table; None where the table is an input of the file."""
    if parts.before is None:
        table = next(port for port in bound.inputs if port.name == parts.table)
        if len(bound.inputs) > 1 or table.name in bound.flat:
            raise NotCompiledError("its trees do not take a table of all inputs")
        kind = table.dtype.name
    else:
        session, type_name = part_session(parts.before.SerializeToString(), bound, parts.table)
        table, kind = ModelInput(parts.table, 0, np.dtype(np.float32)), TYPES.get(type_name, type_name)
    if kind not in TYPES.values():
        raise NotCompiledError(f"its trees take {kind}")
    # Integers are compared as floats of single precision, by onnxruntime too.
    dtype = np.dtype(np.float64 if kind == "float64" else np.float32)
    return (None if parts.before is None else session), ModelInput(table.name, table.width, dtype)


def _after(parts: Cut, ensemble: Ensemble) -> Session | None:
    if parts.after is None:
        return None
    port = ModelInput(parts.answer, ensemble.columns, np.dtype(np.float32))
    if ensemble.double_answer:
        raise NotCompiledError("its trees answer doubles to what comes after them")
    data = parts.after.SerializeToString()
    return part_session(data, Bound((port,), frozenset(), None), parts.after.graph.output[0].name)[0]


def _trees(ensemble: Ensemble) -> Any:
    try:
        from muse_stream.models.compiled.trees import CompiledTrees  # noqa: PLC0415  # brings llvmlite
    except ImportError as error:
        raise _NotHereError(f"llvmlite cannot be imported ({error}): pip install 'muse-stream[compiled]'") from None
    try:
        return CompiledTrees(ensemble, _cache())
    except (RuntimeError, OSError) as error:
        raise _NotHereError(f"the compiler failed: {error}") from error


def _cache() -> Path | None:
    try:
        return environment.code_cache_dir()
    except ConfigError:  # no home folder, or a variable that other parts refuse in better words
        return None


class _Split:
    """Runs a file in up to three parts: onnxruntime, native code, onnxruntime."""

    used = CHUNK_ROWS

    def __init__(self, before: Session | None, trees: Any, after: Session | None) -> None:
        self._before, self._trees, self._after = before, trees, after

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer at most `used` rows, in whole blocks; raises RuntimeError."""
        table = inputs[0] if self._before is None else self._before.run(inputs)
        answer = self._trees.answer(table)
        # Whole blocks, for numpy's vectorised loops, too: they go over the answer next.
        return padded(answer, BLOCK_ROWS) if self._after is None else self._after.run([answer])


def _compare(model: OnnxModel, split: _Split, rows: Sequence[NDArray[Any]]) -> None:
    """See that both give the same bits."""
    try:
        one = model.raw(rows)
    except RuntimeError:
        raise NotCompiledError("onnxruntime cannot answer made-up rows to compare with") from None
    try:
        other = split.run(rows)
    except RuntimeError as error:
        raise _NotHereError(f"compiled code fails: {error}") from error
    if one.shape == other.shape and one.dtype == other.dtype:
        missing = np.isnan(one)
        whole = np.dtype(f"i{one.dtype.itemsize}")
        same = (one.view(whole) == other.view(whole)) | missing
        if (missing == np.isnan(other)).all() and same.all():
            return
    raise _NotHereError("compiled code does not give this onnxruntime's bits")


def _rows(bound: Bound, ensemble: Ensemble | None, known: Constants) -> list[NDArray[Any]]:
    """Make up rows: on and beside thresholds, missing, infinite, zero, denormal; of other types what they can hold."""
    random = np.random.default_rng(20261126)
    return [_column_by_column(port, ensemble, known, random) for port in bound.inputs]


def _column_by_column(
    port: ModelInput, ensemble: Ensemble | None, known: Constants, random: np.random.Generator
) -> NDArray[Any]:
    if port.dtype.kind != "f":
        return fitting_type(random.integers(0, 9, (ROWS, port.width)).astype(np.float64), port.dtype, known)
    own = _thresholds(ensemble, port.width)
    limits = np.finfo(port.dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, limits.smallest_subnormal, limits.max, 0.5, 1.5]
    columns = []
    for column in range(port.width):
        with np.errstate(over="ignore"):
            at = np.array(own[column] or known.thresholds or (0.0, 1.0)).astype(port.dtype)
        beside = np.concatenate([at, np.nextafter(at, port.dtype.type(np.inf)), np.nextafter(at, -at - 1)])
        values = random.choice(beside, ROWS)
        values = np.where(random.random(ROWS) < 0.1, random.choice(np.array(special, dtype=port.dtype), ROWS), values)
        columns.append(values)
    return np.stack(columns, axis=1).astype(port.dtype)


def _thresholds(ensemble: Ensemble | None, width: int) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in range(width)]
    for tree in ensemble.trees if ensemble is not None else ():
        for node in tree:
            if isinstance(node, Branch):
                found[node.feature].append(node.threshold)
    return found
