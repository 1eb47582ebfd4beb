"""Element by element, several inputs; concatenation."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from exporters.cntk.emit import Emitter
from exporters.cntk.functions import (
    binary,
    divide,
    maximum,
    minimum,
    minus,
    plus,
    power,
    select,
    splice,
    times,
)
from exporters.cntk.layers import param_relu
from exporters.cntk.net import Tensor, Variable
from exporters.cntk.ops.table import EDGES, OPS
from hub.errors import Refusal

__all__: list[str] = []

Two = Callable[[Emitter, Variable, Variable], Variable]


def _two(emit: Emitter, a: ir.Value, b: ir.Value, function: Two) -> Tensor:
    (left, right), tensor = emit.aligned(a, b)
    return tensor(function(emit, left, right))


def _register(name: str, function: Two) -> None:
    @OPS(name)
    def say(emit: Emitter, a: ir.Value, b: ir.Value) -> Tensor:
        return _two(emit, a, b, function)

    say.__doc__ = f"{function.__doc__}"


for _name, _function in {"Add": plus, "Sub": minus, "Mul": times}.items():
    _register(_name, _function)


@OPS("Pow")
def pow_(emit: Emitter, a: ir.Value, b: ir.Value) -> Tensor:
    """a ** b."""
    base, exponent = emit.array(a), emit.array(b)
    if (base is None or not base.all()) and (exponent is None or (exponent < 0).any()):
        emit.note(EDGES)
    return _two(emit, a, b, power)


@OPS("Div")
def div(emit: Emitter, a: ir.Value, b: ir.Value) -> Tensor:
    """a / b, which CNTK computes as a * (1 / b)."""
    divisor = emit.array(b)
    if divisor is None or not divisor.all():
        emit.note(EDGES)
    return _two(emit, a, b, divide)


def _comparison(name: str, op: str) -> None:
    @OPS(name)
    def say(emit: Emitter, a: ir.Value, b: ir.Value) -> Tensor:
        return _two(emit, a, b, lambda emit, left, right: binary(emit, op, left, right))

    say.__doc__ = f"C.{op}: 1 or 0."


for _name, _op in {
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterOrEqual": "GreaterEqual",
    "Less": "Less",
    "LessOrEqual": "LessEqual",
    "And": "ElementTimes",
    "Xor": "NotEqual",
}.items():
    _comparison(_name, _op)


@OPS("Or")
def disjunction(emit: Emitter, a: ir.Value, b: ir.Value) -> Tensor:
    """(a + b) > 0."""
    return _two(emit, a, b, lambda emit, left, right: binary(emit, "Greater", plus(emit, left, right), 0.0))


def _all(emit: Emitter, inputs: tuple[ir.Value, ...], function: Two) -> Tensor:
    """One after the other."""
    variables, tensor = emit.aligned(*inputs)
    result = variables[0]
    for variable in variables[1:]:
        result = function(emit, result, variable)
    return tensor(result)


@OPS("Sum")
def total(emit: Emitter, *inputs: ir.Value) -> Tensor:
    """a + b + ..."""
    return _all(emit, inputs, plus)


@OPS("Mean")
def mean(emit: Emitter, *inputs: ir.Value) -> Tensor:
    """(a + b + ...) / n."""
    result = _all(emit, inputs, plus)
    return emit.like(result, times(emit, result.variable, 1.0 / len(inputs)))


@OPS("Max")
def greatest(emit: Emitter, *inputs: ir.Value) -> Tensor:
    """C.element_max."""
    return _all(emit, inputs, maximum)


@OPS("Min")
def smallest(emit: Emitter, *inputs: ir.Value) -> Tensor:
    """C.element_min."""
    return _all(emit, inputs, minimum)


@OPS("Where")
def where(emit: Emitter, condition: ir.Value, a: ir.Value, b: ir.Value) -> Tensor:
    """C.element_select."""
    (flag, left, right), tensor = emit.aligned(condition, a, b)
    return tensor(select(emit, flag, left, right))


@OPS("PRelu")
def prelu(emit: Emitter, x: ir.Value, slope: ir.Value) -> Tensor:
    """C.param_relu."""
    return _two(emit, x, slope, lambda emit, left, right: param_relu(emit, right, left))


@OPS("Mod")
def mod(emit: Emitter, a: ir.Value, b: ir.Value, *, fmod: int) -> Tensor:
    """a - b * trunc(a / b) is not exact in float32: refused."""
    raise Refusal("a remainder is not exact in float32")


@OPS("Concat")
def concat(emit: Emitter, *inputs: ir.Value, axis: int) -> Tensor:
    """C.splice."""
    tensors = [emit.tensor(value) for value in inputs]
    batches = {t.at for t in tensors if t.at is not None}
    if len(batches) > 1:
        raise Refusal("its inputs have the batch at different axes")
    if not batches:
        place = axis % tensors[0].rank
        return Tensor(splice(emit, [t.variable for t in tensors], place), None)
    like = next(t for t in tensors if t.at is not None)
    if any(t.at is None for t in tensors):
        raise Refusal("one of its inputs does not depend on the batch")
    return emit.like(like, splice(emit, [t.variable for t in tensors], emit.axis(like, axis)))
