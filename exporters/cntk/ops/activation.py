"""Element by element, one input."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from exporters.cntk import layers
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import binary, clip, maximum, minimum, minus, plus, power, select, times, unary
from exporters.cntk.net import Tensor, Variable, number
from exporters.cntk.ops.table import APPROXIMATE, EDGES, OPS
from hub.errors import Refusal

__all__: list[str] = []


def _each(emit: Emitter, x: ir.Value, function: Callable[[Variable], Variable]) -> Tensor:
    tensor = emit.tensor(x)
    return emit.like(tensor, function(tensor.variable))


def _register(name: str, op: str) -> None:
    @OPS(name)
    def say(emit: Emitter, x: ir.Value) -> Tensor:
        if op in ("Log", "Sqrt", "Reciprocal"):
            emit.note(EDGES)
        return _each(emit, x, lambda v: unary(emit, op, v))

    say.__doc__ = f"C.{name.lower()}."


for _name, _op in {
    **{"Relu": "ReLU", "Sigmoid": "StableSigmoid", "Neg": "Negate"},
    **{n: n for n in "Tanh Exp Log Sqrt Floor Abs Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Atanh".split()},
}.items():
    _register(_name, _op)


@OPS("Acosh")
def acosh(emit: Emitter, x: ir.Value) -> Tensor:
    """log(x + sqrt(x - 1) * sqrt(x + 1)): of large numbers no square, and exact close to 1."""

    def say(v: Variable) -> Variable:
        roots = [unary(emit, "Sqrt", part) for part in (minus(emit, v, 1.0), plus(emit, v, 1.0))]
        return unary(emit, "Log", plus(emit, v, times(emit, *roots)))

    emit.note(EDGES)
    return _each(emit, x, say)


@OPS("Ceil")
def ceil(emit: Emitter, x: ir.Value) -> Tensor:
    """-floor(-x)."""

    def say(v: Variable) -> Variable:
        return emit.call("C.ceil", [v], lambda: unary(emit, "Negate", unary(emit, "Floor", unary(emit, "Negate", v))))

    return _each(emit, x, say)


@OPS("Round")
def round_half_even(emit: Emitter, x: ir.Value) -> Tensor:
    """The nearest whole number, of two the even one; C.round takes the greater one."""
    return _each(emit, x, lambda v: layers.round_half_even(emit, v))


@OPS("Sign")
def sign(emit: Emitter, x: ir.Value) -> Tensor:
    """(x > 0) - (x < 0)."""
    return _each(emit, x, lambda v: layers.sign(emit, v))


@OPS("LeakyRelu")
def leaky_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Tensor:
    """C.leaky_relu."""
    return _each(emit, x, lambda v: layers.leaky_relu(emit, v, alpha))


@OPS("ThresholdedRelu")
def thresholded_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Tensor:
    """x where it is greater than alpha, else 0."""
    return _each(emit, x, lambda v: select(emit, binary(emit, "Greater", v, alpha), v, 0.0))


@OPS("Elu")
def elu(emit: Emitter, x: ir.Value, *, alpha: float) -> Tensor:
    """C.elu."""
    return _each(emit, x, lambda v: layers.elu(emit, v, alpha))


@OPS("Celu")
def celu(emit: Emitter, x: ir.Value, *, alpha: float) -> Tensor:
    """alpha * elu(x / alpha)."""
    return _each(emit, x, lambda v: times(emit, alpha, layers.elu(emit, times(emit, v, 1.0 / alpha), 1.0)))


@OPS("Selu")
def selu(emit: Emitter, x: ir.Value, *, alpha: float, gamma: float) -> Tensor:
    """C.selu."""
    return _each(emit, x, lambda v: layers.selu(emit, v, alpha, gamma))


@OPS("Softplus")
def softplus(emit: Emitter, x: ir.Value) -> Tensor:
    """C.softplus."""
    return _each(emit, x, lambda v: layers.softplus(emit, v))


@OPS("Softsign")
def softsign(emit: Emitter, x: ir.Value) -> Tensor:
    """C.softsign."""
    return _each(emit, x, lambda v: layers.softsign(emit, v))


def _hard_sigmoid(emit: Emitter, v: Variable, alpha: float, beta: float) -> Variable:
    return clip(emit, plus(emit, times(emit, v, alpha), beta), 0.0, 1.0)


@OPS("HardSigmoid")
def hard_sigmoid(emit: Emitter, x: ir.Value, *, alpha: float, beta: float) -> Tensor:
    """clip(alpha * x + beta, 0, 1)."""
    return _each(emit, x, lambda v: _hard_sigmoid(emit, v, alpha, beta))


@OPS("HardSwish")
def hard_swish(emit: Emitter, x: ir.Value) -> Tensor:
    """x * clip(x / 6 + 0.5, 0, 1)."""
    return _each(emit, x, lambda v: layers.hard_swish(emit, v))


@OPS("Swish")
def swish(emit: Emitter, x: ir.Value, *, alpha: float) -> Tensor:
    """x * sigmoid(alpha * x)."""

    def say(v: Variable) -> Variable:
        if alpha == 1.0:
            return layers.swish(emit, v)
        return times(emit, v, unary(emit, "StableSigmoid", times(emit, v, alpha)))

    return _each(emit, x, say)


@OPS("Mish")
def mish(emit: Emitter, x: ir.Value) -> Tensor:
    """x * tanh(softplus(x))."""
    return _each(emit, x, lambda v: times(emit, v, unary(emit, "Tanh", layers.softplus(emit, v))))


@OPS("Shrink")
def shrink(emit: Emitter, x: ir.Value, *, bias: float, lambd: float) -> Tensor:
    """x + bias where x < -lambd, x - bias where x > lambd, else 0."""

    def say(v: Variable) -> Variable:
        high = select(emit, binary(emit, "Greater", v, lambd), minus(emit, v, bias), 0.0)
        return select(emit, binary(emit, "Less", v, -lambd), plus(emit, v, bias), high)

    return _each(emit, x, say)


@OPS("Erf")
def erf(emit: Emitter, x: ir.Value) -> Tensor:
    """The error function, within 3e-7."""
    emit.note(APPROXIMATE["Erf"])
    return _each(emit, x, lambda v: layers.erf(emit, v))


@OPS("Gelu")
def gelu(emit: Emitter, x: ir.Value, *, approximate: str) -> Tensor:
    """x / 2 * (1 + erf(x / sqrt(2))), or the form with tanh."""

    def say(v: Variable) -> Variable:
        if approximate == "tanh":
            cube = times(emit, power(emit, v, 3.0), 0.044715)
            curve = unary(emit, "Tanh", times(emit, plus(emit, v, cube), math.sqrt(2 / math.pi)))
        else:
            curve = layers.erf(emit, times(emit, v, math.sqrt(0.5)))
        return times(emit, times(emit, v, 0.5), plus(emit, curve, 1.0))

    if approximate != "tanh":
        emit.note(APPROXIMATE["Gelu"])
    return _each(emit, x, say)


@OPS("Clip")
def clip_(emit: Emitter, x: ir.Value, low: ir.Value | None, high: ir.Value | None) -> Tensor:
    """C.clip, or C.element_max and C.element_min of one bound."""
    bounds = [None if b is None else emit.scalar(b, "a bound") for b in (low, high)]

    def say(v: Variable) -> Variable:
        if bounds == [0.0, None]:
            return unary(emit, "ReLU", v)
        if bounds[0] is not None and bounds[1] is not None:
            if bounds[0] > bounds[1]:
                raise Refusal("its bounds are the wrong way round")
            return clip(emit, v, bounds[0], bounds[1])
        if bounds[0] is not None:
            return maximum(emit, v, number(bounds[0]))
        return v if bounds[1] is None else minimum(emit, v, number(bounds[1]))

    return _each(emit, x, say)


@OPS("Not")
def negation(emit: Emitter, x: ir.Value) -> Tensor:
    """1 - x: what is true is 1."""
    return _each(emit, x, lambda v: minus(emit, number(1.0), v))


@OPS("Identity")
def identity(emit: Emitter, x: ir.Value) -> Tensor:
    """Nothing."""
    return emit.tensor(x)


@OPS("Dropout")
def dropout(emit: Emitter, x: ir.Value, ratio: ir.Value | None, training: ir.Value | None, *, seed: int) -> Tensor:
    """Nothing, at inference."""
    if training is not None and emit.scalar(training, "the mode"):
        raise Refusal("it drops out at inference")
    return emit.tensor(x)


_WHOLE = frozenset({ir.DataType.INT64, ir.DataType.INT32})
_HELD = _WHOLE | {ir.DataType.FLOAT}


@OPS("Cast")
def cast(emit: Emitter, x: ir.Value, *, to: int, saturate: int, round_mode: str) -> Tensor:
    """Nothing where CNTK holds both in float32; a comparison with 0 for truth values."""
    source, target = x.dtype, ir.DataType(to)
    if source == target or (
        target in _WHOLE | {ir.DataType.FLOAT} and (source == ir.DataType.BOOL or source in _WHOLE)
    ):
        return emit.tensor(x)
    if target == ir.DataType.BOOL:
        return _each(emit, x, lambda v: binary(emit, "NotEqual", v, 0.0))
    raise Refusal(f"CNTK computes in float32, not in {target.name.lower()}")
