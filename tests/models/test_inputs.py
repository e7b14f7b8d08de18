"""What can be fed: strings, vectors, small types, fixed numbers of rows, tensors in another file; what is said else."""

import gc
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from muse_stream.errors import ModelError
from muse_stream.models import describe, load_model
from muse_stream.models import load as loading
from tests.models.onnx_factory import LIMIT, file, linear, load, port, proto, rows, spec_of, weights

F = TensorProto.FLOAT
COUNTRIES = np.array(["DE", "FR", "IT"])


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        TargetEncoder(),
    ],
    ids=["one-hot", "ordinal", "target"],
)
def test_strings_reach_the_encoders_of_a_pipeline(encoder: Any) -> None:
    random = np.random.default_rng(1)
    table = np.column_stack([COUNTRIES[random.integers(0, 3, 500)], COUNTRIES[random.integers(0, 3, 500)]]).astype(
        object
    )
    pipeline = make_pipeline(encoder, LogisticRegression())
    pipeline.fit(table, (table[:, 0] == "DE") | (random.random(500) < 0.2))
    data = to_onnx(pipeline, initial_types=[("country", StringTensorType([None, 2]))]).SerializeToString()
    asked = np.array([["DE", "FR"], ["XX", "IT"], ["", "DE"], ["IT", "missing"]] * 20, dtype=object)
    model = load(data, {"country": 2}, "output_probability")
    assert model.inputs[0].dtype == np.dtype(object)
    assert model.predict([asked]) == pytest.approx(pipeline.predict_proba(asked)[:, 1], abs=1e-6)
    assert model.constant is None  # probe rows use the file's own categories
    alone = np.concatenate([model.predict([asked[row : row + 1]]) for row in range(len(asked))])
    assert alone.tobytes() == model.predict([asked]).tobytes()


def test_strings_and_numbers_in_inputs_of_their_own() -> None:
    random = np.random.default_rng(1)
    table = {
        "amount": random.normal(size=(300, 1)),
        "country": COUNTRIES[random.integers(0, 3, (300, 1))].astype(object),
    }
    columns = np.hstack([table["amount"].astype(object), table["country"]])
    encode = ColumnTransformer([("n", "passthrough", [0]), ("c", OneHotEncoder(handle_unknown="ignore"), [1])])
    pipeline = make_pipeline(encode, LogisticRegression()).fit(columns, table["amount"][:, 0] > 0)
    types = [("amount", FloatTensorType([None, 1])), ("country", StringTensorType([None, 1]))]
    data = to_onnx(pipeline, initial_types=types).SerializeToString()
    model = load(data, {"country": 1, "amount": 1}, "output_probability")
    answers = model.predict([table["country"], table["amount"].astype(np.float32)])
    assert answers == pytest.approx(pipeline.predict_proba(columns)[:, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.INT32, np.int32),
        (TensorProto.INT8, np.int8),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.UINT64, np.uint64),
        (TensorProto.BOOL, np.bool_),
    ],
)
@pytest.mark.parametrize("shape", [[None], [None, 1], ["N"]])
def test_every_numeric_type_as_vector_and_as_column(kind: int, dtype: Any, shape: Any) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=F),
        helper.make_node("Sigmoid", ["f"], ["p"]),
        helper.make_node("Reshape", ["p", "column"], ["probabilities"]),
    ]
    data = file(
        nodes, [port("x", shape, kind)], [port("probabilities", [None, 1])], [weights("column", [-1, 1], np.int64)]
    )
    model = load(data, {"x": 1})
    assert model.inputs[0].dtype == np.dtype(dtype)
    given = np.array([[0], [1], [1], [0], [1]], dtype)
    assert model.predict([given]) == pytest.approx(1 / (1 + np.exp(-given[:, 0].astype(float))), abs=1e-6)


