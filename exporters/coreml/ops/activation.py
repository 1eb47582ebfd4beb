"""Functions of the elements of one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var

_SAME = {
    **{"Acos": "acos", "Asin": "asin", "Atan": "atan", "Atanh": "atanh", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh"},
    **{"Erf": "erf", "Exp": "exp", "Floor": "floor", "Round": "round", "Sigmoid": "sigmoid", "Sin": "sin"},
    **{"Sinh": "sinh", "Softplus": "softplus", "Softsign": "softsign", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh"},
}
"""Operators that Core ML has under almost the same name, for floating point."""


@OPS(*_SAME)
def same(emit: Emitter, x: ir.Value) -> Var:
    assert emit.node is not None
    return emit(_SAME[emit.node.op_type], x=emit.floats(x))


@OPS("Relu")
def relu(emit: Emitter, x: ir.Value) -> Var:
    return emit("relu", x=x) if emit.is_float(x) else emit("maximum", x=x, y=emit.number(x, 0))


@OPS("Abs")
def absolute(emit: Emitter, x: ir.Value) -> Var:
    return emit("abs", x=x)


@OPS("Sign")
def sign(emit: Emitter, x: ir.Value) -> Var:
    if emit.is_float(x):
        return emit("sign", x=x)
    above = emit.cast(emit("greater", x=x, y=emit.number(x, 0)), "int32")
    return emit("sub", x=above, y=emit.cast(emit("less", x=x, y=emit.number(x, 0)), "int32"))


@OPS("Neg")
def negative(emit: Emitter, x: ir.Value) -> Var:
    return emit("mul", x=x, y=emit.number(x, -1))


@OPS("Log")
def log(emit: Emitter, x: ir.Value) -> Var:
    return emit("log", x=emit.floats(x), epsilon=emit.number(x, 0))


@OPS("Reciprocal")
def reciprocal(emit: Emitter, x: ir.Value) -> Var:
    return emit("real_div", x=emit.number(x, 1), y=emit.floats(x))


@OPS("Acosh")
def acosh(emit: Emitter, x: ir.Value) -> Var:
    """acosh(x) = log(x + sqrt(x - 1) * sqrt(x + 1))"""
    var = emit.floats(x)
    below, above = (emit("sqrt", x=emit("add", x=var, y=emit.number(x, n))) for n in (-1, 1))
    return emit("log", x=emit("add", x=var, y=emit("mul", x=below, y=above)), epsilon=emit.number(x, 0))


@OPS("Asinh")
def asinh(emit: Emitter, x: ir.Value) -> Var:
    """asinh(x) = sign(x) * log(|x| + sqrt(x * x + 1))"""
    size = emit("abs", x=emit.floats(x))
    root = emit("sqrt", x=emit("add", x=emit("mul", x=size, y=size), y=emit.number(x, 1)))
    logarithm = emit("log", x=emit("add", x=size, y=root), epsilon=emit.number(x, 0))
    return emit("mul", x=emit("sign", x=x), y=logarithm)


@OPS("Not")
def logical_not(emit: Emitter, x: ir.Value) -> Var:
    return emit("logical_not", x=x)


@OPS("BitwiseNot")
def bitwise_not(emit: Emitter, x: ir.Value) -> Var:
    """~x = -1 - x"""
    return emit("sub", x=np.int32(-1), y=x)


@OPS("IsNaN")
def is_nan(emit: Emitter, x: ir.Value) -> Var:
    return emit("not_equal", x=emit.floats(x), y=x)


@OPS("IsInf")
def is_inf(emit: Emitter, x: ir.Value, *, detect_negative: int, detect_positive: int) -> Var:
    if not detect_negative and not detect_positive:
        return emit("logical_and", x=emit("equal", x=emit.floats(x), y=x), y=emit("not_equal", x=x, y=x))
    if detect_negative and detect_positive:
        return emit("equal", x=emit("abs", x=emit.floats(x)), y=emit.number(x, np.inf))
    return emit("equal", x=emit.floats(x), y=emit.number(x, -np.inf if detect_negative else np.inf))


@OPS("LeakyRelu")
def leaky_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Var:
    return emit("leaky_relu", x=emit.floats(x), alpha=emit.number(x, alpha))


@OPS("PRelu")
def prelu(emit: Emitter, x: ir.Value, slope: ir.Value) -> Var:
    numbers, shape = emit.array(slope), emit.shape(x)
    if numbers is not None and len(shape) >= 3 and isinstance(shape[1], int):
        aligned = (1,) * (len(shape) - numbers.ndim) + numbers.shape
        if numbers.size == 1 or all(n == 1 or i == 1 for i, n in enumerate(aligned)):
            alpha = np.broadcast_to(numbers.reshape(-1), [shape[1]]).astype(numbers.dtype)
            return emit("prelu", x=emit.floats(x), alpha=np.ascontiguousarray(alpha))
    below = emit("mul", x=emit.floats(x), y=slope)
    negative = emit("less", x=x, y=emit.number(x, 0))
    return emit.select(cond=negative, a=below, b=x)


@OPS("ThresholdedRelu")
def thresholded_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Var:
    """x where x > alpha, else 0; Core ML's own also lets alpha itself through."""
    above = emit("greater", x=emit.floats(x), y=emit.number(x, alpha))
    return emit.select(cond=above, a=x, b=emit.number(x, 0))


