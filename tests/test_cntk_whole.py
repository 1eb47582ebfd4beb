"""Networks whose batch cannot stay apart, in CNTK: they work on whole tensors, and operators that need a batch get
one there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import need_runtime
from onnx import helper, numpy_helper

need_runtime("cntk")
need_runtime("cntk-python")

import onnxruntime  # noqa: E402

import hub  # noqa: E402
from parity.runners.cntk import open as open_cntk  # noqa: E402

RNG = np.random.default_rng(0)


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(RNG.normal(0, 0.5, shape).astype(np.float32), name)


def spread(name: str, size: int) -> Any:
    return numpy_helper.from_array(RNG.uniform(0.5, 2, size).astype(np.float32), name)


NORMALIZED = [spread("s", 4), weight("b", 4), weight("m", 4), spread("v", 4)]
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "convolution": (
        [helper.make_node("Conv", ["t", "w", "b"], ["y"], name="layer", pads=[1, 0, 1, 2], strides=[2, 1])],
        [weight("w", 5, 4, 3, 2), weight("b", 5)],
    ),
    "transposed convolution": (
        [helper.make_node("ConvTranspose", ["t", "w"], ["y"], name="layer", strides=[2, 2], output_padding=[1, 0])],
        [weight("w", 4, 3, 3, 2)],
    ),
    "pools": (
        [
            helper.make_node("MaxPool", ["t"], ["u"], name="first", kernel_shape=[2, 3], pads=[1, 1, 0, 1]),
            helper.make_node("AveragePool", ["u"], ["y"], name="second", kernel_shape=[2, 2], strides=[2, 1]),
        ],
        [],
    ),
    "global pool": ([helper.make_node("GlobalAveragePool", ["t"], ["y"], name="layer")], []),
    "normalizations": (
        [
            helper.make_node("BatchNormalization", ["t", "s", "b", "m", "v"], ["u"], name="first"),
            helper.make_node("InstanceNormalization", ["u", "s", "b"], ["i"], name="second"),
            helper.make_node("LRN", ["i"], ["y"], name="third", size=3, alpha=0.3),
        ],
        NORMALIZED,
    ),
    "blocks of channels": ([helper.make_node("DepthToSpace", ["t"], ["y"], name="layer", blocksize=2)], []),
}


def network(nodes: Sequence[Any], weights: Sequence[Any]) -> onnx.ModelProto:
    """The nodes between two that mix what a batch keeps apart: a sum over the first axis, and a turn of axes."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["total"], name="total"),
            helper.make_node("Sub", ["x", "total"], ["d"], name="d"),
            helper.make_node("Transpose", ["d"], ["t"], name="turn", perm=[1, 0, 2, 3]),
            *nodes,
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, [4, 3, 6, 7])],
        [helper.make_tensor_value_info("y", 1, None)],
        [*weights, numpy_helper.from_array(np.array([0]), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def agrees(model: onnx.ModelProto, folder: Path) -> str:
    """Both files compute what ONNX Runtime does; returns the code."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {i.name: RNG.normal(0, 1, i.shape).astype(np.float32) for i in session.get_inputs()}
    expected = session.run(None, feeds)
    hub.save(hub.load(model), folder / "net.dnn")
    hub.save(hub.load(model), folder / "net.py", to="cntk")
    for file in ("net.dnn", "net.py"):
        runner = open_cntk(folder / file)
        try:
            actual = list(runner.run(feeds).values())
        finally:
            runner.close()
        for a, b in zip(actual, expected, strict=True):
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-5 * (b.max() - b.min())
    return (folder / "net.py").read_text()


@pytest.mark.parametrize("name", CASES)
def test_operators_that_need_a_batch(name: str, tmp_path: Path) -> None:
    code = agrees(network(*CASES[name]), tmp_path)
    assert "dynamic_axes=[]" in code
    assert "C.to_batch(" in code
    assert "C.unpack_batch(" in code


def test_a_batch_is_kept_from_one_operator_to_the_next(tmp_path: Path) -> None:
    code = agrees(network(*CASES["pools"]), tmp_path)
    assert code.count("C.to_batch(") == 1
    assert code.count("C.unpack_batch(") == 1


def test_one_batch_for_all_that_work_on_a_tensor(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MaxPool", ["t"], ["u"], name="first", kernel_shape=[3, 3]),
        helper.make_node("AveragePool", ["t"], ["v"], name="second", kernel_shape=[3, 3]),
        helper.make_node("Sub", ["u", "v"], ["y"], name="third"),
    ]
    code = agrees(network(nodes, []), tmp_path)
    assert code.count("C.to_batch(") == 1


def test_a_recurrent_layer_in_the_middle(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["t", "shape"], ["r"], name="steps"),
        helper.make_node("LSTM", ["r", "w", "u"], ["", "h"], name="lstm", hidden_size=5),
        helper.make_node("MatMul", ["h", "k"], ["y"], name="product"),
    ]
    weights = [weight("w", 1, 20, 14), weight("u", 1, 20, 5), weight("k", 5, 2)]
    weights.append(numpy_helper.from_array(np.array([12, 3, 14]), "shape"))
    agrees(network(nodes, weights), tmp_path)
