"""A loaded model that answers batches (the one module that imports `onnxruntime`).

Takes one array `[N, width]` for each bound input, of the input's type; returns float64 `[N]`, the probability of the
positive class.

Invariant: the same row gives the same bits in any batch. On one thread onnxruntime keeps this but for two cases, both
measured: a single row takes another kernel (linear classifiers differ in the last bit), and the rows left over at the
end of a vectorised loop another instruction (double networks do). So every run gets full blocks of rows, and of a model
that takes a fixed number of rows only those are used that fill blocks; where none does, the first. A third case is
found by the probe rows: some operators (ReduceLogSumExp over three classes) start each row at an address of its own
alignment. Such a model is run row by row.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.answer import FLOAT_ERROR, Reading, columns_of
from muse_stream.models.artifact import Artifact
from muse_stream.models.labels import Classes, fitting
from muse_stream.models.signature import Bound, Signature, check_dimensions
from muse_stream.scoring import ModelInput

# Before the import: since 1.32 it starts a thread that looks for a telemetry host, and workers are forked after it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

CHUNK_ROWS = 4096
"""Rows given to the runtime at once: bounds the memory of hidden layers; larger chunks are no faster."""

BLOCK_ROWS = 16
"""Every run is a multiple of this: 16 floats fill the widest vector register (AVX-512), so no row is left over."""

PLACE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : ")
SOURCE = re.compile(r"\S*/onnxruntime/\S+ (?:\S+ )*?(?:\S*::\S*\([^()]*\) ?)?")
IR_VERSION = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
OPSET = re.compile(r"Opset (\d+) is under development.*?domain (\S+) is till opset (\d+)", re.DOTALL)
NO_KERNEL = re.compile(r"NOT_IMPLEMENTED : Could not find an implementation for (\w+)\((\d+)\)")
LONGEST = 1000
"""Characters of a refusal that are shown: the runtime says last what is wrong."""


class Session:
    """The runtime's session of one file: runs batches of any number of rows in the sizes that keep the bits."""

    def __init__(self, session: Any, bound: Bound, output: str) -> None:
        self._session = session
        self._output = output
        self._names = tuple(port.name for port in bound.inputs)
        self._flat = tuple(port.name in bound.flat for port in bound.inputs)
        self.block = bound.batch or BLOCK_ROWS
        """Every run has a multiple of so many rows."""
        self.used = CHUNK_ROWS if bound.batch is None else max(bound.batch // BLOCK_ROWS * BLOCK_ROWS, 1)
        """Rows of a run that are not padding, at most."""
        self._fixed = bound.batch is not None

    def one_by_one(self) -> None:
        """From now on, run each row alone, always in the same place."""
        self.used = 1
        if not self._fixed:
            self.block = 1

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer at most `used` rows; raises RuntimeError with a short message free of feature values."""
        whole = [padded(array, self.block) for array in inputs]
        rows = len(whole[0])
        arrays = [array[:, 0] if flat else array for array, flat in zip(whole, self._flat, strict=True)]
        try:
            answer: NDArray[Any] = self._session.run([self._output], dict(zip(self._names, arrays, strict=True)))[0]
        except Exception as error:  # the runtime's exceptions share no base class but this one
            raise RuntimeError(short_message(error)) from error
        if answer.ndim not in (1, 2) or len(answer) != rows:  # else numpy would stretch one answer over all rows
            raise RuntimeError(f"the model answered shape {list(answer.shape)} for {rows} rows")
        return answer


class Runner(Protocol):
    """What runs batches: onnxruntime's session of the whole file, or what gives the same bits faster."""

    used: int
    """Most rows of a run."""

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer at most `used` rows, in whole blocks; raises RuntimeError."""


class Backend(Struct, frozen=True):
    """What runs a model, for a person."""

    name: str
    """`onnxruntime` or `compiled`."""
    why: str = ""
    """Why not the other one, or what was compiled."""
    lacking: bool = False
    """Whether the file could be compiled, and this process cannot do it: the answers are the same, and slower."""


class OnnxModel:
    """One ONNX file under one binding, loaded and ready; implements `scoring.Model`. Safe to share between threads."""

    def __init__(self, artifact: Artifact, bound: Bound, binding: Signature, session: Session) -> None:
        self.sha256 = artifact.sha256
        self.size = artifact.size
        self.inputs: tuple[ModelInput, ...] = bound.inputs
        self.binding = binding
        self._labels = artifact.labels.get(binding.output, ())
        self.constant: float | None = None
        """The answer to every probe row, if there was but one."""
        kind = next(port.kind for port in artifact.outputs if port.name == binding.output)
        self.float_error = FLOAT_ERROR["double" if binding.link else kind] if kind in FLOAT_ERROR else 0.0
        """How far outside [0, 1] an answer is a probability still, and the rest is rounding."""
        self.one_by_one = False
        """Whether each row is run alone, which costs some 10 microseconds a row."""
        self.backend = Backend("onnxruntime")
        """What runs it."""
        self._session: Runner = session
        self._reading = Reading((0,), binding.link, binding.scale)
        self.classes: Classes | None = None
        """The class of each of the output's columns, where the file names them."""

    def __repr__(self) -> str:
        return f"OnnxModel({self.sha256[:12]}, {', '.join(f'{port.name}[N, {port.width}]' for port in self.inputs)})"

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of the output that make the probability."""
        return self._reading.columns

    def run_one_by_one(self) -> None:
        """Run each row alone from now on: for a model in which a row's last bits depend on its place in the batch."""
        assert isinstance(self._session, Session)  # noqa: S101  # it is found out before anything else may run it
        self.one_by_one = True
        self._session.one_by_one()

    def run_by(self, runner: Runner, backend: Backend) -> None:
        """From now on, let something else run it that gives the same bits."""
        self._session, self.backend = runner, backend

    def raw(self, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return what the file itself answers to at most 4,096 rows; raises RuntimeError."""
        return self._session.run(inputs)

    def choose_columns(self, shape: Sequence[int]) -> None:
        """Find the positive columns of an output of this shape; raises ModelError when the binding fits none."""
        binding = self.binding
        name = f"{binding.output} {list(shape)}"
        check_dimensions(name, len(shape))
        columns = shape[1] if len(shape) == 2 else 1
        named = fitting(self._labels, columns)
        self.classes = named[0] if len(named) == 1 else None
        labels = self._labels if len(shape) == 2 else ()  # of one class's own vector they tell nothing
        chosen = columns_of(binding.positive, labels, columns, name, softmax=binding.link == "softmax")
        self._reading = Reading(chosen, binding.link, binding.scale)

    def predict(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Probability of the positive class for each row.

        `inputs`: one `[N, width]` array for each of `self.inputs`, in that order and of that dtype.
        Raises RuntimeError, with a short message free of feature values, when the runtime cannot answer.
        """
        session = self._session  # another thread may exchange it
        rows, step = len(inputs[0]), session.used
        answer = np.empty(rows, dtype=np.float64)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            # Read before it is cut: numpy's vectorised loops keep the bits in full blocks, too.
            read = self._reading.probability(session.run([array[start:stop] for array in inputs]))
            answer[start:stop] = read[: stop - start]
        return answer

    def answer_shape(self, inputs: Sequence[NDArray[Any]]) -> tuple[int, ...]:
        """Shape of what the file itself answers, before a column is taken (used once, at load)."""
        return tuple(self._session.run([array[: self._session.used] for array in inputs]).shape)


def open_session(runnable: bytes, artifact: Artifact, bound: Bound, binding: Signature) -> OnnxModel:
    """Load checked bytes into the runtime; raises ModelError when it refuses them."""
    session, _ = part_session(runnable, bound, binding.output)
    return OnnxModel(artifact, bound, binding, session)


def part_session(data: bytes, bound: Bound, output: str) -> tuple[Session, str]:
    """Load a file, or a part of one; returns its session and the runtime's name for the output's type.

    Raises ModelError when the runtime refuses it.
    """
    try:
        session = onnxruntime.InferenceSession(data, sess_options=_options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ModelError(f"onnxruntime refuses the model: {refusal(str(error))}") from error
    return Session(session, bound, output), next(one.type for one in session.get_outputs() if one.name == output)


def inner_session(model: Any, bound: Bound, tensors: Sequence[str]) -> Callable[[Sequence[NDArray[Any]]], list[Any]]:
    """Load a parsed file, unoptimised, so that it gives its inner tensors; raises ModelError.

    What is returned takes a batch as it is (no padding) and raises RuntimeError when it cannot be answered.
    """
    given = {value.name for value in model.graph.output}
    for name in tensors:
        if name not in given:
            model.graph.output.add().name = name  # the runtime finds the type
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as above
        raise ModelError(f"onnxruntime refuses the model: {refusal(str(error))}") from error

    def run(inputs: Sequence[NDArray[Any]]) -> list[Any]:
        arrays = (
            array[:, 0] if port.name in bound.flat else array for port, array in zip(bound.inputs, inputs, strict=True)
        )
        feed = dict(zip((port.name for port in bound.inputs), arrays, strict=True))
        try:
            return list(session.run(list(tensors), feed))
        except Exception as error:  # as above
            raise RuntimeError(short_message(error)) from error

    return run


def check_answer(model: OnnxModel, inputs: Sequence[NDArray[Any]]) -> None:
    """Look at a model's first real answer, and find in it the positive columns; raises ModelError."""
    try:
        shape = model.answer_shape(inputs)
    except RuntimeError as error:
        raise ModelError(f"the model cannot answer a batch of {len(inputs[0])} plain rows: {error}") from error
    model.choose_columns(shape)


def padded(array: NDArray[Any], block: int) -> NDArray[Any]:
    """The array itself when its rows fill whole blocks, else a copy padded with its last row (always a legal one)."""
    missing = -len(array) % block
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def short_message(error: Exception) -> str:
    """The runtime's message without its prefix and without its status text, which can quote input values."""
    text = PLACE.sub("", str(error).partition("Status Message")[0])
    return " ".join(text.split())[:200] or type(error).__name__


def refusal(message: str) -> str:
    """Return why the runtime does not load a file, and what would be right where that is known."""
    version = f"this onnxruntime ({onnxruntime.__version__})"
    if found := IR_VERSION.search(message):
        return (
            f"the file has IR version {found[1]}, {version} takes up to {found[2]}: export with an older onnx, or set "
            f"`model.ir_version = {found[2]}` before saving, or install a newer onnxruntime"
        )
    if found := OPSET.search(message):
        return (
            f"the file has opset {found[1]} of {found[2]}, {version} takes up to {found[3]}: export with "
            f"target_opset={found[3]} (torch: opset_version={found[3]}), or install a newer onnxruntime"
        )
    if found := NO_KERNEL.search(message):
        return f"{version} cannot run the operator {found[1]} (version {found[2]}) on a processor: {_plain(message)}"
    return _plain(message)


def _plain(message: str) -> str:
    """Return a message without the prefix and the places in the runtime's source, its end kept if it is long."""
    text = " ".join(SOURCE.sub("", PLACE.sub("", message)).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    # One thread: scale-out is by worker processes, and sums then have one order.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A memory pattern would be kept for every distinct batch size, and batches come in every size.
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # faults come as exceptions; the runtime's own stderr lines stay out of the logs
    options.add_session_config_entry("session.load_model_format", "ONNX")  # never guess: ONNX is what was checked
    return options
