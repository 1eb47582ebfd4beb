"""Recurrent layers in CNTK, its native files and code, in the real CNTK against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import need, need_runtime
from onnx import helper, numpy_helper

need_runtime("cntk")
need_runtime("cntk-python")

import onnxruntime  # noqa: E402

import hub  # noqa: E402
from hub.errors import UnsupportedOps  # noqa: E402
from parity.runners.cntk import CNTKRunner  # noqa: E402
from parity.runners.cntk import open as open_cntk  # noqa: E402
from tests.conformance.suite import run  # noqa: E402

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


@pytest.mark.parametrize("op", GATES)
def test_the_defaults(op: str, tmp_path: Path) -> None:
    code = layer(np.random.default_rng(0), op, outputs=("Y",)).check(tmp_path)
    assert {"LSTM": ", _ = lstm(x, 0.0, 0.0, w", "GRU": "= gru(x, 0.0, w", "RNN": "= rnn(x, 0.0, w"}[op] in code


def test_the_code_reads_as_one_would_write_it(tmp_path: Path) -> None:
    made = layer(np.random.default_rng(0), "LSTM", "bidirectional", outputs=("Y", "Y_c"))
    made.constants["initial_h"] = np.repeat(normal(np.random.default_rng(1), 2, 1, 4), 2, 1)
    code = made.check(tmp_path)
    assert "def lstm(" in code
    assert "def gru(" not in code
    assert code[code.index("    x = C.input") : code.index("\n\n\nif __name__")] == CODE


CODE = """\
    x = C.input_variable((5, 3), name="X")
    y, y2 = lstm(x, w["layer.initial_h"], 0.0, w, "layer.forward")
    branch, branch2 = lstm(x, w["layer.initial_h2"], 0.0, w, "layer.backward", backwards=True)
    y = C.splice(y, branch, axis=1)
    y = C.reshape(y, (5, 2, 4), name="layer")
    y = C.alias(y, name="Y")
    y2 = C.slice(y2, 0, 4, 5)
    branch2 = C.slice(branch2, 0, 0, 1)
    y2 = C.splice(y2, branch2, axis=0, name="Y_c")
    return C.combine([y, y2])"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_random_layers(op: str, direction: str, layout: int, tmp_path: Path) -> None:
    for seed in range(4):
        drawn(seed, op, direction, layout).check(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("op", GATES)
def test_activations(op: str, name: str, tmp_path: Path) -> None:
    """In every place, with numbers of its own."""
    made = layer(np.random.default_rng(3), op, steps=2)
    names = [name] * FUNCTIONS[op]
    made.attributes["activations"] = names
    for attribute, numbers in (("activation_alpha", ALPHA), ("activation_beta", BETA)):
        if name in numbers:
            made.attributes[attribute] = [numbers[name] * (i + 1) / 2 for i in range(len(names))]
    made.check(tmp_path)


def test_one_step(tmp_path: Path) -> None:
    """What is last is all there is, and the cell states are those of the recurrence themselves."""
    layer(np.random.default_rng(1), "LSTM", steps=1).check(tmp_path)


def test_a_gate_that_forgets_what_it_does_not_take_in(tmp_path: Path) -> None:
    made = layer(np.random.default_rng(2), "LSTM")
    made.attributes["input_forget"] = 1
    made.check(tmp_path)


@pytest.mark.parametrize("op", GATES)
def test_an_exact_activation_of_each_direction(op: str, tmp_path: Path) -> None:
    """Numbers are consumed in order by those activations that take one."""
    made = layer(np.random.default_rng(4), op, "bidirectional")
    names = (["HardSigmoid", "LeakyRelu", "Tanh"][: FUNCTIONS[op]], ["Elu", "Sigmoid", "HardSigmoid"][: FUNCTIONS[op]])
    both = [*names[0], *names[1]]
    made.attributes["activations"] = both
    made.attributes["activation_alpha"] = [0.1 * (i + 1) for i, n in enumerate(n for n in both if n in ALPHA)]
    made.attributes["activation_beta"] = [0.3 + 0.1 * i for i, n in enumerate(n for n in both if n in BETA)]
    if not made.attributes["activation_beta"]:
        del made.attributes["activation_beta"]
    made.check(tmp_path)


def test_weights_that_two_layers_share_are_written_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = layer(rng, "GRU", features=4)
    model = made.model(0, open=True)
    nodes = [
        helper.make_node("GRU", ["X", "W", "R", "B"], ["", "h"], name="first", hidden_size=4),
        helper.make_node("GRU", ["X", "W", "R", "B", "", "h"], ["Y"], name="second", hidden_size=4),
    ]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.append(helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None))
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, made.feeds)
    hub.save(hub.load(model), tmp_path / "net.py", to="cntk")
    hub.save(hub.load(model), tmp_path / "net.dnn")
    with np.load(tmp_path / "net.npz") as weights:
        assert sorted(weights.files) == [f"first.gru.{name}" for name in ("R", "Rn", "W", "b")]
    for file in ("net.dnn", "net.py"):
        close(run_file(tmp_path / file, made.feeds), {"Y": expected[0]})


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("LSTM", "attributes", {"clip": 0.5}, "it clips what goes into its activations"),
    ("GRU", "attributes", {"activations": ["Sigmoid", "Affine"]}, "the activation Affine"),
    ("GRU", "attributes", {"activations": ["Sigmoid"] * 3}, "3 activations for 1 directions"),
    (
        "GRU",
        "attributes",
        {"activations": ["Sigmoid", "Elu"], "activation_alpha": [1.0, 1.0]},
        "2 numbers of activation_alpha for 1 activations that take one",
    ),
    ("RNN", "constants", {"sequence_lens": np.array([5, 4], np.int32)}, "sequences of different lengths"),
    (
        "RNN",
        "constants",
        {"initial_h": np.arange(8, dtype=np.float32).reshape(1, 2, 4)},
        "a constant state of its own for each sample",
    ),
]


