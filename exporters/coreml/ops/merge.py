"""Functions of the elements of several tensors, which are broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.emit import SMALL
from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var

_ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul"}
_COMPARE = {"Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_equal"}
_COMPARE |= {"Less": "less", "LessOrEqual": "less_equal"}
_LOGIC = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}


def _op(emit: Emitter, names: dict[str, str]) -> str:
    assert emit.node is not None
    return names[emit.node.op_type]


@OPS(*_ARITHMETIC)
def arithmetic(emit: Emitter, a: ir.Value, b: ir.Value) -> Var:
    op = _op(emit, _ARITHMETIC)
    left, right = emit.array(a), emit.array(b)
    if op == "mul" or not emit.is_float(a) or (left is None) == (right is None):
        return emit(op, x=a, y=b)
    if right is not None:
        data, summand = _beside(emit, a, right)
        if op == "sub":  # coremltools would negate the constant in place
            return emit("add", x=data, y=-summand)
        return emit(op, x=data, y=b if summand is right else summand)
    data, summand = _beside(emit, b, left)
    return emit(op, x=a if summand is left else summand, y=data)


def _beside(emit: Emitter, data: ir.Value, array: Any) -> tuple[Any, Any]:
    """Data and a constant that is added: where coremltools makes it a bias, the shape of the data is the result's."""
    rank = emit.rank(data)
    if rank and array.ndim > rank:
        return emit("expand_dims", x=data, axes=list(range(array.ndim - rank))), array
    return data, array.reshape(1) if rank and not array.ndim and emit.shape(data)[-1] == 1 else array


@OPS(*_LOGIC)
def logic(emit: Emitter, a: ir.Value, b: ir.Value) -> Var:
    return emit(_op(emit, _LOGIC), x=a, y=b)


@OPS(*_COMPARE)
def compare(emit: Emitter, a: ir.Value, b: ir.Value) -> Var:
    if emit.kind(a) == ir.DataType.BOOL:
        return emit(_op(emit, _COMPARE), x=emit.cast(emit.var(a), "int32"), y=emit.cast(emit.var(b), "int32"))
    return emit(_op(emit, _COMPARE), x=a, y=b)


@OPS("Div")
def div(emit: Emitter, a: ir.Value, b: ir.Value) -> Var:
    """Integers: trunc(a / b) = sign(a) * sign(b) * floor(|a| / |b|)"""
    if emit.is_float(a):
        return emit("real_div", x=a, y=b)
    signs = emit("mul", x=_sign(emit, a), y=_sign(emit, b))
    return emit("mul", x=signs, y=emit("floor_div", x=_size(emit, a), y=_size(emit, b)))


def _size(emit: Emitter, x: ir.Value) -> Var:
    return emit("maximum", x=x, y=emit("mul", x=x, y=np.int32(-1)))


def _sign(emit: Emitter, x: ir.Value) -> Var:
    """1 or -1; of 0, 1."""
    return emit.select(cond=emit("less", x=x, y=np.int32(0)), a=np.int32(-1), b=np.int32(1))


@OPS("Mod")
def mod(emit: Emitter, a: ir.Value, b: ir.Value, *, fmod: int) -> Var:
    """The remainder has the sign of b; with fmod that of a: sign(a) * (|a| mod |b|)."""
    if not fmod:
        if emit.is_float(a):
            raise Refusal("numbers that are not whole need fmod=1")
        return emit("mod", x=a, y=b)
    if emit.is_float(a):
        rest = emit("mod", x=emit("abs", x=a), y=emit("abs", x=b))
        return emit("mul", x=emit("sign", x=a), y=rest)
    return emit("mul", x=_sign(emit, a), y=emit("mod", x=_size(emit, a), y=_size(emit, b)))


@OPS("Pow")
def power(emit: Emitter, x: ir.Value, y: ir.Value) -> Var:
    number = emit.array(y)
    if number is not None and number.size == 1 and emit.is_float(x):
        if number.item() == 2:
            return emit("square", x=x)
        if number.item() == 0.5:
            return emit("sqrt", x=x)
    return emit("pow", x=emit.floats(x), y=emit.cast(emit.var(y), emit.mil(x)))


def _fold(emit: Emitter, op: str, values: tuple[ir.Value, ...]) -> Any:
    result = emit.var(values[0])
    for value in values[1:]:
        result = emit(op, x=result, y=value)
    return result


@OPS("Sum")
def total(emit: Emitter, *values: ir.Value) -> Var:
    return _fold(emit, "add", values)


@OPS("Mean")
def mean(emit: Emitter, *values: ir.Value) -> Var:
    summed = _fold(emit, "add", values)
    return summed if len(values) == 1 else emit("real_div", x=summed, y=emit.number(values[0], len(values)))


@OPS("Max")
def maximum(emit: Emitter, *values: ir.Value) -> Var:
    return _fold(emit, "maximum", values)


@OPS("Min")
def minimum(emit: Emitter, *values: ir.Value) -> Var:
    return _fold(emit, "minimum", values)


@OPS("Where")
def where(emit: Emitter, condition: ir.Value, x: ir.Value, y: ir.Value) -> Var:
    if emit.kind(x) == ir.DataType.BOOL:
        chosen = emit.select(cond=condition, a=emit.cast(emit.var(x), "int32"), b=emit.cast(emit.var(y), "int32"))
        return emit.cast(chosen, "bool")
    return emit.select(cond=condition, a=x, b=y)


@OPS("Cast")
def cast(emit: Emitter, x: ir.Value, *, to: int, saturate: int, round_mode: str) -> Var:
    return convert(emit, x, ir.DataType(to))


@OPS("CastLike")
def cast_like(emit: Emitter, x: ir.Value, like: ir.Value, *, saturate: int, round_mode: str) -> Var:
    return convert(emit, x, emit.kind(like))


def convert(emit: Emitter, x: ir.Value, to: ir.DataType) -> Var:
    """`x` in another type."""
    source = emit.kind(x)
    if to in SMALL and source != to and source != ir.DataType.BOOL and not _within(source, to):
        raise Refusal(f"a cast from {source.name.lower()} to {to.name.lower()}, of which Core ML keeps all digits")
    kinds = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BOOL: "bool"}
    kinds |= {ir.DataType.INT32: "int32", ir.DataType.INT64: "int32"} | dict.fromkeys(SMALL, "int32")
    if to not in kinds:
        raise Refusal(f"Core ML has no {to.name.lower()}")
    if to == ir.DataType.BOOL and source != ir.DataType.BOOL:
        return emit("not_equal", x=x, y=emit.number(x, 0))
    return emit.cast(emit.var(x), kinds[to])


def _within(source: ir.DataType, to: ir.DataType) -> bool:
    """Whether all numbers of one small type are numbers of another."""
    if source not in SMALL:
        return False
    (low, high), (least, most) = SMALL[source], SMALL[to]
    return least <= low and high <= most
