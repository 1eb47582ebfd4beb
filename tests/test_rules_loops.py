"""Loops of a known length, step by step: before equals after in ONNX Runtime, and why others stay loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import hub
from exporters.rules.unroll_loops import unroll_loops
from hub.model import Model

F, INT, B = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
value = helper.make_tensor_value_info


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> Model:
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    return hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def loop(steps: Any = 4, goes: Any = True, ends: str = "Identity", computed: bool = False) -> Model:
    """s = s * x + step, which is also given out at each step."""
    body = helper.make_graph(
        [
            helper.make_node("Cast", ["step"], ["number"], to=F),
            helper.make_node("Mul", ["s", "x"], ["product"]),
            helper.make_node("Add", ["product", "number"], ["next"]),
            helper.make_node("Identity", ["next"], ["row"]),
            helper.make_node(ends, ["going"], ["after"]),
        ],
        "body",
        [value("step", INT, []), value("going", B, []), value("s", F, [3])],
        [value("after", B, []), value("next", F, [3]), value("row", F, [3])],
    )
    before = [helper.make_node("Size", ["x"], ["M"])] if computed else []
    node = helper.make_node("Loop", ["M", "going0", "s0"], ["last", "rows"], name="loop", body=body)
    constants = {"going0": np.array(goes), "s0": np.ones(3, np.float32)} | ({} if computed else {"M": np.int64(steps)})
    return model([*before, node], [value("x", F, [3])], [value("last", F, [3]), value("rows", F, None)], constants)


def scan(**attributes: Any) -> Model:
    """A running sum along an axis, and its square at each step."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "row"], ["next"]),
            helper.make_node("Mul", ["next", "next"], ["square"]),
        ],
        "body",
        [value("s", F, [3]), value("row", F, [3])],
        [value("next", F, [3]), value("square", F, [3])],
    )
    node = helper.make_node(
        "Scan", ["s0", "x"], ["last", "rows"], name="scan", body=body, num_scan_inputs=1, **attributes
    )
    shape = [3, 5] if attributes.get("scan_input_axes") == [1] else [5, 3]
    outputs = [value("last", F, [3]), value("rows", F, None)]
    return model([node], [value("x", F, shape)], outputs, {"s0": np.zeros(3, np.float32)})


def unrolled(before: Model) -> Model:
    copied = before.ir.clone()
    assert unroll_loops(copied).changed
    assert not {"Loop", "Scan"} & {node.op_type for node in copied.graph}
    return Model(copied)


CASES = {
    "loop": loop(),
    "one step": loop(1),
    "scan": scan(),
    "along an axis": scan(scan_input_axes=[1], scan_output_axes=[1]),
    "backwards": scan(scan_input_directions=[1]),
    "written backwards": scan(scan_output_directions=[1]),
}


@pytest.mark.parametrize("name", CASES)
def test_before_equals_after(name: str) -> None:
    before = CASES[name]
    feed = np.random.default_rng(0).normal(0, 1, before.inputs[0].shape).astype(np.float32)
    expected, got = before.run(feed), unrolled(before).run(feed)
    assert list(expected) == list(got)
    for key, array in expected.items():
        np.testing.assert_array_equal(array, got[key])


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (loop(computed=True), "computed"),
        (loop(goes=False), "before its first step"),
        (loop(ends="Not"), "end early"),
        (loop(5000), "5000 steps"),
        (loop(0), "0 steps"),
    ],
    ids=["computed", "never", "ends early", "too many", "none"],
)
def test_what_stays_a_loop_says_why(before: Model, reason: str) -> None:
    copied = before.ir.clone()
    applied = unroll_loops(copied)
    assert not applied.changed
    assert all(reason in text for text in applied.left.values())
    assert len(applied.left) == 1
