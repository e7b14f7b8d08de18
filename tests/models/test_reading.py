"""From an output to a probability: classes by name, columns, links, scales, ZipMaps, rounding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC

from muse_stream.errors import ModelError
from muse_stream.models import describe
from tests.models.onnx_factory import file, linear, load, port, proto, rows, weights

FEATURES = rows(400, 3)
FRAUD = FEATURES[:, 0] + 0.3 * FEATURES[:, 1] > 0.2
NAMED = np.where(FRAUD, "fraud", "legit")
WIDE = rows(2_000, 3, seed=3, scale=3.0)


def exported(estimator: Any, labels: Any, **options: Any) -> bytes:
    estimator.fit(FEATURES, labels)
    return bytes(
        to_onnx(estimator, FEATURES[:1], options={id(estimator): options} if options else None).SerializeToString()
    )


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": LogisticRegression,
    "forest": lambda: RandomForestClassifier(7, random_state=1),
    "network": lambda: MLPClassifier((4,), max_iter=20, tol=1.0, n_iter_no_change=1, random_state=1),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC(), cv=2),
    "bayes": GaussianNB,
    "one against the rest": lambda: OneVsRestClassifier(LogisticRegression()),
}


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_are_chosen_by_their_label(name: str, zipmap: bool) -> None:
    """Columns stand in sorted order, so the second of fraud and legit is P(legit)."""
    estimator = CLASSIFIERS[name]()
    data = exported(estimator, NAMED, **({} if zipmap else {"zipmap": False}))
    output = "output_probability" if zipmap else "probabilities"
    share = estimator.predict_proba(WIDE)
    for label in ("fraud", "legit"):
        model = load(data, {"X": 3}, output, positive=label)
        column = list(estimator.classes_).index(label)
        assert model.columns == (column,)
        assert model.classes == ("fraud", "legit")
        assert model.predict([WIDE]) == pytest.approx(share[:, column], abs=1e-5)
    with pytest.raises(ModelError, match=r"are the classes 'fraud', 'legit'; say which .* positive: fraud"):
        load(data, {"X": 3}, output)
    with pytest.raises(ModelError, match="positive is frauds, it can only be 0 or 1, or the label of a class: fraud"):
        load(data, {"X": 3}, output, positive="frauds")


@pytest.mark.parametrize(
    ("labels", "positive", "column"),
    [
        ((0, 1), None, 1),
        ((-1, 1), None, 1),
        ((0, 1), 0, 0),
        ((1, 2), 2, 1),
        ((1, 2), {"label": 1}, 0),
        ((1, 2), {"column": 1}, 1),
        ((1, 2), "1", 0),
        ((5, 7), 0, 0),
        ((5, 7), 7, 1),
        ((-1, 1), -1, 0),
    ],
)
def test_integer_classes(labels: tuple[int, int], positive: Any, column: int) -> None:
    data = exported(LogisticRegression(), np.where(FRAUD, labels[1], labels[0]))
    assert load(data, {"X": 3}, "output_probability", positive).columns == (column,)


@pytest.mark.parametrize(
    ("labels", "positive", "message"),
    [
        ((1, 2), None, "are the classes 1, 2; say which"),
        (
            (1, 2),
            1,
            r"1 is the label of column 0 and the number of the column of class 2: say `{label: 1}` or `{column",
        ),
        ((1, 2), 3, "can only be 0 or 1, or the label of a class: 1, 2"),
        ((5, 7), {"column": 5}, "positive is column 5, it can only be 0 or 1"),
        ((5, 7), {"label": 1}, "positive is label 1, it can only be 0 or 1"),
    ],
)
def test_classes_that_could_be_meant_otherwise_are_refused(
    labels: tuple[int, int], positive: Any, message: str
) -> None:
    data = exported(LogisticRegression(), np.where(FRAUD, labels[1], labels[0]))
    with pytest.raises(ModelError, match=message):
        load(data, {"X": 3}, "output_probability", positive)


def test_one_column_of_two_named_classes_is_the_seconds() -> None:
    model = LinearSVC(random_state=1)
    data = exported(model, NAMED)
    for positive in (None, "fraud"):
        with pytest.raises(ModelError, match=r"one column for the classes 'fraud', 'legit'.*say `positive: legit`"):
            load(data, {"X": 3}, positive=positive, link="sigmoid")
    expected = 1 / (1 + np.exp(-model.decision_function(WIDE)))
    for stated in ("legit", 0, {"column": 0}):
        served = load(data, {"X": 3}, positive=stated, link="sigmoid")
        assert served.predict([WIDE]) == pytest.approx(expected, abs=1e-5)
    load(exported(LinearSVC(random_state=1), FRAUD.astype(int)), {"X": 3}, link="sigmoid")


def test_the_vector_of_one_class_is_that_classs() -> None:
    model = LogisticRegression()
    data = exported(model, NAMED, zipmap="columns")
    assert load(data, {"X": 3}, output="sfraud").predict([WIDE]) == pytest.approx(
        model.predict_proba(WIDE)[:, 0], abs=1e-5
    )


def test_several_classes_are_summed() -> None:
    labels = np.select([FRAUD & (FEATURES[:, 2] > 0), FRAUD], ["stolen", "returned"], "legit")
    estimator = GaussianNB()
    data = exported(estimator, labels)
    model = load(data, {"X": 3}, "output_probability", ["stolen", "returned"])
    assert [estimator.classes_[column] for column in model.columns] == ["stolen", "returned"]
    assert model.predict([WIDE]) == pytest.approx(1.0 - estimator.predict_proba(WIDE)[:, 0], abs=1e-5)
    alone = np.concatenate([model.predict([WIDE[row : row + 1]]) for row in range(100)])
    assert alone.tobytes() == model.predict([WIDE])[:100].tobytes() == model.predict([WIDE[::-1]])[::-1][:100].tobytes()


def test_a_file_that_contradicts_itself_about_its_classes_is_not_guessed_about() -> None:
    attributes: dict[str, Any] = {
        "coefficients": [1.0, -1.0, 0.5, 0.2, 0.1, 0.3],
        "intercepts": [0.0, 0.1],
        "post_transform": "SOFTMAX",
    }
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["features"],
            [f"label{n}", f"scores{n}"],
            domain="ai.onnx.ml",
            classlabels_strings=names,
            **attributes,
        )
        for n, names in enumerate((["a", "b"], ["b", "a"]))
    ]
    nodes.append(helper.make_node("Mean", ["scores0", "scores1"], ["probabilities"]))
    data = file(nodes, None, [port("probabilities", [None, 2])])
    with pytest.raises(ModelError, match=r"contradicts itself about its classes; .*\{column: 1\}"):
        load(data)
    assert load(data, positive={"column": 1}).columns == (1,)


def test_a_margin_with_a_link_is_a_probability() -> None:
    margin = linear(activation=None)
    features = rows(50, 3, scale=100.0)
    exact = 1 / (
        1 + np.exp(-(features.astype(np.float64) @ np.linspace(-0.5, 0.7, 3).astype(np.float32).astype(float)))
    )
    assert load(margin, link="sigmoid").predict([features]) == pytest.approx(exact, rel=1e-4, abs=1e-7)
    far = load(margin, link="sigmoid").predict([np.full((1, 3), 1e30, np.float32)])
    assert far.tolist() == [1.0]
    with pytest.raises(
        ModelError, match=r"not a probability. A margin .*link: sigmoid.*scale: \[LOW, HIGH\].*model-owners"
    ):
        load(margin)
    with pytest.raises(ModelError, match="a softmax takes a margin for each class"):
        load(margin, link="softmax")


def test_margins_of_several_classes_with_a_softmax() -> None:
    data = file([helper.make_node("Identity", ["features"], ["logits"])], None, [port("logits", [None, 3])])
    features = rows(50, 3, scale=300.0).astype(np.float64)
    with np.errstate(over="ignore"):
        shifted = np.exp(features - features.max(axis=1, keepdims=True))
    model = load(data, output="logits", positive=[0, 2], link="softmax")
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    assert model.predict([features.astype(np.float32)]) == pytest.approx(shares[:, 0] + shares[:, 2], abs=1e-4)


def test_a_score_on_another_scale() -> None:
    thousand = [helper.make_node("Sigmoid", ["features"], ["p"]), helper.make_node("Mul", ["p", "k"], ["score"])]
    data = file(thousand, [port("features", [None, 1])], [port("score", [None, 1])], [weights("k", 1000.0)])
    features = rows(50, 1)
    expected = 1 / (1 + np.exp(-features[:, 0]))
    assert load(data, {"features": 1}, "score", scale=[0, 1000]).predict([features]) == pytest.approx(
        expected, abs=1e-6
    )
    reversed_ = load(data, {"features": 1}, "score", scale=[1000, 0]).predict([features])
    assert reversed_ == pytest.approx(1 - expected, abs=1e-6)
    with pytest.raises(ModelError, match=r"lies outside the scale \[0, 100\]"):
        load(data, {"features": 1}, "score", scale=[0, 100])


def test_a_scale_of_whole_numbers() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["features"], ["p"]),
        helper.make_node("Mul", ["p", "k"], ["m"]),
        helper.make_node("Cast", ["m"], ["points"], to=TensorProto.INT64),
    ]
    outputs = [port("points", [None, 1], TensorProto.INT64)]
    data = file(nodes, [port("features", [None, 1])], outputs, [weights("k", 1000.0)])
    answers = load(data, {"features": 1}, "points", scale=[0, 1000]).predict([rows(50, 1)])
    assert (np.round(answers * 1000) / 1000 == answers).all()
    with pytest.raises(ModelError, match="not a float probability; a class label"):
        load(data, {"features": 1}, "points")


def test_unanimous_trees_answer_a_probability() -> None:
    estimator = RandomForestClassifier(20, random_state=1)
    data = exported(estimator, FRAUD.astype(int))
    model = load(data, {"X": 3}, "output_probability")
    answers = model.predict([WIDE])
    assert answers.max() > 1.0
    assert answers.max() <= 1.0 + model.float_error


@pytest.mark.parametrize(("kind", "error"), [(TensorProto.FLOAT, 1e-5), (TensorProto.DOUBLE, 1e-9)])
def test_what_lies_outside_by_more_than_float_error_is_no_probability(kind: int, error: float) -> None:
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    for beyond, accepted in ((error / 2, True), (error * 3, False)):
        nodes = [
            helper.make_node("Sign", ["features"], ["s"]),
            helper.make_node("Clip", ["s", "nought", "top"], ["c"]),
            helper.make_node("Mul", ["c", "top"], ["probabilities"]),
        ]
        constants = [weights("nought", 0.0, dtype), weights("top", 1.0 + beyond, dtype)]
        data = proto(nodes, [port("features", [None, 1], kind)], [port("probabilities", [None, 1], kind)], constants)
        if accepted:
            assert load(data.SerializeToString(), {"features": 1}).float_error == error
        else:
            with pytest.raises(ModelError, match="not a probability"):
                load(data.SerializeToString(), {"features": 1})


def test_the_face_of_a_file_shows_the_tensor_behind_a_zipmap() -> None:
    artifact = describe(exported(LogisticRegression(), NAMED))
    assert [str(one) for one in artifact.outputs] == ["output_label (string [?])", "output_probability (float [?, ?])"]
    assert artifact.labels["output_probability"][0] == (("fraud", "legit"),)


def test_a_model_whose_last_bits_depend_on_the_place_is_run_row_by_row() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(1500, 6)).astype(np.float32)
    margin = features[:, 0] + features[:, 1] * features[:, 2] + random.normal(size=1500) * 0.5
    estimator = QuadraticDiscriminantAnalysis().fit(features, (margin > 0.5).astype(int))
    model = load(to_onnx(estimator, features[:1]).SerializeToString(), {"X": 6}, "output_probability")
    assert model.one_by_one
    whole = model.predict([features])
    assert whole == pytest.approx(estimator.predict_proba(features)[:, 1], abs=1e-5)
    for start in (0, 1, 2, 3, 700):
        assert model.predict([features[start : start + 100]]).tobytes() == whole[start : start + 100].tobytes()
