"""Reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from exporters.cntk.emit import Emitter
from exporters.cntk.functions import arg_reduce, minus, reduce, reshape, times, unary
from exporters.cntk.net import Tensor, Variable, number
from exporters.cntk.ops.indexing import along, reversed_axis
from exporters.cntk.ops.table import EDGES, OPS

__all__: list[str] = []


def _reduced(
    emit: Emitter,
    x: ir.Value,
    axes: ir.Value | None,
    keepdims: int,
    noop_with_empty_axes: int,
    function: Callable[[Variable, list[int]], Variable],
) -> Tensor:
    source = emit.tensor(x)
    given = [] if axes is None else emit.ints(axes, "its axes")
    if not given and noop_with_empty_axes:
        return emit.like(source, function(source.variable, []))
    wanted = sorted({a % source.rank for a in given} or set(range(source.rank)))
    places = [emit.axis(source, a) for a in wanted]
    return _kept(emit, source, function(source.variable, places), wanted, keepdims)


def _kept(emit: Emitter, source: Tensor, result: Variable, axes: Sequence[int], keepdims: int) -> Tensor:
    """The result of a reduction of `source` over axes of ONNX: these stay with size 1, or go."""
    if keepdims:
        return emit.like(source, result)
    places = [emit.axis(source, axis) for axis in axes]
    shape = [size for place, size in enumerate(result.shape) if place not in places]
    at = None if source.at is None else source.at - sum(axis < source.at for axis in axes)
    return Tensor(reshape(emit, result, shape), at, source.size)


def _register(name: str, before: str | None, operation: str, after: str | None) -> None:
    @OPS(f"Reduce{name}")
    def say(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Tensor:
        if after == "Log":
            emit.note(EDGES)

        def body(v: Variable, places: list[int]) -> Variable:
            if before == "Square":
                v = times(emit, v, v)
            elif before:
                v = unary(emit, before, v)
            v = reduce(emit, v, operation, places)
            return unary(emit, after, v) if after else v

        return _reduced(emit, x, axes, keepdims, noop_with_empty_axes, body)

    say.__doc__ = f"C.reduce_{operation.lower()}" + (f" of {before}" if before else "")


for _name, _parts in {
    "Sum": (None, "Sum", None),
    "Mean": (None, "Mean", None),
    "Max": (None, "Max", None),
    "Min": (None, "Min", None),
    "Prod": (None, "Prod", None),
    "L1": ("Abs", "Sum", None),
    "L2": ("Square", "Sum", "Sqrt"),
    "SumSquare": ("Square", "Sum", None),
    "LogSum": (None, "Sum", "Log"),
    "LogSumExp": (None, "LogSum", None),
}.items():
    _register(_name, *_parts)


def _arg(emit: Emitter, x: ir.Value, operation: str, axis: int, keepdims: int, select_last_index: int) -> Tensor:
    source = emit.tensor(x)
    place, v = emit.axis(source, axis), source.variable
    if select_last_index:  # the first one from behind
        size = emit.fixed([v.shape[place]])[0]
        result = minus(emit, number(size - 1), arg_reduce(emit, reversed_axis(emit, v, place), operation, place))
    else:
        result = arg_reduce(emit, v, operation, place)
    return _kept(emit, source, result, [axis % source.rank], keepdims)


@OPS("ArgMax")
def arg_max(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Tensor:
    """C.argmax."""
    return _arg(emit, x, "Argmax", axis, keepdims, select_last_index)


@OPS("ArgMin")
def arg_min(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Tensor:
    """C.argmin."""
    return _arg(emit, x, "Argmin", axis, keepdims, select_last_index)


@OPS("CumSum")
def cum_sum(emit: Emitter, x: ir.Value, axis: ir.Value, *, exclusive: int, reverse: int) -> Tensor:
    """A product with a triangular matrix."""
    source = emit.tensor(x)
    place = emit.axis(source, emit.ints(axis, "its axis")[0])
    v = source.variable
    count = emit.fixed([v.shape[place]])[0]
    matrix = np.triu(np.ones((count, count), np.float32), 1 if exclusive else 0)
    matrix = matrix.T if reverse else matrix
    return emit.like(source, along(emit, v, place, matrix.T, "sum"))
