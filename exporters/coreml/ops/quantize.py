"""Numbers of 8 bits and their scales; Core ML holds the numbers as int32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from exporters.coreml.emit import SMALL
from exporters.coreml.ops.conv import EXACT, conv_integer
from exporters.coreml.ops.dense import product
from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


def _along(emit: Emitter, value: ir.Value, x: ir.Value, axis: int, block_size: int) -> Var:
    """A scale or a zero point, beside the axis of `x` that it is of, in float32."""
    var = emit.cast(emit.var(value), "fp32")
    if emit.rank(value) == 0 or emit.shape(value) == (1,):
        return var if emit.rank(value) == 0 else emit("squeeze", x=var)
    if block_size or emit.rank(value) != 1:
        raise Refusal("scales of blocks")
    return emit("reshape", x=var, shape=[-1 if i == axis % emit.rank(x) else 1 for i in range(emit.rank(x))])


@OPS("DequantizeLinear", since=10)
def dequantize_linear(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    zero_point: ir.Value | None,
    *,
    axis: int,
    block_size: int,
    output_dtype: int,
) -> Var:
    """(x - zero point) * scale"""
    if output_dtype not in (0, ir.DataType.FLOAT.value) or emit.kind(scale) != ir.DataType.FLOAT:
        raise Refusal("a result that is not float32")
    data = emit.cast(emit.var(x), "fp32")
    if zero_point is not None:
        data = emit("sub", x=data, y=_along(emit, zero_point, x, axis, block_size))
    return emit("mul", x=data, y=_along(emit, scale, x, axis, block_size))


@OPS("QuantizeLinear", since=10)
def quantize_linear(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    zero_point: ir.Value | None,
    *,
    axis: int,
    block_size: int,
    output_dtype: int,
    precision: int,
    saturate: int,
) -> Var:
    """clip(round(x / scale) + zero point)"""
    assert emit.node is not None
    if emit.kind(x) != ir.DataType.FLOAT or precision not in (0, ir.DataType.FLOAT.value):
        raise Refusal("quantized from another type than float32")
    zero = None if zero_point is None else _along(emit, zero_point, x, axis, block_size)
    scaled = emit("real_div", x=x, y=_along(emit, scale, x, axis, block_size))
    return rounded(emit, scaled, zero, emit.node.outputs[0].dtype)


def rounded(emit: Emitter, x: Var, zero: Any, kind: ir.DataType | None) -> Var:
    """The nearest number of a small type, the even one of two."""
    if kind not in SMALL:
        raise Refusal(f"quantized to {kind.name.lower() if kind is not None else 'no type'}")
    low, high = SMALL[kind]
    near = emit("round", x=x)
    moved = near if zero is None else emit("add", x=near, y=zero)
    return emit("cast", x=emit("clip", x=moved, alpha=float(low), beta=float(high)), dtype="int32")


def _scale(emit: Emitter, *scales: ir.Value) -> Var:
    """a * b / c of three scales, each one number."""
    parts = []
    for value in scales:
        if emit.rank(value) and emit.shape(value) != (1,):
            raise Refusal("scales by axis")
        if emit.kind(value) != ir.DataType.FLOAT:
            raise Refusal("scales that are not float32")
        parts.append(emit("reshape", x=value, shape=[1]))
    return emit("real_div", x=emit("mul", x=parts[0], y=parts[1]), y=parts[2])


def _number(emit: Emitter, zero: ir.Value) -> Var:
    if emit.rank(zero) and emit.shape(zero) != (1,):
        raise Refusal("zero points by axis")
    return emit("reshape", x=emit.cast(emit.var(zero), "fp32"), shape=[1])


@OPS("QLinearMatMul", since=10)
def qlinear_matmul(
    emit: Emitter,
    a: ir.Value,
    a_scale: ir.Value,
    a_zero_point: ir.Value,
    b: ir.Value,
    b_scale: ir.Value,
    b_zero_point: ir.Value,
    y_scale: ir.Value,
    y_zero_point: ir.Value,
) -> Var:
    """The product of whole numbers in float32, exact while it stays below 2 ** 24, scaled and rounded."""
    assert emit.node is not None
    depth = emit.shape(a)[-1]
    if not isinstance(depth, int) or depth * 255 * 255 >= EXACT:
        raise Refusal("sums that float32 does not hold exactly")
    sides = [
        emit("sub", x=emit.cast(emit.var(v), "fp32"), y=_number(emit, z))
        for v, z in ((a, a_zero_point), (b, b_zero_point))
    ]
    total = product(emit, sides[0], sides[1], (emit.rank(a), emit.rank(b)))
    scaled = emit("mul", x=total, y=_scale(emit, a_scale, b_scale, y_scale))
    return rounded(emit, scaled, _number(emit, y_zero_point), emit.node.outputs[0].dtype)


@OPS("QLinearConv", since=10)
def qlinear_conv(
    emit: Emitter,
    x: ir.Value,
    x_scale: ir.Value,
    x_zero_point: ir.Value,
    w: ir.Value,
    w_scale: ir.Value,
    w_zero_point: ir.Value,
    y_scale: ir.Value,
    y_zero_point: ir.Value,
    b: ir.Value | None,
    *,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Var:
    """The convolution of whole numbers in float32, exact while it stays below 2 ** 24, scaled and rounded."""
    assert emit.node is not None
    total = conv_integer(
        emit,
        x,
        w,
        x_zero_point,
        w_zero_point,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    if b is not None:
        total = emit("add", x=total, y=emit("reshape", x=b, shape=[1, -1] + [1] * (emit.rank(x) - 2)))
    scaled = emit("mul", x=emit.cast(total, "fp32"), y=_scale(emit, x_scale, w_scale, y_scale))
    return rounded(emit, scaled, _number(emit, y_zero_point), emit.node.outputs[0].dtype)
