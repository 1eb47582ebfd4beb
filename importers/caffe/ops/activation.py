"""Functions of each number alone."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from importers.caffe.layers import Context, layer

__all__ = ["power_of"]


@layer("ReLU", param="relu_param")
def relu(caffe: Context, x: ir.Value, *, negative_slope: float = 0.0) -> ir.Value:
    return caffe.op("LeakyRelu", x, alpha=negative_slope) if negative_slope else caffe.op("Relu", x)


@layer("ReLU6")
def relu6(caffe: Context, x: ir.Value) -> ir.Value:
    """A fork's: at most 6."""
    return caffe.op("Clip", x, caffe.constant(0.0, "min"), caffe.constant(6.0, "max"))


@layer("PReLU", param="prelu_param")
def prelu(caffe: Context, x: ir.Value, *, channel_shared: bool = False) -> ir.Value:
    caffe.require(caffe.rank(x) >= 2, "its bottom needs two axes or more")
    shape = () if channel_shared else (caffe.size(x, 1),)
    (blob,) = caffe.blobs(slope=shape).values()
    spread = () if channel_shared else (*shape, *[1] * (caffe.rank(x) - 2))
    slope = caffe.weight("slope", shape, blob, 0, lambda a: a.reshape(spread), f"{caffe.rank(x)}")
    return caffe.op("PRelu", x, slope)


@layer("ELU", param="elu_param")
def elu(caffe: Context, x: ir.Value, *, alpha: float = 1.0) -> ir.Value:
    return caffe.op("Elu", x, alpha=float(alpha))


@layer("Sigmoid", param="sigmoid_param")
def sigmoid(caffe: Context, x: ir.Value) -> ir.Value:
    return caffe.op("Sigmoid", x)


@layer("TanH", param="tanh_param")
def tanh(caffe: Context, x: ir.Value) -> ir.Value:
    return caffe.op("Tanh", x)


@layer("AbsVal")
def absval(caffe: Context, x: ir.Value) -> ir.Value:
    return caffe.op("Abs", x)


@layer("BNLL")
def bnll(caffe: Context, x: ir.Value) -> ir.Value:
    """log(1 + exp(x))."""
    return caffe.op("Softplus", x)


@layer("Dropout", param="dropout_param")
def dropout(caffe: Context, x: ir.Value, *, dropout_ratio: float = 0.5) -> ir.Value:
    """Kept, although it does nothing at inference: the network can be trained on."""
    caffe.not_in_training("drops numbers at random")
    return caffe.op("Dropout", x, caffe.constant(dropout_ratio, "ratio"))


@layer("Threshold", param="threshold_param")
def threshold(caffe: Context, x: ir.Value, *, threshold: float = 0.0) -> ir.Value:
    """1 where the bottom is above the threshold, else 0."""
    return caffe.op("Cast", caffe.op("Greater", x, caffe.constant(threshold, "threshold")), to=ir.DataType.FLOAT.value)


@layer("Power", param="power_param")
def power(caffe: Context, x: ir.Value, *, power: float = 1.0, scale: float = 1.0, shift: float = 0.0) -> ir.Value:
    """(shift + scale * x) ** power."""
    y = affine(caffe, x, scale, shift)
    return y if power == 1 else power_of(caffe, y, power)


def affine(caffe: Context, x: ir.Value, scale: float, shift: float) -> ir.Value:
    """scale * x + shift, in as many nodes as it needs."""
    y = x if scale == 1 else caffe.op("Mul", x, caffe.constant(scale, "scale"))
    return y if shift == 0 else caffe.op("Add", y, caffe.constant(shift, "shift"))


def power_of(caffe: Context, x: ir.Value, power: float) -> ir.Value:
    """x ** power."""
    return caffe.op("Pow", x, caffe.constant(power, "power"))


