"""Recurrent layers for tests: random ones, and what of them ONNX Runtime and CNTK compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import hub
from parity.runners.cntk import CNTKRunner
from parity.runners.cntk import open as open_cntk

Rng = np.random.Generator
Array = Any

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
ACTIVATIONS = ["Tanh", "Sigmoid", "Relu", "LeakyRelu", "Elu", "HardSigmoid", "Softsign", "Softplus"]
BOUNDED = ["Tanh", "Sigmoid", "HardSigmoid", "Softsign"]
ALPHA = {"LeakyRelu": 0.25, "Elu": 1.5, "HardSigmoid": 0.3}
BETA = {"HardSigmoid": 0.4}


@dataclass
class Layer:
    """One recurrent layer: what it is told as ONNX has it with layout 0, and how it is written."""

    op: str
    direction: str = "forward"
    layout: int = 0
    batch: int = 2
    open: bool = True
    steps: int = 5
    features: int = 3
    units: int = 4
    constants: dict[str, Array] = field(default_factory=dict)
    feeds: dict[str, Array] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ("Y", "Y_h", "Y_c")

    @property
    def slots(self) -> list[str]:
        names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        return names if self.op == "LSTM" else names[:6]

    def model(self, layout: int, *, open: bool) -> onnx.ModelProto:
        """The layer alone. States and values that have a batch have it where the layout says."""
        given = {**self.constants, **self.feeds}
        outputs = [o if o in self.outputs else "" for o in ("Y", "Y_h", "Y_c")[: 3 if self.op == "LSTM" else 2]]
        more = {"layout": 1} if layout else {}
        node = helper.make_node(
            self.op,
            [name if name in given else "" for name in self.slots],
            outputs,
            name="layer",
            hidden_size=self.units,
            direction=self.direction,
            **more,
            **self.attributes,
        )
        inputs = []
        for name, array in self.feeds.items():
            shape: list[Any] = list(laid(name, array, layout).shape)
            if open:
                shape[0 if layout else 1] = "N"
            inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        results = [helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs if o]
        weights = [numpy_helper.from_array(laid(name, a, layout), name) for name, a in self.constants.items()]
        graph = helper.make_graph([node], "net", inputs, results, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)

    def expected(self) -> dict[str, Array]:
        """What ONNX Runtime says, which runs layout 0 only."""
        session = onnxruntime.InferenceSession(self.model(0, open=False).SerializeToString())
        values = session.run(None, self.feeds)
        return {o.name: laid(o.name, v, self.layout) for o, v in zip(session.get_outputs(), values, strict=True)}

    def check(self, folder: Path) -> str:
        """Both files compute what ONNX Runtime does; returns the code."""
        expected = self.expected()
        model = hub.load(self.model(self.layout, open=self.open))
        feeds = {name: laid(name, array, self.layout) for name, array in self.feeds.items()}
        hub.save(model, folder / "net.dnn")
        hub.save(model, folder / "net.py", to="cntk")
        for file in ("net.dnn", "net.py"):
            close(run_file(folder / file, feeds), expected)
        return (folder / "net.py").read_text()


def laid(name: str, array: Array, layout: int) -> Array:
    """A tensor of layout 0 in a layout."""
    if not layout:
        return array
    orders = {"X": (1, 0, 2), "Y": (2, 0, 1, 3), **dict.fromkeys(("initial_h", "initial_c", "Y_h", "Y_c"), (1, 0, 2))}
    return np.ascontiguousarray(array.transpose(orders[name])) if name in orders else array


def run_file(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    runner: CNTKRunner = open_cntk(path)
    try:
        return runner.run(feeds)
    finally:
        runner.close()


def close(actual: dict[str, Array], expected: dict[str, Array]) -> None:
    """The same within 1e-5 of the spread of the values."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].shape == array.shape
        spread = float(array.max() - array.min())
        assert spread > 0
        assert np.abs(actual[name] - array).max() <= 1e-5 * spread, name


def normal(rng: Rng, *shape: int) -> Array:
    return rng.normal(0, 0.5, shape).astype(np.float32)


def layer(rng: Rng, op: str, direction: str = "forward", *, bias: bool = True, **more: Any) -> Layer:
    """A layer with random weights and input."""
    made = Layer(op, direction, **more)
    count, rows = 1 + (direction == "bidirectional"), GATES[op] * made.units
    made.constants["W"] = normal(rng, count, rows, made.features)
    made.constants["R"] = normal(rng, count, rows, made.units)
    if bias:
        made.constants["B"] = normal(rng, count, 2 * rows)
    made.feeds["X"] = normal(rng, made.steps, made.batch, made.features)
    return made


def chosen(rng: Rng, made: Layer, names: Sequence[str]) -> None:
    """Activations, and numbers of their own for those that take some, or the defaults."""
    made.attributes["activations"] = list(names)
    if rng.random() < 0.7:
        alphas, betas = [ALPHA[n] for n in names if n in ALPHA], [BETA[n] for n in names if n in BETA]
        made.attributes |= {"activation_alpha": alphas} if alphas else {}
        made.attributes |= {"activation_beta": betas} if betas else {}


def begun(rng: Rng, made: Layer, name: str) -> None:
    """An initial state: none, zeros, the same for all samples, one for each, or an input."""
    count = made.constants["W"].shape[0]
    shape = (count, made.batch, made.units)
    match int(rng.integers(5 if not made.open else 4)):
        case 1:
            made.constants[name] = np.zeros(shape, np.float32)
        case 2:
            made.constants[name] = np.repeat(normal(rng, count, 1, made.units), made.batch, 1)
        case 3:
            made.feeds[name] = normal(rng, *shape)
        case 4:
            made.constants[name] = normal(rng, *shape)


def drawn(seed: int, op: str, direction: str, layout: int) -> Layer:
    """A random layer."""
    rng = np.random.default_rng([seed, len(op), len(direction), layout])
    steps, features, units = (int(n) for n in rng.permutation(range(2, 8))[:3])
    sizes = {"steps": steps, "features": features, "units": units, "batch": int(rng.integers(2, 4))}
    made = layer(rng, op, direction, bias=rng.random() < 0.8, layout=layout, open=bool(rng.random() < 0.6), **sizes)
    for state in ("initial_h", "initial_c") if op == "LSTM" else ("initial_h",):
        begun(rng, made, state)
    count = made.constants["W"].shape[0]
    if rng.random() < 0.3:
        made.constants["sequence_lens"] = np.full(made.batch, steps, np.int32)
    if op == "LSTM" and rng.random() < 0.5:
        made.constants["P"] = normal(rng, count, 3 * units)
    if op == "GRU":
        made.attributes["linear_before_reset"] = int(rng.integers(2))
    if rng.random() < 0.6:
        # What a gate lets through stays bounded, so that nothing explodes.
        places = [BOUNDED if place == 0 else ACTIVATIONS for place in range(FUNCTIONS[op])] * count
        chosen(rng, made, [names[int(rng.integers(len(names)))] for names in places])
    if rng.random() < 0.5:
        made.outputs = [("Y", "Y_h", "Y_c" if op == "LSTM" else "Y_h")[int(rng.integers(3))]]
    return made