def fixed(rows_of_batch: int) -> bytes:
    """A network of doubles: its last bits would depend on where in a batch of odd size a row stands."""
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["m"]),
        helper.make_node("Sigmoid", ["m"], ["probabilities"]),
    ]
    random = np.random.default_rng(1)
    constants = [
        weights("w", random.normal(size=(3, 7)), np.float64),
        weights("v", random.normal(size=(7, 1)), np.float64),
    ]
    kind = TensorProto.DOUBLE
    shapes = [port("features", [rows_of_batch, 3], kind)], [port("probabilities", [rows_of_batch, 1], kind)]
    return file(nodes, *shapes, constants)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 32, 100])
def test_a_fixed_number_of_rows_is_run_in_padded_chunks(size: int) -> None:
    model, free = load(fixed(size)), rows(150, 3).astype(np.float64)
    whole = model.predict([free])
    for start, stop in ((0, 1), (0, 150), (3, 20), (17, 33), (149, 150), (1, 101)):
        assert model.predict([free[start:stop]]).tobytes() == whole[start:stop].tobytes()
    random = np.random.default_rng(1)
    w, v = random.normal(size=(3, 7)), random.normal(size=(7, 1))
    assert whole == pytest.approx((1 / (1 + np.exp(-np.tanh(free @ w) @ v)))[:, 0], abs=1e-12)


def test_inputs_fixed_to_different_numbers_of_rows_are_refused() -> None:
    nodes = [helper.make_node("Identity", ["a"], ["x"]), helper.make_node("Sigmoid", ["b"], ["probabilities"])]
    data = proto(nodes, [port("a", [2, 1]), port("b", [3, 1])], [port("probabilities", [3, 1])]).SerializeToString()
    with pytest.raises(ModelError, match="fixed to different numbers of rows"):
        load(data, {"a": 1, "b": 1})


@pytest.fixture
def external(tmp_path: Path) -> tuple[bytes, bytes]:
    """A model of which all tensors stand in another file, and that file."""
    model = onnx.load_from_string(linear())
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path.read_bytes(), (tmp_path / "model.onnx.data").read_bytes()


def test_tensors_in_another_file_are_pinned_as_well(external: tuple[bytes, bytes], tmp_path: Path) -> None:
    data, tensors = external
    pinned = {"file": "weights.bin", "sha256": hashlib.sha256(tensors).hexdigest()}  # renamed: the pin counts
    spec = spec_of(data).model_validate({**spec_of(data).model_dump(), "data": pinned})
    model = load_model(data, spec, max_bytes=LIMIT, external=tensors)
    assert model.predict([rows(9, 3)]).tobytes() == load(linear()).predict([rows(9, 3)]).tobytes()
    assert model.size == len(data) + len(tensors)
    with pytest.raises(ModelError, match="these are other bytes"):
        load_model(data, spec, max_bytes=LIMIT, external=tensors[:-1] + b"x")
    with pytest.raises(ModelError, match=r"the limit is \d+ \(limits.model_bytes\)"):
        load_model(data, spec, max_bytes=len(data) + 1, external=tensors)
    with pytest.raises(ModelError, match=r"kept outside the file .*`data: {file: FILE, sha256: ...}`"):
        load_model(data, spec_of(data), max_bytes=LIMIT)
    path = tmp_path / "other.data"
    path.write_bytes(tensors)
    assert load_model(data, spec, max_bytes=LIMIT, external=path).binding == model.binding


@pytest.mark.parametrize("place", [{"offset": "4000"}, {"offset": "-1"}, {"length": "99999"}, {"offset": "x"}])
def test_tensors_that_lie_outside_their_file_are_refused(external: tuple[bytes, bytes], place: dict[str, str]) -> None:
    model = onnx.load_from_string(external[0])
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = place.get(entry.key, entry.value)
    with pytest.raises(ModelError, match="names another file than the one it was saved with"):
        describe(model.SerializeToString(), external[1])


