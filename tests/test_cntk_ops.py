"""Every construction of the CNTK exporter on random cases: files and code in the real CNTK against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from conftest import need_runtime
from op_cases import CASES, SEEDS, drawn, normal
from out_nets import agrees, network, opened, saved
from out_random import judged

import hub
from hub.dnn import OPERATORS, read

need_runtime("cntk")
need_runtime("cntk-python")

TARGETS = ("cntk", "cntk code")
SAMPLES: list[int | str] = ["N", 3]
MIXED = "mixes the batch with other axes"
"""What a Reshape that CNTK cannot say exactly does; random cases have some."""


def mixes(model: hub.Model, folder: Path) -> bool:
    """Whether the model is refused for that."""
    try:
        saved(model, folder, "cntk")
    except hub.UnsupportedOps as error:
        return all(op.op == "Reshape" and MIXED in op.reason for op in error.ops)
    return False


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_a_random_case(name: str, seed: int, tmp_path: Path) -> None:
    model, shape, rng = drawn(name, seed)
    if name == "reshaping" and mixes(model, tmp_path):
        return
    for batch in (2, 3):
        agrees(model, tmp_path, rng.normal(-0.5, 2, [batch, *shape]).astype(np.float32), target="cntk")


@pytest.mark.parametrize("name", CASES)
def test_code_says_the_same(name: str, tmp_path: Path) -> None:
    """The code and the native file give the same numbers, to the last bit, and have the same names."""
    for seed in range(3):
        model, shape, rng = drawn(name, seed)
        if name == "reshaping" and mixes(model, tmp_path):
            continue
        feeds = {model.inputs[0].name: rng.normal(-0.5, 2, [2, *shape]).astype(np.float32)}
        results = []
        for target in TARGETS:
            runner = opened(saved(model, tmp_path, target), target)
            names = {name for name in runner.layers if not name.endswith("_ELU")}  # what C.elu calls a part of its own
            results.append((runner.run(feeds), names))
            runner.close()
        (native, ours), (code, theirs) = results
        assert list(native) == list(code)
        for key, value in native.items():
            np.testing.assert_array_equal(value, code[key])
        assert ours == theirs


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_graphs(first: int, tmp_path: Path) -> None:
    outcomes = {seed: judged(seed, tmp_path, target="cntk") for seed in range(first, first + 20)}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}
    assert sum(o.compared for o in outcomes.values()) >= 30
    assert sum(bool(o.refused) for o in outcomes.values()) <= 5


def test_random_graphs_as_code(tmp_path: Path) -> None:
    outcomes = {seed: judged(seed, tmp_path, target="cntk code") for seed in range(300, 330)}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}


def test_layers_of_random_graphs(tmp_path: Path) -> None:
    outcomes = {seed: judged(seed, tmp_path, layers=True, target="cntk") for seed in range(200, 230)}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}


def test_limits_hold_for_infinite_and_huge_numbers(tmp_path: Path) -> None:
    x = np.array([[-3e38, -1, 0, 5.9999995, 6, 7, 1e30, 3e38, np.inf]], np.float32)
    bounds = [np.float32(0), np.float32(6)]
    model = network(lambda g, v: g.op("Clip", v[0], *(g.constant(b, f"b{b}") for b in bounds)), ["N", 9])
    agrees(model, tmp_path, x, tolerance=0, target="cntk")


def test_a_maximum_of_negative_numbers_is_never_the_padding(tmp_path: Path) -> None:
    model = network(
        lambda g, x: g.op("MaxPool", x[0], kernel_shape=[3, 2], strides=[2, 1], pads=[0, 0, 1, 1]), ["N", 2, 8, 7]
    )
    x = -1 - np.random.default_rng(0).random((2, 2, 8, 7)).astype(np.float32)
    for target in TARGETS:
        agrees(model, tmp_path, x, tolerance=0, target=target)


@pytest.mark.parametrize("windows", [[2, 2], [3, 2]])
def test_dilated_pooling(windows: list[int], tmp_path: Path) -> None:
    options = {"kernel_shape": windows, "dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 0, 1]}
    model = network(lambda g, x: g.op("MaxPool", x[0], **options), ["N", 3, 9, 8])
    agrees(model, tmp_path, normal(np.random.default_rng(0), 2, 3, 9, 8), tolerance=0, target="cntk")


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("group", [2, 4])
def test_grouped_convolutions(axes: int, group: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(axes)
    weight, bias = normal(rng, 8, 4 // group, *[3, 2, 2][:axes]), normal(rng, 8)
    shape = [4, *[7, 6, 5][:axes]]
    for op, kernel in (("Conv", weight), ("ConvTranspose", normal(rng, 4, 8 // group, *[3, 2, 2][:axes]))):

        def build(g: Any, x: Any, op: str = op, kernel: Any = kernel) -> Any:
            return g.op(op, x[0], g.constant(kernel, "w"), g.constant(bias, "b"), group=group)

        agrees(network(build, ["N", *shape]), tmp_path, normal(rng, 2, *shape), target="cntk")


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_equal_extremes(op: str, last: int, tmp_path: Path) -> None:
    x = np.array([[[1, 3, 3, 0, 0], [2, 2, 2, 2, 2]]], np.float32)
    model = network(lambda g, v: g.op(op, v[0], axis=2, keepdims=0, select_last_index=last), ["N", 2, 5])
    agrees(model, tmp_path, x, tolerance=0, target="cntk")


def test_an_embedding_of_integer_indices(tmp_path: Path) -> None:
    table = normal(np.random.default_rng(0), 11, 4)
    model = network(lambda g, x: g.op("Gather", g.constant(table, "t"), x[0]), ["N", 5], dtype=ir.DataType.INT64)
    for target in TARGETS:
        agrees(model, tmp_path, np.array([[0, 10, 3, -3, 7]] * 2), tolerance=0, target=target)
    assert any("float32 in CNTK; it is int64 in the source" in warning for warning in model.warnings)


def test_a_batch_that_is_not_the_first_axis(tmp_path: Path) -> None:
    """The file has the batch first, and says where the source has it."""
    model = network(lambda g, x: g.op("Softmax", g.op("Tanh", x[0]), axis=2), [5, "N", 3])
    for target in TARGETS:
        agrees(model, tmp_path, normal(np.random.default_rng(0), 5, 2, 3), target=target)
    assert any("batch first; it is axis 1 in the source" in warning for warning in model.warnings)


def test_a_network_without_a_batch(tmp_path: Path) -> None:
    """Where the batch cannot stay apart and all sizes are fixed, it is an axis as any other."""
    model = network(lambda g, x: g.op("Softmax", g.op("Transpose", x[0], perm=[1, 0]), axis=1), [4, 3])
    for target in TARGETS:
        agrees(model, tmp_path, normal(np.random.default_rng(0), 4, 3), target=target)
    assert [v["dynamic_axis"] for v in read(saved(model, tmp_path, "cntk"))["inputs"]] == [[]]


def test_the_batch_is_dynamic_as_in_native_models(tmp_path: Path) -> None:
    for batch in ("N", 1, 3):
        model = network(lambda g, x: g.op("Relu", x[0]), [batch, 3])
        (variable,) = read(saved(model, tmp_path, "cntk"))["inputs"]
        assert [axis.name for axis in variable["dynamic_axis"]] == ["defaultBatchAxis"]
        assert variable["shape"] == (3,)


def test_everything_refused_comes_in_one_error(tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Det", g.op("Softmax", x[0], axis=0))
        return g.op("IsInf", y)

    with pytest.raises(hub.UnsupportedOps) as error:
        saved(network(build, ["N", 3, 3]), tmp_path, "cntk")
    assert [op.op for op in error.value.ops] == ["Softmax", "Det", "IsInf"]
    assert not list(tmp_path.iterdir())


def test_open_sizes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    model = network(lambda g, x: g.op("Relu", x[0]), ["N", 3, "H", "W"])
    with pytest.raises(hub.UnsupportedOps, match="inputs="):
        saved(model, tmp_path, "cntk")


def test_what_is_approximate_is_said(tmp_path: Path) -> None:
    model = network(lambda g, x: g.op("Gelu", x[0]), ["N", 3])
    saved(model, tmp_path, "cntk")
    assert any("error function" in warning for warning in model.warnings)


def test_nothing_is_padded_by_cntk(tmp_path: Path) -> None:
    """CNTK's automatic padding is neither of ONNX's, and its explicit one throws at times: C.pad is exact."""
    weight = normal(np.random.default_rng(0), 4, 3, 3, 2)

    def build(g: Any, x: Any) -> Any:
        y = g.op("Conv", x[0], g.constant(weight, "w"), pads=[0, 1, 1, 0], strides=[2, 1])
        return g.op("AveragePool", y, kernel_shape=[2, 2], pads=[1, 0, 0, 1])

    functions = read(saved(network(build, ["N", 3, 8, 7]), tmp_path, "cntk"))["primitive_functions"]
    names = [OPERATORS[f["op"]] for f in functions]
    assert names[:4] == ["Pad", "Convolution", "Pad", "Pooling"]
    for function in functions:
        assert not any(function["attributes"].get("autoPadding", []))
        assert not any(function["attributes"].get("lowerPad", ()))


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal", "Div", "Pow"])
def test_what_cntk_gives_at_the_edges_is_said(op: str, tmp_path: Path) -> None:
    model = network(lambda g, x: g.op(op, *x), *[SAMPLES] * (2 if op in ("Div", "Pow") else 1))
    saved(model, tmp_path, "cntk")
    assert any(warning.startswith("CNTK gives 0 for x / 0") for warning in model.warnings)


def test_nothing_is_said_of_a_divisor_that_is_known(tmp_path: Path) -> None:
    for op in ("Div", "Pow"):

        def build(g: Any, x: Any, op: str = op) -> Any:
            return g.op(op, x[0], g.constant(np.float32(3), "three"))

        model = network(build, ["N", 3])
        saved(model, tmp_path, "cntk")
        assert model.warnings == []


def test_acosh_close_to_one_and_far_from_it(tmp_path: Path) -> None:
    model = network(lambda g, v: g.op("Acosh", v[0]), ["N", 4])
    for x in ([1, 1.0001, 1.001, 1.01], [3, 1e10, 1e20, 1e38]):
        agrees(model, tmp_path, np.array([x], np.float32), target="cntk")


@pytest.mark.parametrize("op", ["MaxPool", "LpPool", "AveragePool"])
def test_a_last_window_behind_the_input_is_refused(op: str, tmp_path: Path) -> None:
    """ONNX Runtime leaves it out, as the standard says; shapes that were inferred before opset 22 have it."""
    options: dict[str, Any] = {"kernel_shape": [4, 3], "strides": [2, 1], "pads": [0, 2, 3, 0], "ceil_mode": 1}
    sizes = [onnx.helper.make_tensor_value_info(n, 1, [2, 3, *rest]) for n, rest in (("x", (4, 5)), ("y", (3, 5)))]
    graph = onnx.helper.make_graph([onnx.helper.make_node(op, ["x"], ["y"], **options)], "net", sizes[:1], sizes[1:])
    opsets = [onnx.helper.make_opsetid("", 21)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "net.onnx")
    model = hub.load(tmp_path / "net.onnx")
    with pytest.raises(hub.UnsupportedOps, match="behind the input"):
        saved(model, tmp_path, "cntk")


def test_a_maximum_of_nothing_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [4, 1], "pads": [1, 1, 1, 1], "dilations": [2, 2]}
    model = network(lambda g, x: g.op("MaxPool", x[0], **options), ["N", 3, 6, 1])
    with pytest.raises(hub.UnsupportedOps, match="outside of the input"):
        saved(model, tmp_path, "cntk")


def test_nothing_left_of_an_axis_is_refused(tmp_path: Path) -> None:
    def cut(g: Any, x: Any) -> Any:
        return g.op("Pad", x[0], g.ints([0, -2, 0, 3], "pads"))

    def shrunk(g: Any, x: Any) -> Any:
        return g.op("Resize", x[0], None, g.constant(np.array([1, 0.3], np.float32), "scales"))

    for build, reason in ((cut, "cuts off all"), (shrunk, "without elements")):
        with pytest.raises(hub.UnsupportedOps, match=reason):
            saved(network(build, ["N", 2]), tmp_path, "cntk")