@OPS("Elu")
def elu(emit: Emitter, x: ir.Value, *, alpha: float) -> Var:
    return emit("elu", x=emit.floats(x), alpha=emit.number(x, alpha))


@OPS("Selu")
def selu(emit: Emitter, x: ir.Value, *, alpha: float, gamma: float) -> Var:
    return emit("mul", x=emit("elu", x=emit.floats(x), alpha=emit.number(x, alpha)), y=emit.number(x, gamma))


@OPS("HardSigmoid")
def hard_sigmoid(emit: Emitter, x: ir.Value, *, alpha: float, beta: float) -> Var:
    return emit("sigmoid_hard", x=emit.floats(x), alpha=emit.number(x, alpha), beta=emit.number(x, beta))


@OPS("HardSwish")
def hard_swish(emit: Emitter, x: ir.Value) -> Var:
    gate = emit("sigmoid_hard", x=emit.floats(x), alpha=emit.number(x, 1 / 6), beta=emit.number(x, 0.5))
    return emit("mul", x=x, y=gate)


@OPS("Mish")
def mish(emit: Emitter, x: ir.Value) -> Var:
    return emit("mul", x=x, y=emit("tanh", x=emit("softplus", x=emit.floats(x))))


@OPS("Swish")
def swish(emit: Emitter, x: ir.Value, *, alpha: float) -> Var:
    if alpha == 1:
        return emit("silu", x=emit.floats(x))
    scaled = emit("mul", x=emit.floats(x), y=emit.number(x, alpha))
    return emit("mul", x=x, y=emit("sigmoid", x=scaled))


@OPS("Gelu")
def gelu(emit: Emitter, x: ir.Value, *, approximate: str) -> Var:
    modes = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}
    if approximate not in modes:
        raise Refusal(f"approximate={approximate!r}")
    return emit("gelu", x=emit.floats(x), mode=modes[approximate])


@OPS("Shrink")
def shrink(emit: Emitter, x: ir.Value, *, bias: float, lambd: float) -> Var:
    var, edge, shift = emit.floats(x), emit.number(x, lambd), emit.number(x, bias)
    below, above = emit("less", x=var, y=emit.number(x, -lambd)), emit("greater", x=var, y=edge)
    low = emit.select(cond=below, a=emit("add", x=var, y=shift), b=emit.number(x, 0))
    return emit.select(cond=above, a=emit("sub", x=var, y=shift), b=low)


@OPS("Softmax", since=13)
def softmax(emit: Emitter, x: ir.Value, *, axis: int) -> Var:
    if not emit.rank(x):
        raise Refusal("of a number without axes")
    return emit("softmax", x=emit.floats(x), axis=axis)


@OPS("LogSoftmax", since=13)
def log_softmax(emit: Emitter, x: ir.Value, *, axis: int) -> Var:
    """With m = max(x): x - m - log(sum(exp(x - m)))"""
    largest = emit("reduce_max", x=emit.floats(x), axes=[axis], keep_dims=True)
    below = emit("sub", x=x, y=largest)
    total = emit("reduce_sum", x=emit("exp", x=below), axes=[axis], keep_dims=True)
    return emit("sub", x=below, y=emit("log", x=total, epsilon=emit.number(x, 0)))


@OPS("Hardmax", since=13)
def hardmax(emit: Emitter, x: ir.Value, *, axis: int) -> Var:
    """1 at the place of the first of the largest, else 0"""
    size, rank = emit.shape(x)[axis], emit.rank(x)
    if not isinstance(size, int):
        raise Refusal("an open size along the axis")
    place = emit("reduce_argmax", x=emit.floats(x), axis=axis, keep_dims=True)
    entries = np.arange(size, dtype=np.int32).reshape([-1 if i == axis % rank else 1 for i in range(rank)])
    return emit.cast(emit("equal", x=place, y=entries), emit.mil(x))


@OPS("Clip")
def clip(emit: Emitter, x: ir.Value, low: ir.Value | None, high: ir.Value | None) -> Var:
    """min(max(x, low), high): where low is above high, high is the result."""
    numbers = [None if v is None else emit.array(v) for v in (low, high)]
    if emit.is_float(x) and all(n is not None and n.size == 1 for n in numbers):
        alpha, beta = (n.reshape(()).item() for n in numbers if n is not None)
        if alpha < beta:
            return emit("clip", x=x, alpha=emit.number(x, alpha), beta=emit.number(x, beta))
    var = emit.var(x)
    if low is not None:
        var = emit("maximum", x=var, y=low)
    return var if high is None else emit("minimum", x=var, y=high)
