"""Reductions along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var

_SAME = {"ReduceL1": "reduce_l1_norm", "ReduceL2": "reduce_l2_norm", "ReduceMax": "reduce_max"}
_SAME |= {"ReduceMean": "reduce_mean", "ReduceMin": "reduce_min", "ReduceProd": "reduce_prod"}
_SAME |= {"ReduceSum": "reduce_sum", "ReduceSumSquare": "reduce_sum_square", "ReduceLogSumExp": "reduce_log_sum_exp"}
_WHOLE = {"ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd"}
"""What is exact for integers too."""


@OPS(*_SAME, "ReduceLogSum", since=13)
def reduce(emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int) -> Var:
    assert emit.node is not None
    op = emit.node.op_type
    along = [] if axes is None else emit.ints(axes, "axes")
    if not along and noop_with_empty_axes:
        if op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean"):
            return emit("identity", x=x)
        raise Refusal("no axes, where it is not said what is computed")
    if not emit.is_float(x) and op not in _WHOLE:
        raise Refusal(f"of {emit.kind(x).name.lower()}")
    if 0 in emit.shape(x):
        raise Refusal("a tensor without elements")
    keep = bool(keepdims)
    everything = sorted(a % emit.rank(x) for a in along) or list(range(emit.rank(x)))
    if not everything:
        return _of_one(emit, op, x)
    if emit.kind(x) == ir.DataType.BOOL:
        numbers = emit.cast(emit.var(x), "int32")
        return emit.cast(emit(_SAME[op], x=numbers, axes=everything, keep_dims=keep), "bool")
    if op == "ReduceLogSum":
        total = emit("reduce_sum", x=emit.floats(x), axes=everything, keep_dims=keep)
        return emit("log", x=total, epsilon=emit.number(x, 0))
    if op == "ReduceLogSumExp":
        return _log_sum_exp(emit, x, everything, keep)
    return emit(_SAME[op], x=x, axes=everything, keep_dims=keep)


def _of_one(emit: Emitter, op: str, x: ir.Value) -> Var:
    """Of one number."""
    if op in ("ReduceL1", "ReduceL2"):
        return emit("abs", x=x)
    if op == "ReduceSumSquare":
        return emit("square", x=x)
    return emit("log", x=emit.floats(x), epsilon=emit.number(x, 0)) if op == "ReduceLogSum" else emit("identity", x=x)


def _log_sum_exp(emit: Emitter, x: ir.Value, axes: list[int], keep: bool) -> Var:
    """m + log(sum(exp(x - m))), m the largest, or 0 where that is infinite"""
    largest = emit("reduce_max", x=emit.floats(x), axes=axes, keep_dims=True)
    endless = emit("equal", x=emit("abs", x=largest), y=emit.number(x, np.inf))
    largest = emit.select(cond=endless, a=emit.number(x, 0), b=largest)
    total = emit("reduce_sum", x=emit("exp", x=emit("sub", x=x, y=largest)), axes=axes, keep_dims=True)
    result = emit("add", x=emit("log", x=total, epsilon=emit.number(x, 0)), y=largest)
    return result if keep else emit("squeeze", x=result, axes=axes)


@OPS("GlobalAveragePool", "GlobalMaxPool")
def global_pool(emit: Emitter, x: ir.Value) -> Var:
    assert emit.node is not None
    op = "reduce_mean" if emit.node.op_type == "GlobalAveragePool" else "reduce_max"
    return emit(op, x=emit.floats(x), axes=list(range(2, emit.rank(x))), keep_dims=True)


@OPS("GlobalLpPool")
def global_lp_pool(emit: Emitter, x: ir.Value, *, p: int) -> Var:
    axes = list(range(2, emit.rank(x)))
    if p in (1, 2):
        return emit(f"reduce_l{p}_norm", x=emit.floats(x), axes=axes, keep_dims=True)
    powers = emit("pow", x=emit("abs", x=emit.floats(x)), y=emit.number(x, p))
    total = emit("reduce_sum", x=powers, axes=axes, keep_dims=True)
    return emit("pow", x=total, y=emit.number(x, 1 / p))


@OPS("ArgMax", "ArgMin", since=13)
def arg(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Var:
    """The last of equal ones at i is the first of the reversed ones at size - 1 - i."""
    assert emit.node is not None
    op = f"reduce_{emit.node.op_type.lower()}"
    if not select_last_index:
        return emit(op, x=x, axis=axis, keep_dims=bool(keepdims))
    size = emit.shape(x)[axis]
    if not isinstance(size, int):
        raise Refusal("the last of equal ones along an open size")
    place = emit(op, x=emit("reverse", x=x, axes=[axis]), axis=axis, keep_dims=bool(keepdims))
    return emit("sub", x=np.int32(size - 1), y=place)


@OPS("CumSum", since=11)
def cumsum(emit: Emitter, x: ir.Value, axis: ir.Value, *, exclusive: int, reverse: int) -> Var:
    along = emit.ints(axis, "the axis")[0] % max(emit.rank(x), 1)
    return emit("cumsum", x=x, axis=along, exclusive=bool(exclusive), reverse=bool(reverse))


@OPS("TopK", since=11, outputs=2)
def topk(emit: Emitter, x: ir.Value, k: ir.Value, *, axis: int, largest: int, sorted: int) -> Any:
    count = emit.ints(k, "k")[0]
    emit.note("of equal numbers, Core ML may give the places of others than ONNX")
    found = emit("topk", x=x, k=count, axis=axis, ascending=not largest)
    return list(found)
