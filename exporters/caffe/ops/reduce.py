"""Reductions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import along, reduce, select
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import eltwise, power, reshape, tile, unary
from hub.errors import Refusal


def _axes(emit: Emitter, x: Blob, axes: ir.Value | None, nothing: int) -> list[int]:
    given = [] if axes is None else emit.ints(axes, "its axes")
    if not given:
        return [] if nothing else list(range(x.rank))
    return sorted(axis % x.rank for axis in given)


def _reduced(emit: Emitter, x: Blob, axes: list[int], operation: str, role: str | None = None) -> Blob:
    return reduce(emit, x, axes, operation, emit.result(), role)


@OPS("ReduceMean", since=18)
def reduce_mean(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Blob:
    """Reduction at the end, a global Pooling, or a convolution by 1 / n."""
    source = emit.blob(x)
    return _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "MEAN")


@OPS("ReduceSum", since=13)
def reduce_sum(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Blob:
    """Reduction at the end, else a convolution by 1."""
    source = emit.blob(x)
    return _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "SUM")


@OPS("ReduceMax", since=18)
def reduce_max(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Blob:
    """Pooling MAX."""
    source = emit.blob(x)
    return _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "MAX")


@OPS("ReduceMin", since=18)
def reduce_min(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Blob:
    """-max(-x)."""
    source = emit.blob(x)
    axes_ = _axes(emit, source, axes, noop_with_empty_axes)
    largest = _reduced(emit, power(emit, source, scale=-1, role="negated"), axes_, "MAX", "largest")
    return power(emit, largest, scale=-1)


@OPS("ReduceL1", since=18)
def reduce_l1(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Blob:
    """The sum of magnitudes."""
    source = emit.blob(x)
    return _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "ASUM")


@OPS("ReduceSumSquare", since=18)
def reduce_sum_square(
    emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int
) -> Blob:
    """The sum of squares."""
    source = emit.blob(x)
    return _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "SUMSQ")


@OPS("ReduceL2", since=18)
def reduce_l2(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Blob:
    """The root of the sum of squares."""
    source = emit.blob(x)
    squares = _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "SUMSQ", "squares")
    return power(emit, squares, 0.5)


@OPS("ReduceLogSum", since=18)
def reduce_log_sum(
    emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int
) -> Blob:
    """The logarithm of the sum."""
    source = emit.blob(x)
    total = _reduced(emit, source, _axes(emit, source, axes, noop_with_empty_axes), "SUM", "sum")
    return unary(emit, total, "Log")


@OPS("ReduceLogSumExp", since=18)
def reduce_log_sum_exp(
    emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int
) -> Blob:
    """m + log(sum(exp(x - m))), m being the maximum."""
    source = emit.blob(x)
    which = _axes(emit, source, axes, noop_with_empty_axes)
    kept = [1 if axis in which else size for axis, size in enumerate(source.shape)]
    top = reduce(emit, source, which, "MAX", kept, "max")
    spread = top
    for axis in which:
        spread = tile(emit, spread, axis, emit.fixed(source.shape[axis : axis + 1], 0)[0], f"maxima_{axis}")
    centred = eltwise(emit, "SUM", [source, spread], [1, -1], "centred")
    total = reduce(emit, unary(emit, centred, "Exp", "exp"), which, "SUM", kept, "total")
    result = eltwise(emit, "SUM", [unary(emit, total, "Log", "log"), top])
    return reshape(emit, result, emit.result(), "shape")


@OPS("ArgMax", since=13)
def arg_max(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Blob:
    """ArgMax, which gives the last of equal maxima; the first is n - 1 less the last of the reversed axis."""
    return _arg_max(emit, emit.blob(x), axis, select_last_index)


@OPS("ArgMin", since=13)
def arg_min(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Blob:
    """ArgMax of -x."""
    return _arg_max(emit, power(emit, emit.blob(x), scale=-1, role="negated"), axis, select_last_index)


def _arg_max(emit: Emitter, x: Blob, axis: int, last: int) -> Blob:
    axis %= x.rank
    size = emit.fixed(x.shape[axis : axis + 1], 0)[0]
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    if not last:
        x = select(emit, x, axis, list(reversed(range(size))), "reversed")
    found = emit.layer("ArgMax", [x], shape, "last" if not last else None, argmax_param={"axis": axis})
    if not last:
        found = power(emit, found, scale=-1, shift=size - 1)
    return reshape(emit, found, emit.result(), "shape")


@OPS("CumSum")
def cumulative_sum(emit: Emitter, x: ir.Value, axis: ir.Value, *, exclusive: int, reverse: int) -> Blob:
    """The product with a triangular matrix of ones."""
    source = emit.blob(x)
    which = emit.ints(axis, "its axis")[0] % source.rank
    size = emit.fixed(source.shape[which : which + 1], 0)[0]
    matrix = np.tril(np.ones((size, size), np.float32), -1 if exclusive else 0)
    if which == 0:
        raise Refusal("a sum along the batch")
    return along(emit, source, which, matrix.T if reverse else matrix)