@layer("Exp", param="exp_param")
def exp(caffe: Context, x: ir.Value, *, base: float = -1.0, scale: float = 1.0, shift: float = 0.0) -> ir.Value:
    """base ** (shift + scale * x); a base of -1 stands for e."""
    log_base = _log_base(caffe, base)
    factor = 1.0 if shift == 0 else math.exp(shift) if base == -1 else base**shift
    y = caffe.op("Exp", affine(caffe, x, float(np.float32(log_base * scale)), 0.0))
    return y if factor == 1 else caffe.op("Mul", y, caffe.constant(factor, "factor"))


@layer("Log", param="log_param")
def log(caffe: Context, x: ir.Value, *, base: float = -1.0, scale: float = 1.0, shift: float = 0.0) -> ir.Value:
    """The logarithm of shift + scale * x; a base of -1 stands for e."""
    log_base = _log_base(caffe, base)
    caffe.require(log_base != 0, "there is no logarithm to the base 1")
    y = caffe.op("Log", affine(caffe, x, scale, shift))
    return y if log_base == 1 else caffe.op("Mul", y, caffe.constant(1 / log_base, "factor"))


def _log_base(caffe: Context, base: float) -> float:
    caffe.require(base == -1 or base > 0, f"base {base} is neither positive nor -1")
    return 1.0 if base == -1 else math.log(base)


@layer("Swish", param="swish_param")
def swish(caffe: Context, x: ir.Value, *, beta: float = 1.0) -> ir.Value:
    """x * sigmoid(beta * x)."""
    return caffe.op("Mul", x, caffe.op("Sigmoid", affine(caffe, x, beta, 0.0)))


@layer("Clip", param="clip_param")
def clip(caffe: Context, x: ir.Value, *, min: float, max: float) -> ir.Value:
    """Later than Caffe 1.0."""
    return caffe.op("Clip", x, caffe.constant(min, "min"), caffe.constant(max, "max"))


@layer("Softmax", param="softmax_param")
def softmax(caffe: Context, x: ir.Value, *, axis: int = 1) -> ir.Value:
    return caffe.op("Softmax", x, axis=caffe.axis(x, axis))


@layer("ArgMax", param="argmax_param")
def argmax(
    caffe: Context, x: ir.Value, *, out_max_val: bool = False, top_k: int = 1, axis: int | None = None
) -> ir.Value:
    """Indices as numbers; without an axis, of all of an item, and with `out_max_val` the values beside them.

    Of equal numbers Caffe takes the last one first.
    """
    rank = caffe.rank(x)
    if axis is not None:
        axis = caffe.axis(x, axis)
        caffe.require(1 <= top_k <= caffe.size(x, axis), f"top_k {top_k} of {caffe.size(x, axis)}")
        values, indices = _top(caffe, x, axis, top_k)
        return values if out_max_val else indices
    if rank != 2:
        x = caffe.op("Flatten", x, axis=1)
    caffe.require(1 <= top_k <= caffe.size(x, 1), f"top_k {top_k} of {caffe.size(x, 1)}")
    values, indices = _top(caffe, x, 1, top_k)
    shape = [0, 2 if out_max_val else 1, top_k, *[1] * (max(rank, 3) - 3)]
    return caffe.reshape(caffe.op("Concat", indices, values, axis=1) if out_max_val else indices, shape)


def _top(caffe: Context, x: ir.Value, axis: int, count: int) -> tuple[ir.Value, ir.Value]:
    """The `count` largest along an axis, of equal ones the last first: values, and indices as numbers."""
    size = caffe.size(x, axis)
    ends = [caffe.ints([number], name) for number, name in ((-1, "start"), (-(1 << 62), "end"), (axis, "axes"))]
    flipped = caffe.op("Slice", x, *ends, caffe.ints([-1], "step"))
    values, indices = caffe.builder.ops("TopK", flipped, caffe.ints([count], "k"), outputs=2, axis=axis)
    back = caffe.op("Cast", indices, to=ir.DataType.FLOAT.value)
    return values, caffe.op("Sub", caffe.constant(size - 1, "last"), back)
