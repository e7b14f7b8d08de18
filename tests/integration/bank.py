"""A small bank to break: a configuration with real ONNX models, unique topics, and its events.

A folder, a name nobody else uses and a number of tenants give a `Bank`: configurations to publish, events to produce.
Names are unique per bank (topics, lane, hence consumer group), so that tests share one broker; so are event ids. The
models that misbehave do so on one amount each, which no probe row has: they load, and break in service.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from ruamel.yaml import YAML

from muse_stream import testing
from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.testing import ToSend

RAISES_AT, HANGS_AT, KILLS_AT = 777.25, 888.25, 666.25
SCHEMA = """{"type": "record", "name": "Payment", "fields": [
  {"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "tenant", "type": "string"},
  {"name": "amount", "type": ["null", "double"]}, {"name": "risk", "type": "double"}]}"""
PARTITIONS = 2
AT = 1_780_000_000_000
"""Time of the first event."""


def logistic(slope: float) -> tuple[list[Any], list[Any]]:
    """Nodes of a logistic regression of `features` [N, 2]; the answer is `p` [N, 1]."""
    return [
        helper.make_node("MatMul", ["features", "w"], ["margin"]),
        helper.make_node("Add", ["margin", "b"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["p"]),
    ], [
        numpy_helper.from_array(np.array([[0.004 * slope], [2.0 * slope]], dtype=np.float32), "w"),
        numpy_helper.from_array(np.array([-1.0], dtype=np.float32), "b"),
    ]


def _hit(amount: float) -> tuple[list[Any], list[Any]]:
    """Nodes that compute `hit` [N, 1]: 1 in the rows that have this very amount, else 0 (int64).

    The amount is no constant of the file: a model is tried with values around all of them when it is loaded.
    """
    constants = {"part": amount / 4, "rest": amount - amount / 4}
    return [
        helper.make_node("Gather", ["features", "zero"], ["amounts"], axis=1),
        helper.make_node("Sub", ["amounts", "part"], ["remainder"]),
        helper.make_node("Equal", ["remainder", "rest"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["hit"], to=TensorProto.INT64),
    ], [
        numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"),
        *(numpy_helper.from_array(np.array(number, dtype=np.float32), name) for name, number in constants.items()),
    ]


def raising() -> bytes:
    """A model that raises when a row has the amount RAISES_AT: an index out of range."""
    nodes, constants = logistic(1.0)
    hit, more = _hit(RAISES_AT)
    return _file(
        [
            *nodes,
            *hit,
            helper.make_node("Gather", ["nothing", "hit"], ["add"]),
            helper.make_node("Add", ["p", "add"], ["out"]),
        ],
        [*constants, *more, numpy_helper.from_array(np.zeros(1, dtype=np.float32), "nothing")],
    )


def killing() -> bytes:
    """A model that ends its process (SIGFPE) when a row has the amount KILLS_AT: the lowest int64, divided by -1."""
    nodes, constants = logistic(1.0)
    hit, more = _hit(KILLS_AT)
    numbers = {"lowest": -(2**63), "one": 1, "minus": -1}
    more += [numpy_helper.from_array(np.array(number, dtype=np.int64), name) for name, number in numbers.items()]
    more += [numpy_helper.from_array(np.array(0.0, np.float32), "nought")]
    return _file(
        [
            *nodes,
            *hit[:3],
            helper.make_node("Where", ["equal", "lowest", "one"], ["numerator"]),
            helper.make_node("Div", ["numerator", "minus"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["number", "nought"], ["add"]),
            helper.make_node("Add", ["p", "add"], ["out"]),
        ],
        [*constants, *more],
    )


def looping(turns_always: int, turns_when_hit: int) -> bytes:
    """A model that counts to `turns_always` in every row, and to `turns_when_hit` more on the amount HANGS_AT."""
    nodes, constants = logistic(1.0)
    hit, more = _hit(HANGS_AT)
    turn = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["x"], ["y"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
        ],
    )
    row = helper.make_graph(
        [
            helper.make_node("Mul", ["row_hit", "when_hit"], ["extra"]),
            helper.make_node("Add", ["extra", "always"], ["turns"]),
            helper.make_node("Loop", ["turns", "yes", "start"], ["end"], body=turn),
            helper.make_node("Mul", ["end", "start"], ["row_nil"]),  # start is 0: the answer stays what it was
        ],
        "row",
        [helper.make_tensor_value_info("row_hit", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("row_nil", TensorProto.FLOAT, [1])],
    )
    loop = [
        helper.make_node("Scan", ["hit"], ["nil"], body=row, num_scan_inputs=1),
        helper.make_node("Add", ["p", "nil"], ["out"]),
    ]
    counts = {"when_hit": turns_when_hit, "always": turns_always}
    more += [numpy_helper.from_array(np.array([count], dtype=np.int64), name) for name, count in counts.items()]
    more += [numpy_helper.from_array(np.array(True), "yes"), numpy_helper.from_array(np.zeros(1, np.float32), "start")]
    return _file([*nodes, *hit, *loop], [*constants, *more])


def plain(slope: float) -> bytes:
    """A well-behaved model."""
    nodes, constants = logistic(slope)
    return _file([*nodes, helper.make_node("Identity", ["p"], ["out"])], constants)


def _file(nodes: list[Any], constants: list[Any]) -> bytes:
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 2])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 1])
    graph = helper.make_graph(nodes, "bank", [features], [out], constants)
    return bytes(
        onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


MODELS = {
    "plain": plain(1.0),
    "retrained": plain(2.5),
    "raises": raising(),
    "kills": killing(),
    "slow": looping(600, 0),
    "hangs": looping(1, 1 << 50),
}


@dataclass
class Bank:
    """One test's tenants."""

    folder: Path
    name: str
    tenants: int = 2
    sent: list[str] = field(default_factory=list)
    """Ids of all events produced."""

    def __post_init__(self) -> None:
        (self.folder / "schemas").mkdir(parents=True)
        (self.folder / "schemas" / "payment.avsc").write_text(SCHEMA, encoding="utf-8")
        for name, content in MODELS.items():
            (self.folder / f"{name}.onnx").write_bytes(content)
        self._schema = SchemaDirectory.open(self.folder / "schemas").by_file("payment.avsc")
        self._numbers = itertools.count()

    def names(self) -> list[str]:
        return [f"t{number}" for number in range(self.tenants)]

    def topic(self, kind: str, tenant: str) -> str:
        return f"{self.name}.{kind}.{tenant}"

    def topics(self, kinds: Sequence[str] = ("events", "scores", "audit", "dlq")) -> list[str]:
        return [self.topic(kind, tenant) for kind in kinds for tenant in self.names()]

    def document(self, live: str = "plain", shadow: Sequence[str] = ("retrained",), **own: Mapping[str, Any]) -> Path:
        """Write a configuration whose live and shadow predictors are named after their models.

        `own` is what single tenants have: `t0={"lane": "other"}`.
        """
        used = dict.fromkeys([live, *shadow])
        document = {
            "version": 1,
            "models": {
                name: {
                    "uri": f"{name}.onnx",
                    "sha256": hashlib.sha256(MODELS[name]).hexdigest(),
                    "inputs": {"features": [{"field": "amount", "required": True}, "risk"]},
                    "output": {"name": "out", "positive": 0},
                }
                for name in used
            },
            "predictors": {name: {"version": 1, "experts": [{"model": name, "beta": 0.2}]} for name in used},
            "events": {"payment": {"schema": "payment.avsc", "id": "id", "time": "at", "tenant": {"field": "tenant"}}},
            "routes": [{"live": live, "shadow": list(shadow)}],
            "tenants": {name: {"event": "payment", "lane": self.name, **own.get(name, {})} for name in self.names()},
            "topics": {kind: f"{self.name}.{kind}.{{tenant}}" for kind in ("events", "scores", "audit", "dlq")},
        }
        path = self.folder / f"muse-{next(self._numbers)}.yaml"
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(document, file)
        return path

    def events(self, count: int, amounts: Sequence[float] = ()) -> list[tuple[str, int, bytes]]:
        """Return (tenant, partition, value) of new events; `amounts` come every 50th event, in turn."""
        start = len(self.sent)
        random = np.random.default_rng(start)
        amount = random.gamma(2.0, 60.0, count)
        for number, special in zip(range(25, count, 50), itertools.cycle(amounts), strict=False):
            amount[number] = special
        ids = [f"{self.name}-{start + number}" for number in range(count)]
        self.sent += ids
        names = self.names()
        columns = {"id": ids, "at": AT + np.arange(count), "amount": amount, "risk": random.random(count)}
        columns["tenant"] = [names[number % self.tenants] for number in range(count)]
        values = Encoder(self._schema).encode(columns, count)
        places = [(names[n % self.tenants], n // self.tenants % PARTITIONS) for n in range(count)]
        return [(tenant, partition, value) for (tenant, partition), value in zip(places, values, strict=True)]

    def produce(self, bootstrap: str, events: Sequence[tuple[str, int, bytes]]) -> None:
        """Send events at once."""
        records = (ToSend(self.topic("events", tenant), partition, value) for tenant, partition, value in events)
        testing.produce(bootstrap, records, {"linger.ms": 5})
