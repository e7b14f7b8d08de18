"""Whole files: what is around the trees is run by onnxruntime, and what cannot be cut stays there altogether."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from muse_stream.models import ModelCache, OnnxModel, load_model
from muse_stream.models.compiled import native
from tests.models.compiled.forests import WIDTH, Forest, same_bits
from tests.models.compiled.test_forests import PLAIN
from tests.models.libraries import CASES, transactions
from tests.models.onnx_factory import LIMIT, linear, port, spec_of, weights

DEMO = Path(__file__).parents[3] / "muse_stream" / "demo" / "assets" / "models" / "trees-g1.onnx"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(data: bytes, inputs: Any = None, backend: str = "auto", **output: Any) -> OnnxModel:
    spec = spec_of(data, inputs or {"x": WIDTH}, output.pop("output", "out"), **output)
    return load_model(data, spec.model_copy(update={"backend": backend}), max_bytes=LIMIT)


def trees(before: Any = (), after: Any = (), inputs: Any = None, table: str = "x", initializer: Any = ()) -> bytes:
    """A file with the trees between other nodes, which end in `out`."""
    (node,) = Forest(PLAIN).model().graph.node
    node.input[0] = table
    ending = list(after) or [helper.make_node("Identity", ["y"], ["out"])]
    graph = helper.make_graph(
        [*before, node, *ending],
        "file",
        inputs or [port("x", [None, WIDTH])],
        [port("out", [None, None])],
        initializer=list(initializer),
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def rows(count: int = 500) -> Any:
    return Forest(PLAIN).rows()[:count]


def both(data: bytes, inputs: Any = None, **output: Any) -> Iterator[OnnxModel]:
    """The same file by both backends."""
    for backend in ("onnxruntime", "compiled"):
        model = load(data, inputs, backend, **output)
        assert model.backend.name == backend
        yield model


SCALER = helper.make_node(
    "Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[0.1] * WIDTH, scale=[0.7, 1.3, 2.0, 1.0, 0.9]
)
FILES = {
    "trees alone": trees(),
    "a multiplication by one": trees(
        after=[helper.make_node("Mul", ["y", "one"], ["out"])], initializer=[weights("one", [1.0])]
    ),
    "another multiplication": trees(
        after=[helper.make_node("Mul", ["y", "half"], ["out"])], initializer=[weights("half", [0.5])]
    ),
    "a scaler": trees([SCALER], table="scaled"),
    "slices": trees(
        after=[helper.make_node("Slice", ["y", "from", "to", "axis"], ["out"])],
        initializer=[weights(name, [value], np.int64) for name, value in (("from", 1), ("to", 2), ("axis", 1))],
    ),
    "scaler and sigmoid": trees([SCALER], [helper.make_node("Sigmoid", ["y"], ["out"])], table="scaled"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_around_the_trees_keeps_the_bits(name: str) -> None:
    one, other = both(FILES[name], positive={"column": 0})
    for count in (1, 15, 16, 17, 500):
        table = rows(count)
        assert same_bits(one.predict([table]), other.predict([table])), count


def test_inputs_that_are_joined_and_cast() -> None:
    names = [f"i{place}" for place in range(WIDTH)]
    casts = [helper.make_node("Cast", [name], [f"{name}f"], to=TensorProto.FLOAT) for name in names]
    joined = helper.make_node("Concat", [f"{name}f" for name in names], ["table"], axis=1)
    kinds = [TensorProto.INT64, TensorProto.DOUBLE, TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT32]
    inputs = [port(name, [None, 1], kind) for name, kind in zip(names, kinds, strict=True)]
    data = trees([*casts, joined], inputs=inputs, table="table")
    one, other = both(data, dict.fromkeys(names, 1), positive={"column": 1})
    table = np.nan_to_num(rows(), nan=3.0, posinf=9.0, neginf=-9.0).clip(-1e6, 1e6)
    columns = [table[:, [place]].astype(one.inputs[place].dtype) for place in range(WIDTH)]
    assert same_bits(one.predict(columns), other.predict(columns))


@pytest.mark.parametrize("case", ["lightgbm", "gradient-boosting", "hist-gradient-boosting"])
def test_exporters_models_are_compiled(case: str) -> None:
    """`auto` is what they are loaded with; onnxruntime answers beside it."""
    model = CASES[case]().model
    assert model.backend.name == "compiled", model.backend
    features, _ = transactions(2_000, seed=3)
    features[np.random.default_rng(1).random(features.shape) < 0.05] = np.nan
    assert np.isfinite(model.predict([features.astype(np.float32)])).all()


def test_a_zipmap_is_passed_by() -> None:
    zipmap = helper.make_node("ZipMap", ["y"], ["out"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    one, other = both(trees(after=[zipmap]))
    assert same_bits(one.predict([rows()]), other.predict([rows()]))


REFUSED = {
    "it has no tree ensemble": linear(),
    "what comes after the trees takes their labels, too": trees(
        after=[
            helper.make_node("Cast", ["label"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["number", "axis"], ["column"]),
            helper.make_node("Add", ["y", "column"], ["out"]),
        ],
        initializer=[weights("axis", [1], np.int64)],
    ),
    "what comes after the trees takes an input of the file, too": trees(
        after=[
            helper.make_node("ReduceMax", ["x"], ["top"], axes=[1]),
            helper.make_node("Mul", ["top", "nothing"], ["small"]),
            helper.make_node("Add", ["y", "small"], ["out"]),
        ],
        initializer=[weights("nothing", [0.0])],
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_other_graphs_stay_with_onnxruntime(why: str) -> None:
    data = REFUSED[why]
    given: dict[str, Any] = {"inputs": {"features": 3}, "output": "probabilities"} if data == linear() else {}
    model = load(data, **given, positive={"column": 0}, link="sigmoid")
    assert (model.backend.name, model.backend.why, model.backend.lacking) == ("onnxruntime", why, False)
    with pytest.raises(ModelError, match=f"backend: it cannot be compiled: {why}; `backend: auto`"):
        load(data, **given, backend="compiled", positive={"column": 0}, link="sigmoid")


def test_the_configuration_may_want_onnxruntime() -> None:
    model = load(FILES["trees alone"], backend="onnxruntime", positive={"column": 1})
    assert (model.backend.name, model.backend.why) == ("onnxruntime", "`backend: auto` compiles trees")


def test_without_llvmlite_onnxruntime_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "muse_stream.models.compiled.trees", None)  # importing it fails
    model = load(FILES["trees alone"], backend="compiled", positive={"column": 1})
    assert (model.backend.name, model.backend.lacking) == ("onnxruntime", True)
    assert "pip install 'muse-stream[compiled]'" in model.backend.why


def test_other_bits_are_found_before_they_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime of another version may compute in another way: then it runs everything."""
    real = native.object_code

    def wrong(text: str, *, optimised: bool) -> bytes:
        assert "fcmp ole" in text
        return real(text.replace("fcmp ole", "fcmp olt"), optimised=optimised)

    monkeypatch.setattr(native, "object_code", wrong)
    model = load(FILES["trees alone"], backend="compiled", positive={"column": 1})
    assert model.backend.name == "onnxruntime"
    assert model.backend.why == "compiled code does not give this onnxruntime's bits"


def test_both_backends_of_one_file_are_two_models(tmp_path: Path) -> None:
    path, cache = tmp_path / "model.onnx", ModelCache()
    path.write_bytes(FILES["trees alone"])
    spec = spec_of(FILES["trees alone"], {"x": WIDTH}, "out", {"column": 1})
    models = [
        cache.load(path, spec.model_copy(update={"backend": backend}), max_bytes=LIMIT)
        for backend in ("onnxruntime", "compiled", "compiled")
    ]
    assert models[0] is not models[1]
    assert models[1] is models[2]


def test_the_demos_model_is_compiled() -> None:
    data = DEMO.read_bytes()
    width = onnx.load(DEMO).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    one, other = both(data, {"features": width}, output="probabilities", positive=1)
    table = np.random.default_rng(5).normal(0, 50, (1_000, width)).astype(np.float32)
    assert same_bits(one.predict([table]), other.predict([table]))
