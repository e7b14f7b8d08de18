"""A loaded model that answers batches (the one module that imports `onnxruntime`).

Takes float, double, int64 or bool arrays `[N, width]`, one for each bound input; returns float64 `[N]`, the probability
of the positive class.

Invariant: the same row gives the same bits in any batch. On one thread onnxruntime keeps this but for two cases, both
measured: a single row takes another kernel (linear classifiers differ in the last bit), and the rows left over at the
end of a vectorised loop another instruction (double networks do). So every run gets full blocks of rows.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.artifact import Artifact
from muse_stream.models.signature import Signature, check_columns
from muse_stream.scoring import ModelInput

# Before the import: since 1.32 it starts a thread that looks for a telemetry host, and workers are forked after it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

CHUNK_ROWS = 4096
"""Rows given to the runtime at once: bounds the memory of hidden layers; larger chunks are no faster."""

BLOCK_ROWS = 16
"""Every run is a multiple of this: 16 floats fill the widest vector register (AVX-512), so no row is left over."""


class OnnxModel:
    """One ONNX file under one binding, loaded and ready; implements `scoring.Model`. Safe to share between threads."""

    def __init__(self, artifact: Artifact, inputs: tuple[ModelInput, ...], binding: Signature, session: Any) -> None:
        self.sha256 = artifact.sha256
        self.size = artifact.size
        self.inputs = inputs
        self.binding = binding
        self._session = session
        self._names = tuple(port.name for port in inputs)

    def __repr__(self) -> str:
        return f"OnnxModel({self.sha256[:12]}, {', '.join(f'{port.name}[N, {port.width}]' for port in self.inputs)})"

    def predict(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Probability of the positive class for each row.

        `inputs`: one `[N, width]` array for each of `self.inputs`, in that order and of that dtype.
        Raises RuntimeError, with a short message free of feature values, when the runtime cannot answer.
        """
        rows = len(inputs[0])
        answer = np.empty(rows, dtype=np.float64)
        for start in range(0, rows, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, rows)
            chunk = [whole_blocks(array[start:stop]) for array in inputs]
            answer[start:stop] = self._run(chunk, len(chunk[0]))[: stop - start]
        return answer

    def _run(self, inputs: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
        feed = dict(zip(self._names, inputs, strict=True))
        try:
            result = self._session.run([self.binding.output], feed)[0]
        except Exception as error:  # the runtime's exceptions share no base class but this one
            raise RuntimeError(short_message(error)) from error
        if result.ndim not in (1, 2) or len(result) != rows:  # else numpy would stretch one answer over all rows
            raise RuntimeError(f"the model answered shape {result.shape} for {rows} rows")
        return result if result.ndim == 1 else result[:, self.binding.positive]  # type: ignore[no-any-return]

    def answer_shape(self, inputs: Sequence[NDArray[Any]]) -> tuple[int, ...]:
        """Shape of what the file itself answers, before a column is taken (used once, at load)."""
        feed = dict(zip(self._names, inputs, strict=True))
        try:
            return tuple(self._session.run([self.binding.output], feed)[0].shape)
        except Exception as error:  # as above
            raise RuntimeError(short_message(error)) from error


def open_session(data: bytes, artifact: Artifact, inputs: tuple[ModelInput, ...], binding: Signature) -> OnnxModel:
    """Load checked bytes into the runtime; raises ModelError when it refuses them."""
    try:
        session = onnxruntime.InferenceSession(data, sess_options=_options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ModelError(f"onnxruntime refuses the model: {short_message(error)}") from error
    return OnnxModel(artifact, inputs, binding, session)


def check_answer(model: OnnxModel, inputs: Sequence[NDArray[Any]]) -> None:
    """Refuse a model whose first real answer has not the shape of a probability; raises ModelError."""
    try:
        shape = model.answer_shape(inputs)
    except RuntimeError as error:
        raise ModelError(f"the model cannot answer a batch of {len(inputs[0])} plain rows: {error}") from error
    name = f"{model.binding.output} {list(shape)}"
    check_columns(name, len(shape), shape[1] if len(shape) == 2 else None, model.binding.positive)
    if shape[0] != len(inputs[0]):
        raise ModelError(f"output {name}: {len(inputs[0])} rows were asked")


def whole_blocks(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself when its rows fill whole blocks, else a copy padded with its last row (always a legal one)."""
    missing = -len(array) % BLOCK_ROWS
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def short_message(error: Exception) -> str:
    """The runtime's message without its prefix and without its status text, which can quote input values."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", str(error).partition("Status Message")[0])
    return " ".join(text.split())[:200] or type(error).__name__


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
