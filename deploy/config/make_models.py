"""Make the small models, maps and golden rows of this example, and pin their hashes in muse.yaml.

The coefficients below and muse.yaml give models/*.onnx (logistic regressions with a [N, 2] probability output, under 2
KB each, written with the `onnx` helper), golden/*.json, maps/*.json, and muse.yaml with their hashes. Running it again
changes no byte. Maps are fitted on invented events; a real one is fitted on recorded scores.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from muse_stream.config import Document, pre_map_hash
from muse_stream.config.source import parse

HERE = Path(__file__).parent
DOCUMENT = HERE / "muse.yaml"
EVENTS = 20_000
LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)

CHANNELS = ("pos", "ecom", "atm")
"""Channels by the number that the category table gives them."""

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """A logistic regression: `sigmoid(intercept + sum(weights * inputs))`, its inputs cut into named tensors."""

    inputs: dict[str, int]
    weights: tuple[float, ...]
    intercept: float

    def answer(self, rows: Rows) -> Rows:
        """Return the probability for each of `rows` [N, F]."""
        answers: Rows = 1.0 / (
            1.0 + np.exp(-(rows @ np.array(self.weights, dtype=np.float32).astype(float) + self.intercept))
        )
        return answers

    def onnx(self, name: str) -> bytes:
        """Return the model as the bytes of an ONNX file; the same bytes every time."""
        tensors = [helper.make_tensor_value_info(key, TensorProto.FLOAT, ["N", f]) for key, f in self.inputs.items()]
        constants = [
            numpy_helper.from_array(np.array(self.weights, dtype=np.float32).reshape(-1, 1), "weights"),
            numpy_helper.from_array(np.array([self.intercept], dtype=np.float32), "intercept"),
            numpy_helper.from_array(np.array([1.0], dtype=np.float32), "one"),
        ]
        nodes = [
            helper.make_node("Concat", list(self.inputs), ["row"], axis=1),
            helper.make_node("Gemm", ["row", "weights", "intercept"], ["margin"]),
            helper.make_node("Sigmoid", ["margin"], ["positive"]),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
        ]
        output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])
        graph = helper.make_graph(nodes, name, tensors, [output], constants)
        model = helper.make_model(graph, producer_name="muse_stream example", ir_version=8)
        del model.opset_import[:]
        model.opset_import.append(helper.make_opsetid("", 17))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


# Inputs in the order of muse.yaml: amount, risk_7d, channel, cross_border, tx_per_day, age.
MODELS = {
    "cards-2026q2": Logistic({"features": 6}, (0.004, 6.0, 0.5, 1.0, 0.15, -0.01), -3.0),
    "cards-2026q3": Logistic({"amount": 1, "context": 3}, (0.006, 7.5, 0.25, 0.125), -4.0),
    "blend": Logistic({"scores": 2}, (4.0, 6.0), -4.5),
}


def invent_events(scale: float, seed: int) -> Rows:
    """Return `EVENTS` rows of the six features; `scale` stretches the amounts."""
    random = np.random.default_rng(seed)
    columns = (
        np.round(random.lognormal(3.5, 1.0, EVENTS) * scale, 2),
        random.beta(0.3, 12.0, EVENTS),
        random.choice([0.0, 1.0, 2.0], EVENTS, p=[0.6, 0.3, 0.1]),
        random.choice([0.0, 1.0], EVENTS, p=[0.9, 0.1]),
        random.gamma(2.0, 1.0, EVENTS),
        random.integers(18, 90, EVENTS).astype(float),
    )
    return np.column_stack(columns)


def corrected(p: Rows, beta: float) -> Rows:
    """Return the probability without the undersampling of negatives."""
    return beta * p / (1.0 - (1.0 - beta) * p)


def aggregates(events: Rows) -> dict[str, Rows]:
    """Return the pre-mapping aggregate of each mapped predictor of muse.yaml."""
    settled = corrected(MODELS["cards-2026q2"].answer(events), 0.1)
    retrained = corrected(MODELS["cards-2026q3"].answer(events[:, [0, 1, 2, 4]]), 0.2)
    margin = (np.log(settled / (1.0 - settled)) + 2.0 * np.log(retrained / (1.0 - retrained))) / 3.0
    return {
        "cards": settled,
        "cards-next": 1.0 / (1.0 + np.exp(-margin)),
        "cautious": np.maximum(settled, retrained),
    }


def fitted(document: Document, predictor: str, sample: Rows) -> bytes:
    """Return a map file: quantiles of `sample` at `LEVELS`, pinned to the content of `predictor`."""
    values = np.round(np.quantile(sample, LEVELS), 9)
    values[0], values[-1] = 0.0, 1.0
    content = {
        "fitted_for": pre_map_hash(document, predictor),
        "levels": LEVELS,
        "values": values.tolist(),
        "samples": len(sample),
    }
    return (json.dumps(content) + "\n").encode()


def golden(model: Logistic, rows: Rows) -> bytes:
    """Return a golden file for a model with one input: its first rows and their answers."""
    exact = rows.astype(np.float32).astype(float)
    content = {"inputs": {next(iter(model.inputs)): exact.tolist()}, "scores": model.answer(exact).tolist()}
    return (json.dumps(content) + "\n").encode()


def golden_events(model: Logistic, rows: Rows) -> bytes:
    """Return a golden file for cards-2026q3: events, as a producer would send them, and the answers to them."""
    exact = rows.astype(np.float32).astype(float)
    events = [
        {
            "amount": amount,
            "terminal": {"risk_7d": risk},
            "channel": CHANNELS[int(channel)],
            "customer": {"tx_per_day": often},
        }
        for amount, risk, channel, often in exact.tolist()
    ]
    return (json.dumps({"events": events, "scores": model.answer(exact).tolist()}) + "\n").encode()


def keep(name: str, data: bytes) -> str:
    """Write a file beside this script and return its sha256."""
    (HERE / name).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def pin(text: str, before: str, digest: str) -> str:
    """Return `text` with the hash that follows `before` replaced; whatever else stands between is kept."""
    pattern = re.compile(re.escape(before) + r"([^0-9a-f]+(?:sha256|fitted_for): )[0-9a-f]{64}")
    changed, count = pattern.subn(lambda found: before + found[1] + digest, text)
    if count != 1:
        raise SystemExit(f"muse.yaml: expected one hash after '{before}', found {count}")
    return changed


def main() -> None:
    """Write everything."""
    events = {"pooled": invent_events(1.0, 1), "acme": invent_events(1.8, 2)}
    text = DOCUMENT.read_text()
    for name, model in MODELS.items():
        text = pin(text, f"uri: models/{name}.onnx", keep(f"models/{name}.onnx", model.onnx(name)))
    keep("golden/cards-2026q2.json", golden(MODELS["cards-2026q2"], events["pooled"][:16]))
    keep("golden/cards-2026q3.json", golden_events(MODELS["cards-2026q3"], events["pooled"][:16, [0, 1, 2, 4]]))
    scores = np.random.default_rng(3).random((16, 2))
    keep("golden/blend.json", golden(MODELS["blend"], scores))
    document = Document.model_validate(parse(DOCUMENT, text.encode()).tree)
    for name, predictor, sample in (
        ("cards-pooled", "cards", "pooled"),
        ("cards-acme", "cards", "acme"),
        ("next-pooled", "cards-next", "pooled"),
        ("cautious-pooled", "cautious", "pooled"),
    ):
        data = fitted(document, predictor, aggregates(events[sample])[predictor])
        text = pin(text, f"file: maps/{name}.json", keep(f"maps/{name}.json", data))
    text = pin(text, "  blend-pooled:", pre_map_hash(document, "blended"))
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
