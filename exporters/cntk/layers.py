"""The functions that a written file defines: what CNTK has no single function for.

Each is composed here as its text in `helpers` composes it; weights go by the name of their group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.cntk import windows
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import (
    binary,
    clip,
    divide,
    matrix_times,
    minus,
    pad,
    plus,
    power,
    reduce,
    reshape,
    select,
    slices,
    times,
    unary,
)
from exporters.cntk.net import Group, Variable, number
from exporters.constants import Array, Constant, elements

__all__ = [
    "Pads",
    "average_pooling",
    "batch_normalization",
    "convolution",
    "convolution_transpose",
    "dense",
    "local_response_normalization",
    "max_pooling",
]

Pads = Sequence[tuple[int, int]]


def _around(pads: Pads) -> tuple[tuple[int, int], ...]:
    """Pads as an argument."""
    return tuple((before, behind) for before, behind in pads)


def _defaults(count: int) -> dict[str, Any]:
    """What the arguments of windows over so many axes are left out at."""
    return {"strides": (1,) * count, "pads": ((0, 0),) * count, "crops": ((0, 0),) * count, "groups": 1}


def _inner(pads: Pads, rank: int) -> list[tuple[int, int]]:
    """Pads of the last axes as those of all."""
    return [(0, 0)] * (rank - len(pads)) + [(before, behind) for before, behind in pads]


def _bias(emit: Emitter, y: Variable, bias: Constant | None, group: Group) -> Variable:
    """y + b, b by channel."""
    if bias is None:
        return y
    shape = (bias.size, *[1] * (y.rank - 1))
    column = bias.viewed(lambda array: array.reshape(shape), shape, f"reshape{shape}") if y.rank > 1 else bias
    return plus(emit, y, emit.weight(column, group, "b", trains=True))


def convolution(
    emit: Emitter,
    x: Variable,
    kernel: Constant,
    bias: Constant | None,
    strides: Sequence[int],
    pads: Pads,
    groups: int,
) -> Variable:
    """A convolution with zeros around its input: the Pad first, as CNTK's own padding is another."""
    group = emit.group("convolution", W=kernel, b=bias)

    def body() -> Variable:
        w = emit.weight(kernel, group, "W", trains=True)
        y = windows.convolution(emit, pad(emit, x, _inner(pads, x.rank)), w, strides, groups)
        return _bias(emit, y, bias, group)

    keywords = {"strides": tuple(strides), "pads": _around(pads), "groups": groups}
    return emit.call("convolution", [x, group], body, keywords, defaults=_defaults(len(strides)))


def convolution_transpose(
    emit: Emitter,
    x: Variable,
    kernel: Constant,
    bias: Constant | None,
    strides: Sequence[int],
    crops: Pads,
    sizes: Sequence[int],
) -> Variable:
    """A transposed convolution of `sizes`, cropped by so much before and behind."""
    group = emit.group("convolution_transpose", W=kernel, b=bias)

    def body() -> Variable:
        w = emit.weight(kernel, group, "W", trains=True)
        y = windows.convolution(emit, x, w, strides, output=sizes)
        for axis, (before, behind) in enumerate(crops, 1):
            y = slices(emit, y, axis, before, emit.fixed([y.shape[axis]])[0] - behind)
        return _bias(emit, y, bias, group)

    keywords = {"output_shape": (kernel.shape[1], *sizes), "strides": tuple(strides), "crops": _around(crops)}
    return emit.call("convolution_transpose", [x, group], body, keywords, defaults=_defaults(len(strides)))


def dense(emit: Emitter, x: Variable, kernel: Constant, bias: Constant | None) -> Variable:
    """The last axis times a matrix, plus a bias."""
    group = emit.group("dense", W=kernel, b=bias)

    def body() -> Variable:
        y = matrix_times(emit, x, emit.weight(kernel, group, "W", trains=True))
        return y if bias is None else plus(emit, y, emit.weight(bias, group, "b", trains=True))

    return emit.call("dense", [x, group], body)