@pytest.mark.parametrize(("op", "where", "what", "message"), REFUSED)
def test_what_is_refused(op: str, where: str, what: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = layer(np.random.default_rng(0), op)
    getattr(made, where).update(what)
    with pytest.raises(UnsupportedOps, match=message):
        hub.save(hub.load(made.model(0, open=True)), tmp_path / "net.dnn")


def test_an_open_number_of_steps_is_refused_with_a_hint(tmp_path: Path) -> None:
    model = layer(np.random.default_rng(0), "LSTM").model(0, open=True)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "T"
    with pytest.raises(UnsupportedOps, match="give the sizes of the inputs"):
        hub.save(hub.load(model), tmp_path / "net.dnn")


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    made = layer(np.random.default_rng(0), "LSTM")
    model = made.model(0, open=True)
    (weight,) = [w for w in model.graph.initializer if w.name == "W"]
    model.graph.initializer.remove(weight)
    model.graph.input.append(helper.make_tensor_value_info("W", onnx.TensorProto.FLOAT, weight.dims))
    with pytest.raises(UnsupportedOps, match="its matrix is computed at run time"):
        hub.save(hub.load(model), tmp_path / "net.dnn")


@pytest.mark.slow
@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
def test_onnx_own_cases(op: str) -> None:
    """All whose weights are constant are right, those of a batch that stays an axis too."""
    results = run(op, ["cntk", "cntk code"])
    assert len(results) >= 20
    for result in results:
        given = "is computed at run time; in CNTK it is a parameter" in result.reason or "int32" in result.reason
        assert result.status == "right" or (given and "(baked)" not in result.case), result


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("open", [False, True])
def test_two_layers_of_torch(open: bool, tmp_path: Path) -> None:
    need("torch", "onnxscript")
    import torch
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
            self.gru, self.head = nn.GRU(16, 7), nn.Linear(7, 3)

        def forward(self, x: Any) -> Any:
            y = self.gru(self.lstm(x)[0].transpose(0, 1))[0]
            return self.head(y[-1])

    torch.manual_seed(0)
    network, x = Recurrent().eval(), torch.randn(2, 5, 6)
    shapes = ({0: torch.export.Dim("N")},) if open else None
    program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(str(tmp_path / "net.onnx"))
    model = hub.load(tmp_path / "net.onnx")
    fed = torch.randn(3 if open else 2, 5, 6)
    expected = network(fed).detach().numpy()
    hub.save(model, tmp_path / "net.dnn")
    hub.save(model, tmp_path / "net.py", to="cntk")
    for file in ("net.dnn", "net.py"):
        (actual,) = run_file(tmp_path / file, {model.inputs[0].name: fed.numpy()}).values()
        close({"y": actual}, {"y": expected})
