"""Recurrent layers in CNTK, its native files and code, in the real CNTK against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import need, need_runtime
from onnx import helper
from recurrent_layers import ACTIVATIONS, ALPHA, BETA, FUNCTIONS, GATES, close, drawn, layer, normal, run_file

import hub
from hub.errors import UnsupportedOps
from tests.conformance.suite import run

need_runtime("cntk")
need_runtime("cntk-python")


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
