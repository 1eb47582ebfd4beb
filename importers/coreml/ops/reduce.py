"""Reductions, running sums, and what sorts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from importers.coreml.context import Mil
from importers.coreml.table import Ints, op
from importers.coreml.types import by_name

__all__: list[str] = []

REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_mean": "ReduceMean", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd", "reduce_l1_norm": "ReduceL1", "reduce_l2_norm": "ReduceL2",
    "reduce_log_sum": "ReduceLogSum", "reduce_log_sum_exp": "ReduceLogSumExp",
    "reduce_sum_square": "ReduceSumSquare",
}  # fmt: skip


@op(*REDUCTIONS)
def reduce(mil: Mil, x: ir.Value, *, axes: Ints | None = None, keep_dims: bool = False) -> ir.Value:
    """The operator of ONNX; over all axes where none are given."""
    along = mil.ints([mil.axis(axis, mil.rank(x)) for axis in axes], "axes") if axes else None
    return mil.op(REDUCTIONS[mil.kind], x, along, keepdims=int(keep_dims))


@op("reduce_argmax", "reduce_argmin")
def reduce_arg(
    mil: Mil, x: ir.Value, *, axis: int = -1, keep_dims: bool = False, output_dtype: str | None = None
) -> ir.Value:
    """ArgMax or ArgMin."""
    if output_dtype is not None:
        by_name(output_dtype)
    kind = "ArgMax" if mil.kind == "reduce_argmax" else "ArgMin"
    return mil.op(kind, _sortable(mil, x), axis=mil.axis(axis, mil.rank(x)), keepdims=int(keep_dims))


@op("cumsum")
def cumsum(mil: Mil, x: ir.Value, *, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> ir.Value:
    """CumSum."""
    along = mil.builder.constant(np.array(mil.axis(axis, mil.rank(x)), np.int64), "axis")
    return mil.op("CumSum", x, along, exclusive=int(exclusive) or None, reverse=int(reverse) or None)


@op("argsort")
def argsort(mil: Mil, x: ir.Value, *, axis: int = -1, ascending: bool = False) -> ir.Value:
    """The places of TopK of all."""
    along = mil.axis(axis, mil.rank(x))
    count = mil.shape_of([mil.size(x, along)])
    return mil.ops("TopK", _sortable(mil, x), count, outputs=2, axis=along, largest=int(not ascending))[1]


@op("topk")
def topk(
    mil: Mil,
    x: ir.Value,
    k: ir.Value | None = None,
    *,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str | None = None,
) -> list[ir.Value]:
    """TopK, always sorted."""
    if output_indices_dtype is not None:
        by_name(output_indices_dtype)
    along = mil.axis(axis, mil.rank(x))
    known = mil.known(k) if k is not None else np.array(1)
    if known is None:
        assert k is not None
        count = mil.reshape(mil.int64(k), [1])
    elif known.item() == -1:
        count = mil.shape_of([mil.size(x, along)])
    else:
        count = mil.ints([known.item()], "k")
    values, places = mil.ops("TopK", _sortable(mil, x), count, outputs=2, axis=along, largest=int(not ascending))
    return [values, places] if return_indices else [values]


def _sortable(mil: Mil, x: ir.Value) -> ir.Value:
    """Numbers of a type that ONNX Runtime sorts."""
    small = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.BOOL)
    return mil.cast(x, ir.DataType.INT32) if mil.dtype(x) in small else x


@op("non_zero")
def non_zero(mil: Mil, x: ir.Value) -> ir.Value:
    """NonZero, a place in each row."""
    return mil.op("Transpose", mil.op("NonZero", x), perm=[1, 0])
