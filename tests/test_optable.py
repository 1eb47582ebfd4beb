"""The binder: nothing that a node says is dropped without a word."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from hub.errors import InvalidModel, Refusal, UnsupportedOps
from hub.optable import OpTable

OPSET = 25


def node(op_type: str, inputs: int = 1, outputs: int = 1, domain: str = "", **attributes: Any) -> ir.Node:
    values = [ir.Value(name=f"x{i}") for i in range(inputs)]
    made = ir.node(op_type, values, attributes, num_outputs=outputs, domain=domain, name="n")
    return made


def table() -> OpTable:
    ops = OpTable("target")

    @ops("Softmax", since=13)
    def softmax(emit: Any, x: Any, *, axis: int) -> int:
        return axis

    @ops("MaxPool", since=8)
    def max_pool(emit: Any, x: Any, *, kernel_shape: list[int], strides: list[int] | None) -> Any:
        return kernel_shape, strides

    @ops("Clip", since=11)
    def clip(emit: Any, x: Any, low: Any = None, high: Any = None) -> Any:
        return low, high

    @ops("Concat")
    def concat(emit: Any, *inputs: Any, axis: int) -> int:
        return len(inputs)

    return ops


def test_defaults_come_from_the_schema() -> None:
    assert table().bind(node("Softmax"), OPSET)(None) == -1
    assert table().bind(node("Softmax", axis=1), OPSET)(None) == 1


def test_an_attribute_that_is_not_named_is_legal_only_at_its_default() -> None:
    ops = table()
    assert ops.bind(node("MaxPool", kernel_shape=[2, 2], ceil_mode=0), OPSET)(None) == ([2, 2], None)
    with pytest.raises(Refusal, match="ceil_mode=1"):
        ops.bind(node("MaxPool", kernel_shape=[2, 2], ceil_mode=1), OPSET)
    with pytest.raises(Refusal, match=r"dilations=\[2, 2\]"):
        ops.bind(node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), OPSET)


def test_a_missing_required_attribute_is_refused() -> None:
    with pytest.raises(Refusal, match="kernel_shape is missing"):
        table().bind(node("MaxPool"), OPSET)


def test_absent_inputs_are_none_and_variadic_ones_all_there() -> None:
    assert table().bind(node("Clip"), OPSET)(None) == (None, None)
    assert table().bind(node("Concat", inputs=3, axis=0), OPSET)(None) == 3


def test_an_input_that_the_function_does_not_take_is_refused() -> None:
    ops = OpTable("target")
    ops("Clip")(lambda emit, x, low: low)
    with pytest.raises(Refusal, match="its input max is given"):
        ops.bind(node("Clip", inputs=3), OPSET)


def test_an_output_that_is_used_and_not_given_is_refused() -> None:
    made = node("MaxPool", outputs=2, kernel_shape=[2, 2])
    table().bind(made, OPSET)
    ir.node("Identity", [made.outputs[1]])
    with pytest.raises(Refusal, match="Indices"):
        table().bind(made, OPSET)


def test_lookup_is_by_floor_of_the_since_version() -> None:
    ops = OpTable("target")
    ops("Relu", since=6)(lambda emit, x: 6)
    ops("Relu", since=14)(lambda emit, x: 14)
    assert ops.bind(node("Relu"), 13)(None) == 6
    assert ops.bind(node("Relu"), OPSET)(None) == 14


def test_unknown_operators() -> None:
    with pytest.raises(Refusal, match="no form of it yet"):
        table().bind(node("Relu"), OPSET)
    with pytest.raises(InvalidModel, match="NoSuchOp"):
        table().bind(node("NoSuchOp"), OPSET)
    with pytest.raises(Refusal, match="custom operator"):
        table().bind(node("Relu", domain="my.domain"), OPSET)


def test_a_second_registration_is_an_error() -> None:
    ops = table()
    with pytest.raises(ValueError, match="Softmax since 13 is registered twice"):
        ops("Softmax", since=13)(lambda emit, x: None)


def test_refusals_are_grouped_by_op_and_reason() -> None:
    same = [("Conv", f"layer{i}", Refusal("groups")) for i in range(6)]
    error = UnsupportedOps.collect("No:", [*same, ("Conv", "last", Refusal("dilation", "use another"))])
    assert [(op.op, op.reason, len(op.layers)) for op in error.ops] == [("Conv", "groups", 6), ("Conv", "dilation", 1)]
    assert "6 in all" in str(error)
    assert "use another" in str(error)
