"""Picking and placing by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


def within(emit: Emitter, x: ir.Value, indices: ir.Value, axis: int) -> Any:
    """Indices of which none is negative, which not every version of Core ML takes."""
    size, array = emit.shape(x)[axis], emit.array(indices)
    if array is not None:
        if (array >= 0).all():
            return indices
        if isinstance(size, int):
            return np.where(array < 0, array + size, array).astype(np.int32)
    whole: Any
    if isinstance(size, int):
        whole = np.int32(size)
    else:
        at = axis % emit.rank(x)
        whole = emit("slice_by_index", x=emit.sizes(x), begin=[at], end=[at + 1], squeeze_mask=[True])
    below = emit("less", x=indices, y=np.int32(0))
    return emit.select(cond=below, a=emit("add", x=indices, y=whole), b=indices)


@OPS("Gather")
def gather(emit: Emitter, x: ir.Value, indices: ir.Value, *, axis: int) -> Var:
    places, var = within(emit, x, indices, axis), emit.var(x)
    if not emit.program and emit.rank(indices) == 0:  # it keeps the axis of a single index
        rows = emit("gather", x=var, indices=emit("reshape", x=places, shape=[1]), axis=axis)
        return emit("squeeze", x=rows, axes=[axis])
    if emit.kind(x) == ir.DataType.BOOL:
        return emit.cast(emit("gather", x=emit.cast(var, "int32"), indices=places, axis=axis), "bool")
    return emit("gather", x=var, indices=places, axis=axis)


@OPS("GatherElements")
def gather_elements(emit: Emitter, x: ir.Value, indices: ir.Value, *, axis: int) -> Var:
    """Where the indices are not as long as the data along the other axes, those are cut."""
    sizes, wanted = emit.shape(x), emit.shape(indices)
    at = axis % len(sizes)
    data = emit.var(x)
    if any(a != b for i, (a, b) in enumerate(zip(sizes, wanted, strict=True)) if i != at):
        end = [0 if i == at else n for i, n in enumerate(emit.static(indices))]
        data = emit(
            "slice_by_index", x=data, begin=[0] * len(end), end=end, end_mask=[i == at for i in range(len(end))]
        )  # fmt: skip
    return emit("gather_along_axis", x=data, indices=within(emit, x, indices, axis), axis=axis)


def _nd(emit: Emitter, x: ir.Value, indices: ir.Value, batch: int) -> Any:
    """Index tuples of which no entry is negative."""
    count = emit.shape(indices)[-1]
    if not isinstance(count, int):
        raise Refusal("index tuples of unknown length")
    sizes = emit.shape(x)[batch : batch + count]
    array = emit.array(indices)
    if array is not None and (array >= 0).all():
        return indices
    if not all(isinstance(size, int) for size in sizes):
        raise Refusal("indices that may be negative, into open sizes")
    whole = np.array(sizes, np.int32)
    if array is not None:
        return np.where(array < 0, array + whole, array).astype(np.int32)
    return emit.select(cond=emit("less", x=indices, y=np.int32(0)), a=emit("add", x=indices, y=whole), b=indices)


@OPS("GatherND", since=12)
def gather_nd(emit: Emitter, x: ir.Value, indices: ir.Value, *, batch_dims: int) -> Var:
    """Where Core ML knows no batch axes, their coordinates are put before the indices."""
    places = _nd(emit, x, indices, batch_dims)
    if batch_dims and emit.program and emit.version >= BATCHES:
        return emit("gather_nd", x=x, indices=places, batch_dims=batch_dims)
    if batch_dims:
        shape = emit.static(indices)
        grid = np.moveaxis(np.indices([*shape[:-1], 1], np.int32)[:batch_dims, ..., 0], 0, -1)
        places = emit("concat", values=[emit.var_of(np.ascontiguousarray(grid)), places], axis=-1)
    return emit("gather_nd", x=x, indices=places)


BATCHES = 7
"""The version (iOS16) with which gather_nd takes batch axes."""

_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@OPS("ScatterElements", since=18)
def scatter_elements(
    emit: Emitter, x: ir.Value, indices: ir.Value, updates: ir.Value, *, axis: int, reduction: str
) -> Var:
    """Where there are fewer updates than the data is long along the other axes, each has its whole coordinates."""
    sizes, wanted, places = emit.shape(x), emit.shape(indices), within(emit, x, indices, axis)
    at, mode = axis % len(sizes), _MODES[reduction]
    if all(a == b for i, (a, b) in enumerate(zip(sizes, wanted, strict=True)) if i != at):
        return emit("scatter_along_axis", data=x, indices=places, updates=updates, axis=axis, mode=mode)
    grid = np.indices(emit.static(indices), np.int32)
    values = [places if i == at else emit.var_of(grid[i]) for i in range(len(sizes))]
    return emit("scatter_nd", data=x, indices=emit("stack", values=values, axis=-1), updates=updates, mode=mode)


@OPS("ScatterND", since=18)
def scatter_nd(emit: Emitter, x: ir.Value, indices: ir.Value, updates: ir.Value, *, reduction: str) -> Var:
    return emit("scatter_nd", data=x, indices=_nd(emit, x, indices, 0), updates=updates, mode=_MODES[reduction])


@OPS("OneHot", since=11)
def one_hot(emit: Emitter, indices: ir.Value, depth: ir.Value, values: ir.Value, *, axis: int) -> Var:
    """on where the index, counted from the end if it is negative, is that of the entry; nothing for others."""
    count, levels = emit.ints(depth, "the depth")[0], emit.array(values)
    if levels is None or emit.mil(values) == "bool":
        raise Refusal("levels that are computed at run time, or logical")
    rank = emit.rank(indices) + 1
    at = axis % rank
    places = emit("expand_dims", x=emit.cast(emit.var(indices), "int32"), axes=[at])
    shape = [count if i == at else 1 for i in range(rank)]
    entries = np.arange(count, dtype=np.int32).reshape(shape)
    turned = emit.select(cond=emit("less", x=places, y=np.int32(0)), a=emit("add", x=places, y=np.int32(count)),
                  b=places)  # fmt: skip
    off, on = (emit.number(values, level) for level in levels.reshape(-1))
    return emit.select(cond=emit("equal", x=turned, y=entries), a=on, b=off)


@OPS("NonZero", since=9)
def non_zero(emit: Emitter, x: ir.Value) -> Var:
    var = emit.cast(emit.var(x), "int32") if emit.mil(x) == "bool" else emit.var(x)
    return emit("transpose", x=emit("non_zero", x=var), perm=[1, 0])


@OPS("Compress", since=9)
def compress(emit: Emitter, x: ir.Value, condition: ir.Value, *, axis: int | None) -> Var:
    """The entries, along an axis or of the flat tensor, at the places where the condition holds."""
    data = emit.var(x) if axis is not None else emit("reshape", x=x, shape=np.array([-1], np.int32))
    places = emit("non_zero", x=emit.cast(emit.var(condition), "int32"))
    flat = emit("squeeze", x=places, axes=[1])
    return emit("gather", x=data, indices=flat, axis=axis or 0)


@OPS("Range", since=11)
def range_(emit: Emitter, start: ir.Value, limit: ir.Value, delta: ir.Value) -> Var:
    return emit("range_1d", start=start, end=limit, step=delta)


@OPS("ConstantOfShape", since=9)
def constant_of_shape(emit: Emitter, shape: ir.Value, *, value: Any) -> Var:
    number = np.zeros(1, np.float32) if value is None else value.numpy()
    kinds = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "int64": np.int32, "bool": np.bool_}
    if number.dtype.name not in kinds:
        raise Refusal(f"of {number.dtype.name}")
    return emit("fill", shape=shape, value=kinds[number.dtype.name](number.reshape(-1)[0]))


@OPS("EyeLike", since=9)
def eye_like(emit: Emitter, x: ir.Value, *, dtype: int | None, k: int) -> Var:
    rows, columns = emit.static(x)
    kind = emit.node.outputs[0].dtype if emit.node is not None else None
    kinds = {ir.DataType.FLOAT: np.float32, ir.DataType.FLOAT16: np.float16, ir.DataType.BOOL: np.bool_}
    kinds |= {ir.DataType.INT32: np.int32, ir.DataType.INT64: np.int32}
    if kind not in kinds:
        raise Refusal("of a type that Core ML does not have")
    return emit("identity", x=np.eye(rows, columns, k, dtype=kinds[kind]))


@OPS("Trilu", since=14)
def trilu(emit: Emitter, x: ir.Value, k: ir.Value | None, *, upper: int) -> Var:
    """x where the mask of ones holds."""
    rows, columns = emit.shape(x)[-2:]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise Refusal("open sizes")
    offset = 0 if k is None else emit.ints(k, "k")[0]
    ones = np.ones((rows, columns), np.bool_)
    mask = np.triu(ones, offset) if upper else np.tril(ones, offset)
    if emit.kind(x) == ir.DataType.BOOL:
        return emit("logical_and", x=x, y=mask)
    return emit.select(cond=mask, a=x, b=emit.number(x, 0))


@OPS("ReverseSequence", since=10)
def reverse_sequence(emit: Emitter, x: ir.Value, lengths: ir.Value, *, batch_axis: int, time_axis: int) -> Var:
    return emit("reverse_sequence", x=x, lengths=lengths, seq_axis=time_axis, batch_axis=batch_axis)
