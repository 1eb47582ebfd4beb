"""Code for CNTK: how it reads, what it is named, and that it says what the native file says."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need_runtime
from op_cases import normal
from out_nets import agrees, network
from random_graphs import random_graph

import hub
from exporters.cntk.helpers import TRAINED
from exporters.codegen.loops import loops
from hub.dnn import read
from parity.runners import cntk

need_runtime("cntk")
need_runtime("cntk-python")


def residual(count: int = 4) -> hub.Model:
    """A network of equal blocks, named as networks name them."""
    rng = np.random.default_rng(0)

    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for number in range(1, count + 1):
            shortcut = y
            for part in (1, 2):
                with g.layer(f"block{number}_{part}_conv", "Conv"):
                    weight, bias = g.constant(normal(rng, 4, 4, 3, 3), "W"), g.constant(normal(rng, 4), "b")
                    y = g.op("Conv", y, weight, bias, pads=[1, 1, 1, 1])
                with g.layer(f"block{number}_{part}_relu", "Relu"):
                    y = g.op("Relu", y)
            with g.layer(f"block{number}_add", "Add"):
                y = g.op("Add", shortcut, y)
        return y

    return network(build, ["N", 4, 6, 5])


def text(model: hub.Model, folder: Path) -> str:
    return hub.save(model, folder / "net.py", to="cntk")[0].read_text()


def test_how_it_reads(tmp_path: Path) -> None:
    assert text(residual(), tmp_path).partition("def conv_block")[2] == RESIDUAL


RESIDUAL = """(x, w, number):
    y = convolution(x, w, f"block{number}_1_conv", pads=((1, 1), (1, 1)))
    y = C.relu(y, name=f"block{number}_1_relu")
    y = convolution(y, w, f"block{number}_2_conv", pads=((1, 1), (1, 1)))
    y = C.relu(y, name=f"block{number}_2_relu")
    return C.plus(x, y, name=f"block{number}_add")


def build(weights=None):
    \"\"\"The network as a CNTK function.

    `weights` is a .npz file, by default the one beside this file.
    \"\"\"
    w = load_weights(weights or os.path.splitext(os.path.abspath(__file__))[0] + ".npz")
    x = C.input_variable((4, 6, 5), name="x0")
    for number in range(1, 5):
        x = conv_block(x, w, number)
    return C.alias(x, name="y0")


if __name__ == "__main__":
    build().save(os.path.splitext(os.path.abspath(__file__))[0] + ".dnn")
