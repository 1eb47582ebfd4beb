"""Element by element, one input."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import reduce
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.table import APPROXIMATE, OPS
from exporters.caffe.primitives import copy, eltwise, filled, power, reshape, tile, unary
from exporters.constants import elements
from hub.errors import Refusal

__all__ = ["at_least", "at_most", "clipped", "step"]


@OPS("Relu")
def relu(emit: Emitter, x: ir.Value) -> Blob:
    """ReLU."""
    return unary(emit, emit.blob(x), "ReLU")


@OPS("LeakyRelu")
def leaky_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Blob:
    """ReLU with a slope."""
    return unary(emit, emit.blob(x), "ReLU", relu_param={"negative_slope": alpha})


@OPS("Sigmoid")
def sigmoid(emit: Emitter, x: ir.Value) -> Blob:
    """Sigmoid."""
    return unary(emit, emit.blob(x), "Sigmoid")


@OPS("Tanh")
def tanh(emit: Emitter, x: ir.Value) -> Blob:
    """TanH."""
    return unary(emit, emit.blob(x), "TanH")


@OPS("Softplus")
def softplus(emit: Emitter, x: ir.Value) -> Blob:
    """BNLL: log(1 + exp(x))."""
    return unary(emit, emit.blob(x), "BNLL")


@OPS("Abs")
def absolute(emit: Emitter, x: ir.Value) -> Blob:
    """AbsVal."""
    return unary(emit, emit.blob(x), "AbsVal")


@OPS("Exp")
def exp(emit: Emitter, x: ir.Value) -> Blob:
    """Exp, whose default base is e."""
    return unary(emit, emit.blob(x), "Exp")


@OPS("Log")
def log(emit: Emitter, x: ir.Value) -> Blob:
    """Log, whose default base is e."""
    return unary(emit, emit.blob(x), "Log")


@OPS("Neg")
def neg(emit: Emitter, x: ir.Value) -> Blob:
    """-1 x."""
    return power(emit, emit.blob(x), scale=-1)


@OPS("Sqrt")
def sqrt(emit: Emitter, x: ir.Value) -> Blob:
    """x ** 0.5."""
    return power(emit, emit.blob(x), 0.5)


@OPS("Reciprocal")
def reciprocal(emit: Emitter, x: ir.Value) -> Blob:
    """x ** -1."""
    return power(emit, emit.blob(x), -1)


@OPS("Elu")
def elu(emit: Emitter, x: ir.Value, *, alpha: float) -> Blob:
    """ELU."""
    return unary(emit, emit.blob(x), "ELU", elu_param={} if alpha == 1 else {"alpha": alpha})


@OPS("Selu")
def selu(emit: Emitter, x: ir.Value, *, alpha: float, gamma: float) -> Blob:
    """gamma elu(x, alpha)."""
    return power(emit, unary(emit, emit.blob(x), "ELU", "elu", elu_param={"alpha": alpha}), scale=gamma)


@OPS("Celu")
def celu(emit: Emitter, x: ir.Value, *, alpha: float) -> Blob:
    """alpha elu(x / alpha)."""
    if alpha <= 0:
        raise Refusal(f"alpha={alpha:g}, with which it is not what its formula says")
    inner = power(emit, emit.blob(x), scale=1 / alpha, role="divided")
    return power(emit, unary(emit, inner, "ELU", "elu"), scale=alpha)


@OPS("PRelu")
def prelu(emit: Emitter, x: ir.Value, slope: ir.Value) -> Blob:
    """PReLU for one slope, or one a channel; for other shapes relu(x) - slope * relu(-x)."""
    source, constant = emit.blob(x), emit.constant(slope)
    if constant is not None:
        channels = source.shape[1] if source.rank > 1 else 1
        aligned = (1,) * (source.rank - len(constant.shape)) + tuple(constant.shape)
        shared = constant.size == 1 and source.rank > 1
        shape = () if shared else (constant.size,)
        flat = emit.weight(slope, "its slope").viewed(lambda a: a.reshape(shape), shape, "flat")
        if shared or (constant.size == channels and aligned[1:2] == (channels,)):
            image = source  # of 4 axes at most
            if source.rank > 4:
                image = reshape(emit, source, (*source.shape[:2], elements(emit.fixed(source.shape, 2))), "rows")
            parameters = {"channel_shared": True} if shared else {}
            result = emit.layer("PReLU", [image], image.shape, None, [flat], prelu_param=parameters)
            return reshape(emit, result, source.shape, "result")
    from exporters.caffe.ops.merge import product

    negative = unary(emit, power(emit, source, scale=-1, role="negated"), "ReLU", "negative")
    part = product(emit, negative, slope, "slope")
    return eltwise(emit, "SUM", [unary(emit, source, "ReLU", "positive"), part], [1, -1])


@OPS("HardSigmoid")
def hard_sigmoid(emit: Emitter, x: ir.Value, *, alpha: float, beta: float) -> Blob:
    """clip(alpha x + beta, 0, 1)."""
    return clipped(emit, power(emit, emit.blob(x), scale=alpha, shift=beta, role="line"), 0, 1)


@OPS("HardSwish")
def hard_swish(emit: Emitter, x: ir.Value) -> Blob:
    """x clip(x / 6 + 1 / 2, 0, 1)."""
    source = emit.blob(x)
    gate = clipped(emit, power(emit, source, scale=1 / 6, shift=0.5, role="line"), 0, 1, "gate")
    return eltwise(emit, "PROD", [source, gate])


@OPS("Swish")
def swish(emit: Emitter, x: ir.Value, *, alpha: float) -> Blob:
    """x sigmoid(alpha x); Swish where the dialect has it."""
    source = emit.blob(x)
    if emit.dialect == "bvlc":
        return unary(emit, source, "Swish", swish_param={} if alpha == 1 else {"beta": alpha})
    inner = source if alpha == 1 else power(emit, source, scale=alpha, role="scaled")
    return eltwise(emit, "PROD", [source, unary(emit, inner, "Sigmoid", "sigmoid")])


@OPS("Mish")
def mish(emit: Emitter, x: ir.Value) -> Blob:
    """x tanh(softplus(x))."""
    source = emit.blob(x)
    return eltwise(emit, "PROD", [source, unary(emit, unary(emit, source, "BNLL", "softplus"), "TanH", "tanh")])


@OPS("Softsign")
def softsign(emit: Emitter, x: ir.Value) -> Blob:
    """x (1 + |x|) ** -1."""
    source = emit.blob(x)
    return eltwise(emit, "PROD", [source, power(emit, unary(emit, source, "AbsVal", "abs"), -1, 1, 1, "inverse")])


@OPS("Sign")
def sign(emit: Emitter, x: ir.Value) -> Blob:
    """[x > 0] - [-x > 0]."""
    source = emit.blob(x)
    negated = power(emit, source, scale=-1, role="negated")
    return eltwise(emit, "SUM", [step(emit, source, 0, "positive"), step(emit, negated, 0, "negative")], [1, -1])


@OPS("ThresholdedRelu")
def thresholded_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Blob:
    """x [x > alpha]."""
    source = emit.blob(x)
    return eltwise(emit, "PROD", [source, step(emit, source, alpha, "gate")])


@OPS("Shrink")
def shrink(emit: Emitter, x: ir.Value, *, bias: float, lambd: float) -> Blob:
    """(x - bias) [x > lambd] + (x + bias) [-x > lambd]."""
    if lambd < 0:
        raise Refusal("a negative threshold, with which both of its cases hold")
    source = emit.blob(x)
    above = step(emit, source, lambd, "above")
    below = step(emit, power(emit, source, scale=-1, role="negated"), lambd, "below")
    parts = [
        eltwise(emit, "PROD", [power(emit, source, shift=-bias, role="lowered"), above], role="upper"),
        eltwise(emit, "PROD", [power(emit, source, shift=bias, role="raised"), below], role="lower"),
    ]
    return eltwise(emit, "SUM", parts)


@OPS("Clip")
def clip(emit: Emitter, x: ir.Value, low: ir.Value | None, high: ir.Value | None) -> Blob:
    """Clip where the dialect has it, else the maximum with `min`, then the minimum with `max`."""
    lowest = -math.inf if low is None else emit.scalar(low, "its minimum")
    highest = math.inf if high is None else emit.scalar(high, "its maximum")
    return clipped(emit, emit.blob(x), lowest, highest)


def clipped(emit: Emitter, x: Blob, low: float, high: float, role: str | None = None) -> Blob:
    """min(max(x, low), high), exact for all numbers and any batch."""
    low = -math.inf if low <= np.finfo(np.float32).min else low
    high = math.inf if high >= np.finfo(np.float32).max else high
    low = min(low, high)  # the maximum wins where the two are crossed
    if emit.dialect == "bvlc" and math.isfinite(low) and math.isfinite(high):
        return unary(emit, x, "Clip", role, clip_param={"min": low, "max": high})
    if low == -math.inf and high == math.inf:
        return copy(emit, x, role or "copy")
    if high == math.inf:
        return at_least(emit, x, low, role)
    if low != -math.inf:
        x = at_least(emit, x, low, "low")
    return at_most(emit, x, high, role)


def at_least(emit: Emitter, x: Blob, low: float, role: str | None = None) -> Blob:
    """max(x, low): ReLU for zero, else Eltwise with a blob that is all `low`."""
    if low == 0:
        return unary(emit, x, "ReLU", role)
    return eltwise(emit, "MAX", [x, filled(emit, x, low, "minimum")], role=role)


def at_most(emit: Emitter, x: Blob, high: float, role: str | None = None) -> Blob:
    """min(x, high) = -max(-x, -high)."""
    negated = power(emit, x, scale=-1, role="negated")
    return power(emit, at_least(emit, negated, -high, "limited"), scale=-1, role=role)


def step(emit: Emitter, x: Blob, threshold: float, role: str | None = None) -> Blob:
    """[x > threshold], 1 or 0."""
    return unary(emit, x, "Threshold", role, threshold_param={"threshold": threshold} if threshold else {})


@OPS("Erf")
def erf(emit: Emitter, x: ir.Value) -> Blob:
    """Abramowitz and Stegun 7.1.26, of AbsVal, Power, Exp, Threshold and Eltwise."""
    return _erf(emit, emit.blob(x))


def _erf(emit: Emitter, x: Blob, role: str | None = None) -> Blob:
    """Abramowitz and Stegun 7.1.26, whose error is below 1.5e-7, and 3e-7 in float32:

    erf(x) = sign(x) (1 - (a1 t + a2 t^2 + a3 t^3 + a4 t^4 + a5 t^5) exp(-x^2)), t = 1 / (1 + 0.3275911 |x|).
    """
    emit.note(APPROXIMATE["Erf"])
    coefficients = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    magnitude = unary(emit, x, "AbsVal", "abs")
    t = power(emit, magnitude, -1, 0.3275911, 1, "t")
    total = power(emit, t, scale=coefficients[0], shift=coefficients[1], role="sum4")
    for number, coefficient in enumerate(coefficients[2:]):
        total = eltwise(emit, "PROD", [total, t], role=f"power{3 - number}")
        total = power(emit, total, shift=coefficient, role=f"sum{3 - number}")
    total = eltwise(emit, "PROD", [total, t], role="polynomial")
    decay = unary(emit, power(emit, power(emit, x, 2, role="square"), scale=-1, role="exponent"), "Exp", "decay")
    value = power(emit, eltwise(emit, "PROD", [total, decay], role="tail"), scale=-1, shift=1, role="magnitude")
    # sign(x) as 2 [x > 0] - 1: at zero the magnitude is 0 up to rounding
    signs = power(emit, step(emit, x, 0, "positive"), scale=2, shift=-1, role="sign")
    return eltwise(emit, "PROD", [value, signs], role=role)


@OPS("Gelu")
def gelu(emit: Emitter, x: ir.Value, *, approximate: str) -> Blob:
    """x / 2 (1 + erf(x / sqrt(2))), or x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    source = emit.blob(x)
    if approximate == "tanh":
        cube = power(emit, source, 3, role="cube")
        inner = eltwise(emit, "SUM", [source, cube], [1, 0.044715], "sum")
        gate = unary(emit, power(emit, inner, scale=math.sqrt(2 / math.pi), role="scaled"), "TanH", "tanh")
    elif approximate == "none":
        gate = _erf(emit, power(emit, source, scale=math.sqrt(0.5), role="scaled"), "erf")
    else:
        raise Refusal(f"the approximation {approximate!r}")
    return eltwise(emit, "PROD", [source, power(emit, gate, scale=0.5, shift=0.5, role="gate")])


