"""Element by element, several inputs, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce as folded

import numpy as np
import onnx_ir as ir

from exporters.caffe.emit import BATCH_HINT, Emitter
from exporters.caffe.net import Blob, Size
from exporters.caffe.ops.activation import at_least, at_most, step
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import bias, eltwise, filled, power, reshape, scale, tile
from exporters.constants import Constant, floats
from hub.canonical import layer_of
from hub.errors import Refusal

__all__ = ["Operand", "operand", "product", "spread", "total"]

Operand = Blob | Constant


def operand(emit: Emitter, value: ir.Value) -> Operand:
    """The constant (in float32) or the blob that `value` is."""
    constant = emit.constant(value)
    return emit.blob(value) if constant is None else floats(constant)


# -- broadcasting ----------------------------------------------------------------------------------


def spread(emit: Emitter, x: Blob, shape: Sequence[Size], role: str = "tile") -> Blob:
    """`x` broadcast to `shape` by Tile."""
    x = reshape(emit, x, (*[1] * (len(shape) - x.rank), *x.shape), f"{role}_axes")
    for axis, size in enumerate(shape):
        if x.shape[axis] != size:
            if not isinstance(size, int):
                raise Refusal("copies along the batch, whose size is open", BATCH_HINT)
            x = tile(emit, x, axis, size, f"{role}_{axis}")
    return x


def _span(shape: Sequence[Size], within: Sequence[Size]) -> tuple[int, int] | None:
    """The first axes [a, b) outside of which `shape` is 1; None if inside it is not that of `within`."""
    wide = [axis for axis, size in enumerate(shape) if size != 1]
    if not wide:
        return 0, 0
    start, stop = wide[0], wide[-1] + 1
    return (start, stop) if tuple(shape[start:stop]) == tuple(within[start:stop]) else None


def _aligned(shape: Sequence[Size], rank: int) -> tuple[Size, ...]:
    return (*[1] * (rank - len(shape)), *shape)


def _with_constant(
    emit: Emitter, x: Blob, constant: Constant, shape: Sequence[Size], kind: str, role: str | None
) -> Blob:
    """x * constant or x + constant."""
    x = reshape(emit, x, _aligned(x.shape, len(shape)), "axes")
    if constant.size == 1:
        value = float(constant.numpy().reshape(-1)[0])
        return power(emit, x, **{"scale" if kind == "mul" else "shift": value}, role=role)
    x = spread(emit, x, shape, "spread")
    aligned = _aligned(constant.shape, len(shape))
    wide = [axis for axis, size in enumerate(aligned) if size != 1]
    start, stop = wide[0], wide[-1] + 1
    target = tuple(emit.fixed(x.shape[start:stop], 0))
    inner = tuple(s for s in aligned[start:stop] if isinstance(s, int))
    operand = constant.viewed(lambda a: np.broadcast_to(a.reshape(inner), target), target, f"to{target}")
    return (scale if kind == "mul" else bias)(emit, x, operand, start, role=role)


def _combined(emit: Emitter, a: Operand, b: Operand, shape: Sequence[Size], kind: str, role: str | None) -> Blob:
    """a * b or a + b. Scale or Bias where one side's shape is a part of the other's; else Tile and Eltwise."""
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Constant):
        a = emit.parameter(a)
    if isinstance(b, Constant):
        return _with_constant(emit, a, b, shape, kind, role)
    operation = "PROD" if kind == "mul" else "SUM"
    for x, y in ((a, b), (b, a)):
        aligned = _aligned(y.shape, len(shape))
        span = _span(aligned, shape)
        if x.shape == tuple(shape) and aligned != x.shape and span is not None:
            y = reshape(emit, y, x.shape[span[0] : span[1]], "operand")
            return (scale if kind == "mul" else bias)(emit, x, y, span[0], role=role)
    return eltwise(emit, operation, [spread(emit, a, shape, "left"), spread(emit, b, shape, "right")], role=role)


def product(emit: Emitter, x: Blob, y: ir.Value | Operand, role: str | None = None) -> Blob:
    """x * y, of the shape of `x`."""
    other = operand(emit, y) if isinstance(y, ir.Value) else y
    return _combined(emit, x, other, x.shape, "mul", role)


def total(emit: Emitter, x: Blob, y: Operand, role: str | None = None) -> Blob:
    """x + y, of the shape of `x`."""
    return _combined(emit, x, y, x.shape, "add", role)


def _negated(emit: Emitter, x: Operand) -> Operand:
    if isinstance(x, Blob):
        return power(emit, x, scale=-1, role="negated")
    return x.viewed(lambda a: -a, x.shape, "negated")


# -- arithmetic ------------------------------------------------------------------------------------


@OPS("Mul")
def mul(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """Power, Scale or Eltwise PROD; with the constant that the same layer then adds, in one layer."""
    left, right, shape = operand(emit, a), operand(emit, b), emit.result()
    if isinstance(left, Constant):
        left, right = right, left
    if isinstance(left, Blob) and isinstance(right, Constant) and left.shape == shape:
        fused = _scaled_and_shifted(emit, left, right)
        if fused is not None:
            return fused
    return _combined(emit, left, right, shape, "mul", None)


def _scaled_and_shifted(emit: Emitter, x: Blob, factor: Constant) -> Blob | None:
    """x * factor + shift as one Power or Scale, where the next node of this layer adds a constant like `factor`."""
    assert emit.node is not None
    uses = emit.node.outputs[0].uses()
    follower = next(iter(uses))[0] if len(uses) == 1 else None
    if follower is None or follower.op_type not in ("Add", "Sub") or emit.node.outputs[0].is_graph_output():
        return None
    if layer_of(follower) != layer_of(emit.node) or follower.inputs[0] is not emit.node.outputs[0]:
        return None
    shift = emit.constant(follower.inputs[1])
    if shift is None or len(shift.shape) > x.rank:
        return None
    shift = floats(shift)
    if follower.op_type == "Sub":
        shift = shift.viewed(lambda a: -a, shift.shape, "negated")
    if factor.size == shift.size == 1:
        numbers = [float(c.numpy().reshape(-1)[0]) for c in (factor, shift)]
        result = power(emit, x, scale=numbers[0], shift=numbers[1])
    else:
        shapes = [_aligned(c.shape, x.rank) for c in (factor, shift)]
        span = _span(shapes[0], x.shape)
        if shapes[0] != shapes[1] or span is None or span[0] == span[1] or span[0] == 0:
            return None
        inner = tuple(emit.fixed(x.shape[span[0] : span[1]], 0))
        factor, shift = (c.viewed(lambda a: a.reshape(inner), inner, f"to{inner}") for c in (factor, shift))
        result = scale(emit, x, factor, span[0], shift)
    emit.absorbed[follower] = result
    return result


@OPS("Add")
def add(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """Power, Bias or Eltwise SUM."""
    return _combined(emit, operand(emit, a), operand(emit, b), emit.result(), "add", None)


@OPS("Sub")
def sub(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """Eltwise SUM with the coefficients 1 and -1, or the sum with -b."""
    left, right, shape = operand(emit, a), operand(emit, b), emit.result()
    if isinstance(left, Blob) and isinstance(right, Blob) and left.shape == right.shape:
        return eltwise(emit, "SUM", [left, right], [1, -1])
    if isinstance(left, Constant) and left.size == 1 and isinstance(right, Blob) and right.shape == shape:
        return power(emit, right, scale=-1, shift=float(left.numpy().reshape(-1)[0]))
    return _combined(emit, left, _negated(emit, right), shape, "add", None)


@OPS("Div")
def div(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """a * b ** -1."""
    left, right = operand(emit, a), operand(emit, b)
    if isinstance(right, Constant):
        inverse: Operand = right.viewed(lambda x: np.float32(1) / x, right.shape, "inverse")
    else:
        if isinstance(left, Constant) and np.all(left.numpy() == 1) and right.shape == emit.result():
            return power(emit, right, -1)
        inverse = power(emit, right, -1, role="inverse")
    return _combined(emit, left, inverse, emit.result(), "mul", None)


@OPS("Pow")
def pow_(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """Power, for one constant exponent."""
    exponent = emit.array(b)
    if exponent is None or exponent.size != 1:
        raise Refusal("Caffe's Power has one constant exponent")
    x = emit.blob(a)
    return power(emit, reshape(emit, x, emit.result(), "axes"), float(exponent.reshape(-1)[0]))


@OPS("Sum")
def sum_(emit: Emitter, *xs: ir.Value) -> Blob:
    """Eltwise SUM."""
    return _many(emit, xs, lambda a, b, role: _combined(emit, a, b, emit.result(), "add", role), "SUM", 1)


@OPS("Mean")
def mean(emit: Emitter, *xs: ir.Value) -> Blob:
    """Eltwise SUM with the coefficient 1 / n."""
    blobs = [operand(emit, x) for x in xs]
    same = [b for b in blobs if isinstance(b, Blob) and b.shape == emit.result()]
    if len(same) == len(xs) > 1:
        return eltwise(emit, "SUM", same, [1 / len(xs)] * len(xs))
    summed = _many(emit, xs, lambda a, b, role: _combined(emit, a, b, emit.result(), "add", role), "SUM", 1, "sum")
    return power(emit, summed, scale=1 / len(xs))


def _many(
    emit: Emitter,
    xs: Sequence[ir.Value],
    pair: Callable[[Operand, Operand, str | None], Operand],
    operation: str,
    least: int,
    role: str | None = None,
) -> Blob:
    """All at once where the shapes are the same, else two by two."""
    operands = [operand(emit, x) for x in xs]
    blobs = [b for b in operands if isinstance(b, Blob)]
    shape = emit.result()
    if len(blobs) == len(operands) and all(b.shape == shape for b in blobs):
        return eltwise(emit, operation, blobs, role=role) if len(blobs) > least else blobs[0]
    first, *others, last = operands if len(operands) > 1 else [operands[0], operands[0]]
    if len(operands) == 1:
        return emit.blob(xs[0])
    summed = folded(lambda a, b: pair(a, b, "partial"), others, first)
    result = pair(summed, last, role)
    assert isinstance(result, Blob)
    return result


@OPS("Max")
def max_(emit: Emitter, *xs: ir.Value) -> Blob:
    """Eltwise MAX; ReLU with zero."""
    return _many(emit, xs, lambda a, b, role: _extreme(emit, a, b, role), "MAX", 1)


@OPS("Min")
def min_(emit: Emitter, *xs: ir.Value) -> Blob:
    """-max(-a, -b, ...)."""
    if len(xs) == 1:
        return emit.blob(xs[0])
    operands = [operand(emit, x) for x in xs]
    if len(operands) == 2 and isinstance(operands[1], Constant) and operands[1].size == 1:
        if isinstance(operands[0], Blob) and operands[0].shape == emit.result():
            return at_most(emit, operands[0], float(operands[1].numpy().reshape(-1)[0]))
    negated = [_negated(emit, x) for x in operands]
    largest = folded(lambda a, b: _extreme(emit, a, b, "largest"), negated[1:], negated[0])
    assert isinstance(largest, Blob)
    return power(emit, largest, scale=-1)


def _extreme(emit: Emitter, a: Operand, b: Operand, role: str | None) -> Blob:
    """max(a, b); a constant is added to a blob of zeros of the other's shape."""
    wanted = emit.broadcast(a.shape, b.shape)
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Constant):
        a = emit.parameter(a)
    a = spread(emit, a, wanted, "left")
    if isinstance(b, Constant):
        if b.size == 1:
            return at_least(emit, a, float(b.numpy().reshape(-1)[0]), role)
        b = _with_constant(emit, filled(emit, a, 0, "zeros"), b, wanted, "add", "constant")
    return eltwise(emit, "MAX", [a, spread(emit, b, wanted, "right")], role=role)