"""


def test_it_is_deterministic_and_has_no_pickle(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        hub.save(residual(), tmp_path / name / "net.py", to="cntk")
        hub.save(residual(), tmp_path / name / "net.dnn")
    for file in ("net.py", "net.npz", "net.dnn"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with np.load(tmp_path / "a" / "net.npz", allow_pickle=False) as arrays:
        assert {"block1_1_conv.W", "block4_2_conv.b"} <= set(arrays.files)
        assert all(arrays[name].dtype == np.float32 for name in arrays.files)
    assert zipfile.ZipFile(tmp_path / "a" / "net.npz").testzip() is None


@pytest.mark.parametrize("seed", range(30))
def test_random_rows_of_blocks(seed: int, tmp_path: Path) -> None:
    """Rows of almost equal blocks, with names that collide: the code gives what the native file gives."""
    graph, x = random_graph(seed)
    model = hub.load(graph)
    expected = list(model.run(x).values())
    results = []
    for name in ("net.dnn", "net.py"):
        runner = cntk.open(hub.save(model, tmp_path / name, to="cntk")[0])
        results.append(runner.run({model.inputs[0].name: x}))
        runner.close()
    for e, (key, value) in zip(expected, results[0].items(), strict=True):
        np.testing.assert_array_equal(value, results[1][key])
        assert np.abs(value - e).max() <= 1e-4 * max(float(np.ptp(e)), 1e-3 * float(np.abs(e).max()), 1e-6)


HOSTILE = ['"); import os; os._exit(3)  # ', "a\nb", "{x}", "f'{y}", "\\", "é€", "", " ", "None", "w", "C", "x" * 400]


def test_names_are_never_code(tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for name in HOSTILE:
            with g.layer(name or "n", name):
                weight = g.constant(normal(np.random.default_rng(1), 3, 3), "W")
                y = g.op("Tanh", g.op("MatMul", y, weight))
        return y

    model = network(build, ["N", 3])
    model.ir.graph.name = HOSTILE[0]
    model.ir.graph.inputs[0].name = HOSTILE[0]
    model.ir.graph.outputs[0].name = HOSTILE[1]
    code = text(model, tmp_path)
    calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)}
    assert "os._exit" not in calls
    runner = cntk.open(tmp_path / "net.py")
    x = normal(np.random.default_rng(0), 2, 3)
    (got,) = runner.run({runner.inputs[0].name: x}).values()
    runner.close()
    np.testing.assert_allclose(got, next(iter(model.run(x).values())), atol=1e-6)


def test_a_shared_layer_is_one_layer(tmp_path: Path) -> None:
    weight, bias = (normal(np.random.default_rng(i), *shape) for i, shape in enumerate([(3, 3), (3,)]))

    def build(g: Any, x: Any) -> Any:
        w, b = g.constant(weight, "w"), g.constant(bias, "b")
        return g.op("Add", *(g.op("Gemm", v, w, b) for v in x))

    model = network(build, ["N", 3], ["N", 3])
    rng = np.random.default_rng(0)
    for target in ("cntk", "cntk code"):
        agrees(model, tmp_path, normal(rng, 2, 3), normal(rng, 2, 3), target=target)
    with np.load(tmp_path / "net.npz") as arrays:
        assert len(arrays.files) == 2


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    model = network(
        lambda g, x: [g.op("Sub", *x), g.op("Relu", x[1]), x[0], y := g.op("Tanh", x[0]), y], ["N", 3], ["N", 3]
    )
    rng = np.random.default_rng(0)
    for target in ("cntk", "cntk code"):
        agrees(model, tmp_path, normal(rng, 2, 3), normal(rng, 2, 3), target=target)


def test_weights_are_streamed(tmp_path: Path) -> None:
    """No more than a layer is in memory at a time."""
    import tracemalloc

    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 1, (1024, 1024)).astype(np.float32) for _ in range(8)]

    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for number, weight in enumerate(weights):
            y = g.op("MatMul", y, g.constant(weight, f"w{number}"))
        return y

    model = network(build, ["N", 1024])
    for name in ("net.dnn", "net.py"):
        tracemalloc.start()
        hub.save(model, tmp_path / name, to="cntk")
        assert tracemalloc.get_traced_memory()[1] < 12 << 20  # of 32 MB
        tracemalloc.stop()


def test_code_is_no_source(tmp_path: Path) -> None:
    hub.save(residual(1), tmp_path / "net.py", to="cntk")
    with pytest.raises(hub.UsageError, match=r"code, which is not executed; .*`python net.py` saves the model"):
        hub.load(tmp_path / "net.py")


def test_an_activation_of_the_same_layer_is_an_argument(tmp_path: Path) -> None:
    weight = normal(np.random.default_rng(0), 3, 3)

    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for number, op in enumerate(("Relu", "Swish", "HardSwish", "Softmax")):
            with g.layer(f"fc{number}", "Dense"):
                y = g.op(op, g.op("MatMul", y, g.constant(weight, "W")))
        return y

    model = network(build, ["N", 3])
    code = text(model, tmp_path)
    assert 'dense(x, w, "fc1", activation=swish)' in code
    assert 'dense(x, w, "fc3", activation=C.softmax)' in code
    for target in ("cntk", "cntk code"):
        runner = cntk.open(hub.save(model, tmp_path / ("net.dnn" if target == "cntk" else "net.py"), to="cntk")[0])
        assert {"fc0", "fc1", "fc2", "fc3"} <= set(runner.layers)
        runner.close()


@pytest.mark.parametrize(
    "names", [("a.b", "a_b"), ("C", "C_"), ("w", "w_"), ("number", "other"), ('x"', "x'"), ("x", "x2")]
)
def test_inputs_of_any_names_stay_apart(names: tuple[str, str], tmp_path: Path) -> None:
    """Also from each other where they are the same as identifiers, and from the counter of a loop."""
    weights = [normal(np.random.default_rng(i), 3, 3) for i in range(4)]

    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for number, weight in enumerate(weights):
            with g.layer(f"dense{number}", "Dense"):
                y = g.op("MatMul", y, g.constant(weight, "W"))
        return g.op("Sub", y, x[1])

    model = network(build, ["N", 3], ["N", 3])
    for value, name in zip(model.ir.graph.inputs, names, strict=True):
        value.name = name
    assert "for number in range" in text(model, tmp_path)
    feeds = {name: normal(np.random.default_rng(k), 2, 3) for k, name in enumerate(names)}
    expected = model.run(feeds)["y0"]
    for path in (tmp_path / "net.py", hub.save(model, tmp_path / "net.dnn")[0]):
        runner = cntk.open(path)
        own = sorted(info.name for info in runner.inputs)
        assert len({*own}) == 2
        got = runner.run(dict(zip(own, (feeds[name] for name in sorted(names)), strict=True)))["y0"]
        runner.close()
        np.testing.assert_allclose(got, expected, atol=1e-5)


def numbered(names: list[str]) -> hub.Model:
    """Blocks of two layers."""
    weights = [normal(np.random.default_rng(i), 3, 3) for i in range(len(names))]

    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for name, weight in zip(names, weights, strict=True):
            with g.layer(name, "Dense"):
                y = g.op("Tanh", g.op("MatMul", y, g.constant(weight, "W")))
        return y

    return network(build, ["N", 3])


@pytest.mark.parametrize("form", ["{}", "{} ", "0{}", "{}_0", "{0}_{0}"])
def test_names_that_are_numbers(form: str, tmp_path: Path) -> None:
    model = numbered([form.format(number) for number in range(8, 14)])
    agrees(model, tmp_path, normal(np.random.default_rng(0), 2, 3), target="cntk code")


def test_long_names(tmp_path: Path) -> None:
    """A line that is opened at the brackets of an index gets no comma there, which would make a tuple of it."""

    def build(g: Any, x: Any) -> Any:
        with g.layer("encoder/" * 12, "Add"):
            return g.op("Add", x[0], g.constant(normal(np.random.default_rng(0), 3), "c"))

    agrees(network(build, ["N", 3]), tmp_path, normal(np.random.default_rng(1), 2, 3), target="cntk code")
    assert 'weight",' not in (tmp_path / "net.py").read_text()


def test_the_same_weights_train(tmp_path: Path) -> None:
    """What is a parameter of the native model is one of the code, which goes by names."""
    model = hub.load(random_weights(tmp_path))
    (native,) = hub.save(model, tmp_path / "net.dnn")
    hub.save(model, tmp_path / "net.py", to="cntk")
    trained = {v["name"] for v in read(native)["inputs"] if v["kind"] == 2}
    with np.load(tmp_path / "net.npz") as arrays:
        assert trained == {n for n in arrays.files if n.rpartition(".")[2].rstrip("0123456789") in TRAINED}
    assert "layer.weight" in trained


def random_weights(folder: Path) -> Path:
    rng = np.random.default_rng(0)

    def build(g: Any, x: Any) -> Any:
        y = g.op("Gemm", x[0], g.constant(normal(rng, 3, 3), "w"), g.constant(normal(rng, 3), "b"))
        return g.op("Mul", y, g.constant(normal(rng, 3), "scale"))

    return hub.save(network(build, ["N", 3]), folder / "net.onnx")[0]


def test_what_counts_up_is_whole_numbers() -> None:
    """The digits of a float are none, of a negative number they are."""
    for form, expected in (
        ("x = f(x, 1e-{})", None),
        ("x = f(x, 1e+{})", None),
        ("x = f(x, 0.{})", None),
        ("x = f(x, x{})", None),
        ("x = f(x, -{})", "x = f(x, -number)"),
        ('x = f(x, "a{}")', 'x = f(x, f"a{number}")'),
    ):
        lines = [form.format(number) for number in range(16, 20)]
        looped = [(0, "for number in range(16, 20):"), (4, expected)]
        assert list(loops(lines)) == (looped if expected else [(0, line) for line in lines])