@OPS("Softmax", since=13)
def softmax(emit: Emitter, x: ir.Value, *, axis: int) -> Blob:
    """Softmax along an axis; Caffe subtracts the maximum as well."""
    source = emit.blob(x)
    axis %= source.rank
    return unary(emit, source, "Softmax", softmax_param={} if axis == 1 else {"axis": axis})


@OPS("LogSoftmax", since=13)
def log_softmax(emit: Emitter, x: ir.Value, *, axis: int) -> Blob:
    """d - log(sum(exp(d))) with d = x - max(x); the logarithm of a softmax would be -inf where that is 0."""
    source = emit.blob(x)
    axis %= source.rank
    size = emit.fixed(source.shape, axis)[0]
    one = (*source.shape[:axis], 1, *source.shape[axis + 1 :])

    def spread(y: Blob, role: str) -> Blob:
        return tile(emit, y, axis, size, role)

    top = spread(reduce(emit, source, [axis], "MAX", one, "max"), "maxima")
    centred = eltwise(emit, "SUM", [source, top], [1, -1], "centred")
    total = reduce(emit, unary(emit, centred, "Exp", "exp"), [axis], "SUM", one, "total")
    return eltwise(emit, "SUM", [centred, spread(unary(emit, total, "Log", "log"), "logs")], [1, -1])


@OPS("Dropout")
def dropout(emit: Emitter, x: ir.Value, ratio: ir.Value | None, training: ir.Value | None, *, seed: int | None) -> Blob:
    """Nothing at inference."""
    mode = emit.array(training) if training is not None else None
    if training is not None and (mode is None or bool(mode.reshape(-1)[0])):
        raise Refusal("dropout in training mode")
    return emit.blob(x)