# -- comparison and logic: 1 for true, 0 for false ------------------------------------------------------


def _above(emit: Emitter, a: ir.Value, b: ir.Value, role: str | None) -> Blob:
    """[a > b] as [a - b > 0], which is exact; Threshold itself for one constant."""
    left, right, shape = operand(emit, a), operand(emit, b), emit.result()
    if isinstance(left, Blob) and isinstance(right, Constant) and right.size == 1 and left.shape == shape:
        return step(emit, left, float(right.numpy().reshape(-1)[0]), role)
    if isinstance(right, Blob) and isinstance(left, Constant) and left.size == 1 and right.shape == shape:
        return step(emit, power(emit, right, scale=-1, role="negated"), -float(left.numpy().reshape(-1)[0]), role)
    difference = _combined(emit, left, _negated(emit, right), shape, "add", "difference")
    return step(emit, difference, 0, role)


@OPS("Greater")
def greater(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """[a > b]."""
    return _above(emit, a, b, None)


@OPS("Less")
def less(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """[b > a]."""
    return _above(emit, b, a, None)


@OPS("GreaterOrEqual")
def greater_or_equal(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """1 - [b > a]."""
    return power(emit, _above(emit, b, a, "less"), scale=-1, shift=1)


@OPS("LessOrEqual")
def less_or_equal(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """1 - [a > b]."""
    return power(emit, _above(emit, a, b, "greater"), scale=-1, shift=1)


@OPS("Equal")
def equal(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """1 - [a > b] - [b > a]."""
    either = eltwise(emit, "SUM", [_above(emit, a, b, "greater"), _above(emit, b, a, "less")], role="different")
    return power(emit, either, scale=-1, shift=1)


@OPS("Not")
def not_(emit: Emitter, x: ir.Value) -> Blob:
    """1 - x."""
    return power(emit, emit.blob(x), scale=-1, shift=1)


@OPS("And")
def and_(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """a b."""
    return _combined(emit, operand(emit, a), operand(emit, b), emit.result(), "mul", None)


@OPS("Or")
def or_(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """max(a, b)."""
    return _extreme(emit, operand(emit, a), operand(emit, b), None)


@OPS("Xor")
def xor(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """|a - b|."""
    right = _negated(emit, operand(emit, b))
    difference = _combined(emit, operand(emit, a), right, emit.result(), "add", "difference")
    return emit.layer("AbsVal", [difference], difference.shape)


@OPS("Where")
def where(emit: Emitter, condition: ir.Value, a: ir.Value, b: ir.Value) -> Blob:
    """condition a + (1 - condition) b, for finite numbers."""
    chosen, left, right = operand(emit, condition), operand(emit, a), operand(emit, b)
    for x in (left, right):
        if isinstance(x, Constant) and not np.all(np.isfinite(x.numpy())):
            raise Refusal("a choice of an infinite constant: in Caffe it is a product")
        if isinstance(x, Blob) and x.layer is not None and x.layer.type in ("Exp", "Log", "Power"):
            emit.note("a choice is a product, so what is not chosen must be a finite number")
    shape = emit.result()
    opposite: Operand
    if isinstance(chosen, Constant):
        opposite = chosen.viewed(lambda x: 1 - x, chosen.shape, "opposite")
    else:
        opposite = power(emit, chosen, scale=-1, shift=1, role="opposite")
    parts: list[Operand] = []
    for mask, x, role in ((chosen, left, "first"), (opposite, right, "second")):
        if isinstance(mask, Constant) and isinstance(x, Constant):
            data = mask.numpy() * x.numpy()
            parts.append(Constant.of(data.astype(np.float32)))
        else:
            parts.append(_combined(emit, mask, x, emit.broadcast(mask.shape, x.shape), "mul", role))
    return _combined(emit, parts[0], parts[1], shape, "add", None)
