"""CNTK's functions as a user calls them, each with the primitives that CNTK makes of it.

Axes are those of a sample in C order. A function that is one primitive is one line here; one that CNTK itself
composes (a block) is composed of the same primitives, so that the code and the native file compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporters.cntk.emit import Emitter
from exporters.cntk.net import Size, Variable, number
from exporters.codegen.names import Code
from hub.dnn import Axis, Int, Shape
from hub.errors import Refusal

__all__ = [
    "alias",
    "arg_reduce",
    "binary",
    "broadcast_shape",
    "clip",
    "divide",
    "gather",
    "log_softmax",
    "matrix_times",
    "maximum",
    "minimum",
    "minus",
    "pad",
    "plus",
    "power",
    "reduce",
    "reshape",
    "select",
    "slices",
    "softmax",
    "splice",
    "static",
    "times",
    "transpose",
    "unary",
]

UNARY = {
    "Negate": "C.negate",
    "Tanh": "C.tanh",
    "ReLU": "C.relu",
    "Exp": "C.exp",
    "Log": "C.log",
    "Sqrt": "C.sqrt",
    "Floor": "C.floor",
    "Abs": "C.abs",
    "Reciprocal": "C.reciprocal",
    "Sin": "C.sin",
    "Cos": "C.cos",
    "Tan": "C.tan",
    "Asin": "C.asin",
    "Acos": "C.acos",
    "Atan": "C.atan",
    "Sinh": "C.sinh",
    "Cosh": "C.cosh",
    "Asinh": "C.asinh",
    "Atanh": "C.atanh",
    "StableSigmoid": "C.sigmoid",
    "NoOp": "C.alias",
}
BINARY = {
    "Plus": ("C.plus", "{} + {}"),
    "Minus": ("C.minus", "{} - {}"),
    "ElementTimes": ("C.element_times", "{} * {}"),
    "Equal": ("C.equal", ""),
    "NotEqual": ("C.not_equal", ""),
    "Less": ("C.less", ""),
    "LessEqual": ("C.less_equal", ""),
    "Greater": ("C.greater", ""),
    "GreaterEqual": ("C.greater_equal", ""),
    "Pow": ("C.pow", ""),
    "LogPlus": ("C.log_add_exp", ""),
}
Operand = Variable | float


def static(axis: int, rank: int) -> Axis:
    """A static axis as files have it: counted from the fastest one on."""
    index = rank - 1 - axis
    return Axis(index, f"staticAxisIdx={index}", True)


def broadcast_shape(a: Sequence[Size], b: Sequence[Size]) -> tuple[Size, ...]:
    """The shape of `a` and `b` broadcast against each other."""
    rank = max(len(a), len(b))
    result: list[Size] = []
    for left, right in zip((*[1] * (rank - len(a)), *a), (*[1] * (rank - len(b)), *b), strict=True):
        if left != right and 1 not in (left, right):
            raise Refusal(f"sizes {left} and {right} that must be the same")
        result.append(right if left == 1 else left)
    return tuple(result)


def unary(emit: Emitter, op: str, x: Variable) -> Variable:
    """A primitive that works element by element."""
    return emit.call(UNARY[op], [x], lambda: emit.function(op, [x], x.shape))


def alias(emit: Emitter, x: Variable) -> Variable:
    """`x` itself as a function of its own."""
    return unary(emit, "NoOp", x)


def binary(emit: Emitter, op: str, a: Operand, b: Operand) -> Variable:
    """A primitive of two operands, which are broadcast."""
    name, symbol = BINARY[op]
    a, b = (v if isinstance(v, Variable) else number(v) for v in (a, b))
    shape = broadcast_shape(a.shape, b.shape)
    infix = symbol if "output" in (a.kind, b.kind) or "input" in (a.kind, b.kind) or a.group or b.group else ""
    return emit.call(name, [a, b], lambda: emit.function(op, [a, b], shape), infix=infix)


def plus(emit: Emitter, a: Operand, b: Operand) -> Variable:
    """a + b."""
    return binary(emit, "Plus", a, b)


def minus(emit: Emitter, a: Operand, b: Operand) -> Variable:
    """a - b."""
    return binary(emit, "Minus", a, b)


def times(emit: Emitter, a: Operand, b: Operand) -> Variable:
    """a * b, element by element."""
    return binary(emit, "ElementTimes", a, b)


def power(emit: Emitter, a: Operand, b: Operand) -> Variable:
    """a ** b."""
    return binary(emit, "Pow", a, b)


def divide(emit: Emitter, a: Operand, b: Operand) -> Variable:
    """a / b, which CNTK computes as a * (1 / b)."""
    a, b = (v if isinstance(v, Variable) else number(v) for v in (a, b))
    return emit.call(
        "C.element_divide",
        [a, b],
        lambda: times(emit, a, emit.function("Reciprocal", [b], b.shape)),
        infix="{} / {}",
    )


def select(emit: Emitter, condition: Variable, a: Operand, b: Operand) -> Variable:
    """`a` where the condition is not 0, else `b`."""
    a, b = (v if isinstance(v, Variable) else number(v) for v in (a, b))
    shape = broadcast_shape(broadcast_shape(condition.shape, a.shape), b.shape)
    inputs = [condition, a, b]
    return emit.call("C.element_select", inputs, lambda: emit.function("Select", inputs, shape))


def _extreme(emit: Emitter, name: str, op: str, a: Variable, b: Variable) -> Variable:
    return emit.call(name, [a, b], lambda: select(emit, binary(emit, op, a, b), a, b))


def maximum(emit: Emitter, a: Variable, b: Variable) -> Variable:
    """The greater of two, element by element."""
    return _extreme(emit, "C.element_max", "Greater", a, b)


def minimum(emit: Emitter, a: Variable, b: Variable) -> Variable:
    """The smaller of two, element by element."""
    return _extreme(emit, "C.element_min", "Less", a, b)


def clip(emit: Emitter, x: Variable, low: float, high: float) -> Variable:
    """min(max(x, low), high)."""
    inputs = [x, number(low), number(high)]
    return emit.call("C.clip", inputs, lambda: emit.function("Clip", inputs, x.shape))


def reshape(emit: Emitter, x: Variable, shape: Sequence[Size]) -> Variable:
    """The same numbers in another shape; nothing if it is the same."""
    shape = tuple(shape)
    if shape == x.shape:
        return x
    sizes = emit.fixed(shape)
    axes = {"beginAxis": static(x.rank - 1, x.rank), "endAxis": Axis(x.rank, f"staticAxisIdx={x.rank}", True)}
    return emit.call(
        "C.reshape",
        [x, shape],
        lambda: emit.function("Reshape", [x], shape, newShape=Shape(reversed(sizes)), **axes),
    )


def transpose(emit: Emitter, x: Variable, perm: Sequence[int]) -> Variable:
    """Axis i of the result is axis perm[i] of `x`; nothing if all stay."""
    perm = tuple(perm)
    if perm == tuple(range(x.rank)):
        return x
    axes = [static(axis, x.rank) for axis in reversed(perm)]
    shape = [x.shape[axis] for axis in perm]
    return emit.call("C.transpose", [x, perm], lambda: emit.function("TransposeAxes", [x], shape, axisVec=axes))


def splice(emit: Emitter, xs: Sequence[Variable], axis: int) -> Variable:
    """The tensors behind each other along an axis; of one, itself."""
    if len(xs) == 1:
        return xs[0]
    shape = list(xs[0].shape)
    shape[axis] = sum(emit.fixed([x.shape[axis] for x in xs]))
    place = static(axis, len(shape))
    return emit.call("C.splice", list(xs), lambda: emit.function("Splice", xs, shape, axis=place), {"axis": axis})


def slices(emit: Emitter, x: Variable, axis: int, start: int, end: int, step: int = 1) -> Variable:
    """x[..., start:end:step, ...] with 0 <= start < end <= size; nothing if that is all.

    With a negative step it runs from the last, end - 1, down to `start`.
    """
    size = emit.fixed([x.shape[axis]])[0]
    if -(-(end - start) // abs(step)) == 1:  # CNTK takes no step without a second entry
        start, end, step = (start, start + 1, 1) if step > 0 else (end - 1, end, 1)
    if (start, end, step) == (0, size, 1):
        return x
    shape = list(x.shape)
    shape[axis] = -(-(end - start) // abs(step))
    attributes: dict[str, Any] = {
        "axis": static(axis, x.rank),
        "beginIndex": Int(start),
        "endIndex": Int(end),
        "sliceStrides": Int(step),
    }
    arguments: list[Any] = [x, axis, start, end]
    return emit.call(
        "C.slice",
        arguments if step == 1 else [*arguments, step],
        lambda: emit.function("Slice", [x], shape, **attributes),
    )


def pad(emit: Emitter, x: Variable, pads: Sequence[tuple[int, int]], value: float = 0.0, mode: int = 0) -> Variable:
    """`x` with so much of `value` (mode 0) or of its reflection (mode 1) before and behind, by axis."""
    if not any(before or behind for before, behind in pads):
        return x
    shape = [size + sum(p) for size, p in zip(emit.fixed(x.shape), pads, strict=True)]
    attributes: dict[str, Any] = {
        "paddingHead": [before for before, _ in reversed(pads)],
        "paddingFoot": [behind for _, behind in reversed(pads)],
        "paddingMode": mode,
        "paddingConstantValue": float(value),
    }
    keywords = {"mode": Code("C.REFLECT_PAD") if mode else None, "constant_value": float(value) if value else None}
    pattern = [tuple(p) for p in pads]
    return emit.call("C.pad", [x, pattern], lambda: emit.function("Pad", [x], shape, **attributes), keywords)


def reduce(emit: Emitter, x: Variable, operation: str, axes: Sequence[int]) -> Variable:
    """A reduction over axes, which stay with size 1: Sum, Mean, Max, Min, Prod, LogSum."""
    if not axes:
        return x
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    attributes: dict[str, Any] = {
        "axisVec": [static(axis, x.rank) for axis in axes],
        "reductionKeepDimensions": True,
        "reductionOpName": operation,
    }
    name = {"LogSum": "log_sum_exp"}.get(operation, operation.lower())
    axis: Any = tuple(axes) if len(axes) > 1 else axes[0]
    return emit.call(
        f"C.reduce_{name}", [x], lambda: emit.function("ReduceElements", [x], shape, **attributes), {"axis": axis}
    )


def arg_reduce(emit: Emitter, x: Variable, operation: str, axis: int) -> Variable:
    """Argmax or Argmin along an axis, which stays with size 1."""
    shape = [1 if a == axis else size for a, size in enumerate(x.shape)]
    attributes: dict[str, Any] = {
        "axis": static(axis, x.rank),
        "reductionKeepDimensions": True,
        "reductionOpName": operation,
    }
    return emit.call(
        f"C.{operation.lower()}",
        [x],
        lambda: emit.function("ReduceElements", [x], shape, **attributes),
        {"axis": axis},
    )


def softmax(emit: Emitter, x: Variable, axis: int) -> Variable:
    """exp(x) / sum(exp(x)) along an axis."""
    if x.rank == 1:
        return emit.call("C.softmax", [x], lambda: emit.function("Softmax", [x], x.shape))

    def body() -> Variable:
        raised = unary(emit, "Exp", minus(emit, x, reduce(emit, x, "Max", [axis])))
        return divide(emit, raised, reduce(emit, raised, "Sum", [axis]))

    return emit.call("C.softmax", [x], body, {"axis": axis})


def log_softmax(emit: Emitter, x: Variable, axis: int) -> Variable:
    """log(softmax(x)) along an axis."""

    def body() -> Variable:
        lowered = minus(emit, x, reduce(emit, x, "Max", [axis]))
        return minus(emit, lowered, unary(emit, "Log", reduce(emit, unary(emit, "Exp", lowered), "Sum", [axis])))

    return emit.call("C.log_softmax", [x], body, {"axis": axis})


def matrix_times(emit: Emitter, x: Variable, w: Variable) -> Variable:
    """The last axis of `x` times the first of the matrix `w`."""
    shape = (*x.shape[:-1], *w.shape[1:])
    attributes: dict[str, Any] = {"outputRank": len(w.shape) - 1, "inferInputRankToMap": Int(-1)}
    return emit.call("C.times", [x, w], lambda: emit.function("Times", [w, x], shape, **attributes))


def gather(emit: Emitter, data: Variable, indices: Variable) -> Variable:
    """Entries of the first axis of `data`."""
    shape = (*indices.shape, *data.shape[1:])
    return emit.call("C.gather", [data, indices], lambda: emit.function("Gather", [indices, data], shape))