def batch_normalization(
    emit: Emitter, x: Variable, scale: Constant, bias: Constant, mean: Constant, variance: Constant, epsilon: float
) -> Variable:
    """Normalization by channel with the statistics of the training."""
    group = emit.group("batch_normalization", scale=scale, bias=bias, mean=mean, variance=variance)

    def body() -> Variable:
        learned = [emit.weight(c, group, name, trains=True) for c, name in ((scale, "scale"), (bias, "bias"))]
        statistics = [emit.weight(c, group, name, trains=False) for c, name in ((mean, "mean"), (variance, "variance"))]
        return windows.batch_normalization(emit, [x, *learned, *statistics], epsilon)

    return emit.call("batch_normalization", [x, group], body, {"epsilon": float(epsilon)})


def max_pooling(emit: Emitter, x: Variable, window: Sequence[int], strides: Sequence[int], pads: Pads) -> Variable:
    """The greatest in each window; what is around the input is less than anything."""
    keywords = {"strides": tuple(strides), "pads": _around(pads)}

    def body() -> Variable:
        return windows.pooling(emit, pad(emit, x, _inner(pads, x.rank), float("-inf")), 0, window, strides)

    return emit.call("max_pooling", [x, tuple(window)], body, keywords, defaults=_defaults(len(strides)))


def average_pooling(
    emit: Emitter,
    x: Variable,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
    correction: Array | None = None,
) -> Variable:
    """The mean of each window with zeros around the input, times a correction by position."""
    keywords = {"strides": tuple(strides), "pads": _around(pads)}

    def body() -> Variable:
        return windows.pooling(emit, pad(emit, x, _inner(pads, x.rank)), 1, window, strides)

    y = emit.call("average_pooling", [x, tuple(window)], body, keywords, defaults=_defaults(len(strides)))
    if correction is None:
        return y
    ratio = Constant.of(correction.astype(np.float32))
    return times(emit, y, emit.weight(ratio, Group(emit.layer, "average_pooling"), "ratio", trains=False))


def moments(emit: Emitter, x: Variable, axes: Sequence[int]) -> tuple[Variable, Variable]:
    """What deviates from the mean over axes, and the variance."""
    centered = minus(emit, x, reduce(emit, x, "Mean", axes))
    return centered, reduce(emit, times(emit, centered, centered), "Mean", axes)


def normalized(emit: Emitter, x: Variable, axes: Sequence[int], epsilon: float) -> Variable:
    """(x - mean) / sqrt(variance + epsilon) over axes."""

    def body() -> Variable:
        centered, variance = moments(emit, x, axes)
        return divide(emit, centered, unary(emit, "Sqrt", plus(emit, variance, epsilon)))

    return emit.call("normalize", [x, tuple(axes)], body, {"epsilon": float(epsilon)})


def local_response_normalization(
    emit: Emitter, x: Variable, size: int, alpha: float, beta: float, bias: float
) -> Variable:
    """x / (bias + alpha / size * sum of x * x over `size` channels) ** beta."""

    def body() -> Variable:
        before = (size - 1) // 2
        channels, rest = x.shape[0], x.shape[1:]
        squares = reshape(emit, times(emit, x, x), (1, channels, elements(emit.fixed(rest))))
        around = pad(emit, squares, [(0, 0), (before, size - 1 - before), (0, 0)])
        mean = reshape(emit, windows.pooling(emit, around, 1, (size, 1), (1, 1)), x.shape)
        return divide(emit, x, power(emit, plus(emit, times(emit, mean, alpha), bias), beta))

    keywords = {"alpha": alpha, "beta": beta, "bias": bias}
    return emit.call("local_response_normalization", [x, size], body, keywords)