def test_tensors_in_several_files_are_refused_with_the_way_to_one(external: tuple[bytes, bytes]) -> None:
    model = onnx.load_from_string(external[0])
    next(entry for entry in model.graph.initializer[0].external_data if entry.key == "location").value = "other"
    with pytest.raises(ModelError, match=r"kept in 2 files .*all_tensors_to_one_file=True"):
        describe(model.SerializeToString(), external[1])


def test_a_data_file_that_the_model_does_not_need_does_no_harm() -> None:
    assert describe(linear(), b"").sha256 == describe(linear()).sha256  # torch writes an empty one


def test_a_file_for_a_newer_runtime_says_which_version_to_export() -> None:
    model = onnx.load_from_string(linear())
    model.ir_version = 99
    with pytest.raises(
        ModelError, match=r"has IR version 99, this onnxruntime .* takes up to (\d+): .*ir_version = \1"
    ):
        load(model.SerializeToString())
    model.ir_version = 9
    model.opset_import[0].version = 99
    with pytest.raises(
        ModelError, match=r"has opset 99 of ai\.onnx, this onnxruntime .* up to (\d+): .*target_opset=\1"
    ):
        load(model.SerializeToString())


def test_the_end_of_what_the_runtime_says_is_kept() -> None:
    nodes = [helper.make_node("MatMul", ["features", "w"], ["probabilities"], name="layer" * 100)]
    data = proto(nodes, None, None, [weights("w", np.ones((5, 1)))]).SerializeToString()
    with pytest.raises(ModelError, match="onnxruntime refuses the model: ") as caught:
        load(data)
    assert "Incompatible dimensions" in str(caught.value)


def test_an_operator_of_the_runtime_itself_is_served() -> None:
    nodes = [
        helper.make_node(kind, [source], [target], domain="com.microsoft")
        for kind, source, target in (("QuickGelu", "features", "a"), ("FastGelu", "a", "b"))
    ]
    nodes.append(helper.make_node("Sigmoid", ["b"], ["probabilities"]))
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    model = load(proto(nodes, [port("features", [None, 1])], None, opsets=opsets).SerializeToString(), {"features": 1})
    assert model.predict([rows(9, 1)]).shape == (9,)


def test_an_operator_that_the_runtime_does_not_have_is_not_called_native_code() -> None:
    nodes = [helper.make_node("NoSuch", ["features"], ["probabilities"], domain="com.microsoft")]
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    with pytest.raises(ModelError, match=r"onnxruntime refuses the model: .*NoSuch") as caught:
        load(proto(nodes, opsets=opsets).SerializeToString())
    assert "native code" not in str(caught.value)


def test_memory_is_given_back_after_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(loading, "_give_back", lambda: given_back.append(gc.isenabled()))
    load(linear())
    assert len(given_back) == 1


FOREST = """
import hashlib, resource, sys
from pathlib import Path
from muse_stream.config import ModelSpec
from muse_stream.models import load_model, load as loading
if sys.argv[2] == "keep":
    loading._give_back = lambda: None
path = Path(sys.argv[1])
spec = {"uri": "m", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "inputs": {"X": list("abc")}}
spec["output"] = {"name": "output_probability"}
model = load_model(path, ModelSpec.model_validate(spec), max_bytes=1 << 30)
print(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
"""


@pytest.mark.long  # a forest of 20,000 rows and two processes; test_reading.py has forests that are read
def test_a_large_forest_leaves_less_memory_resident(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("glibc's malloc_trim and /proc are looked at")
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - only here

    features = rows(20_000, 3)
    labels = np.random.default_rng(1).integers(0, 2, len(features))
    forest = RandomForestClassifier(12, random_state=1).fit(features, labels)  # of noise: it grows to the last leaf
    path = tmp_path / "forest.onnx"
    path.write_bytes(to_onnx(forest, features[:1]).SerializeToString())
    assert path.stat().st_size > 5_000_000

    def resident(mode: str) -> int:
        command = [sys.executable, "-c", FOREST, str(path), mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert resident("trim") < resident("keep") - path.stat().st_size
