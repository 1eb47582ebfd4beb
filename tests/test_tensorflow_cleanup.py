"""What is taken away of another converter's graph: shapes computed at run time, and Slices that keep all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from hub.canonical import canonicalize
from hub.cleanup import clean
from hub.model import Model


def _model(text: str, **constants: Any) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> {text}')
    for name, value in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    return Model(canonicalize(ir.from_proto(proto)))


def _cleaned(model: Model, *feeds: np.ndarray[Any, Any]) -> list[str]:
    """The operators that are left, after the numbers were compared."""
    before = Model(model.ir.clone()).run(list(feeds))
    clean(model.ir)
    after = Model(model.ir).run(list(feeds))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    return [node.op_type for node in model.ir.graph]


def test_a_shape_with_one_open_size_is_a_constant() -> None:
    model = _model(
        """g (float[N, 3, 4] x) => (float[a, b, c] y) {
             s = Shape (x)
             n = Gather <axis = 0> (s, zero)
             t = Concat <axis = 0> (n, rest)
             r = Reshape (x, t)
             y = Relu (r)
           }""",
        zero=[0],
        rest=[2, 6],
    )
    assert _cleaned(model, np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)) == ["Reshape", "Relu"]
    assert model.outputs[0].shape == ("N", 2, 6)


def test_a_shape_with_two_open_sizes_stays() -> None:
    model = _model(
        """g (float[N, M, 4] x) => (float[a, b, c] y) {
             s = Shape (x)
             m = Gather <axis = 0> (s, one)
             n = Gather <axis = 0> (s, zero)
             t = Concat <axis = 0> (m, n, rest)
             y = Reshape (x, t)
           }""",
        zero=[0],
        one=[1],
        rest=[4],
    )
    assert "Shape" in _cleaned(model, np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32))
    assert model.outputs[0].shape == ("M", "N", 4)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "left"),
    [
        ([0, 0], [10**9, 2**31 - 1], [0, 1], ["Relu"]),
        ([0, 1], [2**63 - 1, 3], [0, 1], ["Slice", "Relu"]),
        ([0], [4], [2], ["Relu"]),
        ([0], [3], [2], ["Slice", "Relu"]),
        ([1], [2**31 - 1], [0], ["Slice", "Relu"]),
        ([0], [4], [0], ["Slice", "Relu"]),
    ],
)
def test_axes_of_which_all_is_kept(starts: list[int], ends: list[int], axes: list[int], left: list[str]) -> None:
    model = _model(
        "g (float[N, 3, 4] x) => (float[a, b, c] y) { s = Slice (x, starts, ends, axes)  y = Relu (s) }",
        starts=starts,
        ends=ends,
        axes=axes,
    )
    assert _cleaned(model, np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)) == left
    for node in model.ir.graph:
        if node.op_type == "Slice":
            kept = ir.convenience.get_const_tensor(node.inputs[3])
            assert kept is not None
            assert kept.numpy().tolist() == axes[-1:]


def test_a_size_that_follows_nothing_has_no_name() -> None:
    model = _model("g (float[N, 3] x) => (float[a, b] y) { z = Concat <axis = 0> (x, x)  y = Relu (z) }")
    assert _cleaned(model, np.ones((2, 3), np.float32)) == ["Concat", "Relu"]
    assert model.outputs[0].shape[1] == 3
    assert model.outputs[0].shape[0] != "N"