def round_half_even(emit: Emitter, x: Variable) -> Variable:
    """The nearest whole number, of two the even one."""

    def body() -> Variable:
        low = unary(emit, "Floor", x)
        rest = minus(emit, x, low)
        odd = minus(emit, low, times(emit, unary(emit, "Floor", times(emit, low, 0.5)), 2.0))
        tie = times(emit, binary(emit, "Equal", rest, 0.5), odd)
        return plus(emit, plus(emit, low, binary(emit, "Greater", rest, 0.5)), tie)

    return emit.call("round_half_even", [x], body)


def sign(emit: Emitter, x: Variable) -> Variable:
    """-1, 0 or 1."""

    def body() -> Variable:
        return minus(emit, binary(emit, "Greater", x, 0.0), binary(emit, "Less", x, 0.0))

    return emit.call("sign", [x], body)


def erf(emit: Emitter, x: Variable) -> Variable:
    """The error function within 3e-7: Abramowitz and Stegun, 7.1.26."""
    factors = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)

    def body() -> Variable:
        size = unary(emit, "Abs", x)
        t = unary(emit, "Reciprocal", plus(emit, times(emit, size, 0.3275911), 1.0))
        polynomial: Variable = number(factors[0])
        for factor in factors[1:]:
            polynomial = plus(emit, times(emit, polynomial, t), factor)
        tail = times(emit, times(emit, polynomial, t), unary(emit, "Exp", unary(emit, "Negate", times(emit, x, x))))
        return times(emit, sign(emit, x), minus(emit, number(1.0), tail))

    return emit.call("erf", [x], body)


def leaky_relu(emit: Emitter, x: Variable, alpha: float) -> Variable:
    """x where it is not negative, else alpha * x."""

    def body() -> Variable:
        return select(emit, binary(emit, "Less", x, 0.0), times(emit, alpha, x), x)

    return emit.call("C.leaky_relu", [x, alpha], body)


def param_relu(emit: Emitter, alpha: Variable, x: Variable) -> Variable:
    """x where it is not negative, else alpha * x, alpha being a tensor."""

    def body() -> Variable:
        return select(emit, binary(emit, "Less", x, 0.0), times(emit, alpha, x), x)

    return emit.call("C.param_relu", [alpha, x], body)


def elu(emit: Emitter, x: Variable, alpha: float) -> Variable:
    """x where it is not negative, else alpha * (exp(x) - 1)."""

    def body() -> Variable:
        curve = times(emit, alpha, emit.function("ELU", [x], x.shape))
        return select(emit, binary(emit, "Less", x, 0.0), curve, x)

    return emit.call("C.elu", [x] if alpha == 1.0 else [x, alpha], body)


def selu(emit: Emitter, x: Variable, alpha: float, gamma: float) -> Variable:
    """gamma * elu(x, alpha)."""

    def body() -> Variable:
        return times(emit, gamma, elu(emit, x, alpha))

    return emit.call("C.selu", [x], body, {"scale": gamma, "alpha": alpha})


def swish(emit: Emitter, x: Variable) -> Variable:
    """x * sigmoid(x)."""
    return emit.call("swish", [x], lambda: times(emit, x, unary(emit, "StableSigmoid", x)))


def hard_swish(emit: Emitter, x: Variable) -> Variable:
    """x * clip(x / 6 + 0.5, 0, 1)."""

    def body() -> Variable:
        return times(emit, x, clip(emit, plus(emit, times(emit, x, 1 / 6), 0.5), 0.0, 1.0))

    return emit.call("hard_swish", [x], body)


def softplus(emit: Emitter, x: Variable) -> Variable:
    """log(1 + exp(x))."""
    return emit.call("C.softplus", [x], lambda: binary(emit, "LogPlus", x, 0.0))


def softsign(emit: Emitter, x: Variable) -> Variable:
    """x / (1 + |x|)."""
    return emit.call("C.softsign", [x], lambda: divide(emit, x, plus(emit, unary(emit, "Abs", x), 1.0)))
