"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer

__all__: list[str] = []

AXES = {"CHW": [-3, -2, -1], "HW": [-2, -1], "C": [-3], "H": [-2], "W": [-1]}

MODES = {
    "SUM": "ReduceSum", "AVG": "ReduceMean", "PROD": "ReduceProd", "SUMSQUARE": "ReduceSumSquare", "L1": "ReduceL1",
    "L2": "ReduceL2", "MAX": "ReduceMax", "MIN": "ReduceMin",
}  # fmt: skip

LAYERS = (
    "reduceL1", "reduceL2", "reduceMax", "reduceMin", "reduceSum", "reduceProd", "reduceMean", "reduceLogSum",
    "reduceSumSquare", "reduceLogSumExp",
)  # fmt: skip


@layer("reduce")
def reduce(net: Context, x: ir.Value, *, mode: str, epsilon: float, axis: str) -> ir.Value:
    """The axes stay, with the size 1."""
    net.at_least(x, 3)
    axes = AXES[axis]
    if mode == "ARGMAX":
        if len(axes) != 1:
            raise Refusal(f"the largest of the axes {axis} together has no place")
        return net.floats(net.op("ArgMax", x, axis=axes[0], keepdims=1))
    if mode == "LOGSUM":
        shifted = net.op("Add", x, net.number(epsilon, "epsilon")) if epsilon else x
        return net.op("ReduceLogSum", shifted, net.ints(axes, "axes"), keepdims=1)
    return net.op(MODES[mode], x, net.ints(axes, "axes"), keepdims=1)


@layer(*LAYERS)
def reduce_nd(net: Context, x: ir.Value, *, axes: Sequence[int], keepDims: bool, reduceAll: bool) -> ir.Value:
    """A result without axes has one of size 1."""
    rank = net.rank(x)
    chosen = range(rank) if reduceAll else sorted({net.axis(x, axis) for axis in axes})
    net.require(len(chosen) > 0, "it names no axes")
    result = net.op(
        net.kind[0].upper() + net.kind[1:], x, net.ints(list(chosen), "axes"), keepdims=1 if keepDims else 0
    )
    return net.reshape(result, [1]) if not keepDims and len(chosen) == rank else result


@layer("argMax", "argMin")
def argument(net: Context, x: ir.Value, *, axis: int, removeDim: bool) -> ir.Value:
    keep = not removeDim or net.rank(x) == 1
    op_type = "ArgMax" if net.kind == "argMax" else "ArgMin"
    return net.floats(net.op(op_type, x, axis=net.axis(x, axis), keepdims=1 if keep else 0))


@layer("cumSum")
def running_sum(
    net: Context,
    x: ir.Value,
    position: ir.Value | None = None,
    *,
    axis: int,
    excludeFinalSum: bool,
    reverse: bool,
) -> ir.Value:
    """The axis may be a second input."""
    at = net.ints(net.axis(x, axis), "axis") if position is None else net.reshape(net.int64(position), [])
    return net.op("CumSum", x, at, exclusive=1 if excludeFinalSum else None, reverse=1 if reverse else None)
