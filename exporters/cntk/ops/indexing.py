"""Operators that pick elements by their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.cntk.emit import Emitter
from exporters.cntk.functions import (
    binary,
    gather,
    matrix_times,
    pad,
    plus,
    reshape,
    select,
    slices,
    splice,
    times,
    transpose,
)
from exporters.cntk.net import Group, Tensor, Variable
from exporters.cntk.ops.table import OPS
from exporters.constants import Array, Constant
from hub.errors import Refusal

__all__ = ["along", "counter", "picked", "reversed_axis"]


@OPS("Slice")
def slice_(
    emit: Emitter, x: ir.Value, starts: ir.Value, ends: ir.Value, axes: ir.Value | None, steps: ir.Value | None
) -> Tensor:
    """C.slice."""
    source = emit.tensor(x)
    first, last = emit.ints(starts, "where it starts"), emit.ints(ends, "where it ends")
    along = list(range(len(first))) if axes is None else emit.ints(axes, "its axes")
    by = [1] * len(first) if steps is None else emit.ints(steps, "its steps")
    v = source.variable
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        size = source.shape[axis % source.rank]
        if axis % source.rank == source.at:
            if step == 1 and start == 0 and end >= (1 << 31) - 1:
                continue
            raise Refusal("it works along the batch", "CNTK computes sample by sample")
        begin, stop, stride = slice(start, end, step).indices(emit.fixed([size])[0])
        indices = list(range(begin, stop, stride))
        if not indices:
            raise Refusal("a tensor without elements")
        place = emit.axis(source, axis)
        v = slices(emit, v, place, min(indices), max(indices) + 1, stride)
    return emit.like(source, v)


def picked(emit: Emitter, v: Variable, axis: int, indices: Sequence[int]) -> Variable:
    """Entries of an axis by constant numbers; C.gather takes no data with a batch.

    Entries that are each repeated as often are a product with ones; rows of equal steps are slices; a few of them
    are put together by C.splice, many are a product with a matrix of zeros and ones.
    """
    size, count = emit.fixed([v.shape[axis]])[0], len(indices)
    if list(indices) == list(range(size)):
        return v
    if count > size and count % size == 0 and list(indices) == [i // (count // size) for i in range(count)]:
        return _stretched(emit, v, axis, count // size)
    rows = _rows(indices)
    if len(rows) <= _PIECES:
        return splice(emit, [_row(emit, v, axis, row) for row in rows], axis)
    if not v.batch:
        order = [axis, *(a for a in range(v.rank) if a != axis)]
        wanted = Constant.of(np.array(indices, np.float32))
        numbers = emit.weight(wanted, Group(emit.layer, "gather"), f"indices{axis}", trains=False)
        moved = gather(emit, transpose(emit, v, order), numbers)
        return transpose(emit, moved, [order.index(a) for a in range(v.rank)])
    return along(emit, v, axis, np.eye(size, dtype=np.float32)[list(indices)], "gather")


_PIECES = 16


def _stretched(emit: Emitter, v: Variable, axis: int, times_: int) -> Variable:
    """Every entry so many times."""
    ones = Constant.of(np.ones([times_, *[1] * (v.rank - axis - 1)], np.float32))
    weight = emit.weight(ones, Group(emit.layer, "stretch"), f"ones{axis}", trains=False)
    opened = reshape(emit, v, (*v.shape[: axis + 1], 1, *v.shape[axis + 1 :]))
    size = emit.fixed([v.shape[axis]])[0]
    return reshape(emit, times(emit, opened, weight), (*v.shape[:axis], size * times_, *v.shape[axis + 1 :]))


def _rows(indices: Sequence[int]) -> list[list[int]]:
    """The numbers in rows of equal steps, none of them 0."""
    rows: list[list[int]] = []
    for index in indices:
        row = rows[-1] if rows else []
        if (len(row) == 1 and index != row[0]) or (len(row) > 1 and index - row[-1] == row[1] - row[0]):
            row.append(index)
        else:
            rows.append([index])
    return rows


def _row(emit: Emitter, v: Variable, axis: int, row: Sequence[int]) -> Variable:
    step = row[1] - row[0] if len(row) > 1 else 1
    return slices(emit, v, axis, min(row), max(row) + 1, step)


def along(emit: Emitter, v: Variable, axis: int, matrix: Array, role: str) -> Variable:
    """The product of an axis with a matrix (new, old)."""
    order = [*(a for a in range(v.rank) if a != axis), axis]
    columns = Constant.of(np.ascontiguousarray(matrix.T, np.float32))
    weight = emit.weight(columns, Group(emit.layer, role), f"matrix{axis}", trains=False)
    result = matrix_times(emit, transpose(emit, v, order), weight)
    return transpose(emit, result, [order.index(a) for a in range(v.rank)])


def reversed_axis(emit: Emitter, v: Variable, axis: int) -> Variable:
    """The axis backwards."""
    return slices(emit, v, axis, 0, emit.fixed([v.shape[axis]])[0], -1)


@OPS("Split", outputs=1 << 20)
def split(emit: Emitter, x: ir.Value, sizes: ir.Value | None, *, axis: int, num_outputs: int | None) -> list[Tensor]:
    """C.slice for each part."""
    source = emit.tensor(x)
    place = emit.axis(source, axis)
    assert emit.node is not None
    total = emit.fixed([source.shape[axis % source.rank]])[0]
    count = len(emit.node.outputs)
    chunk = -(-total // count)
    parts = [chunk] * (count - 1) + [total - chunk * (count - 1)] if sizes is None else emit.ints(sizes, "its sizes")
    ends = np.cumsum(parts)
    if any(part <= 0 for part in parts):
        raise Refusal("a tensor without elements")
    return [
        emit.like(source, slices(emit, source.variable, place, int(end) - part, int(end)))
        for end, part in zip(ends, parts, strict=True)
    ]


@OPS("Gather")
def gather_(emit: Emitter, data: ir.Value, indices: ir.Value, *, axis: int) -> Tensor:
    """C.gather; of an axis of size n, -1 is n - 1."""
    source, wanted = emit.tensor(data), emit.constant(indices)
    place = emit.axis(source, axis)
    v = source.variable
    size = emit.fixed([v.shape[place]])[0]
    if wanted is not None:
        numbers = [int(i) % size for i in wanted.numpy().reshape(-1)]
        if not numbers:
            raise Refusal("a tensor without elements")
        v = picked(emit, v, place, numbers)
        v = reshape(emit, v, (*v.shape[:place], *wanted.shape, *v.shape[place + 1 :]))
        at = source.at
        if at is not None and axis % source.rank < at:
            at += len(wanted.shape) - 1
        return Tensor(v, at, source.size)
    where = emit.tensor(indices)
    if source.at is not None:
        raise Refusal("both its data and its indices are computed")
    if indices.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        raise Refusal("indices of another type")
    entries = where.variable
    entries = select(emit, binary(emit, "Less", entries, 0.0), plus(emit, entries, float(size)), entries)
    order = [place, *(a for a in range(v.rank) if a != place)]
    moved = gather(emit, transpose(emit, v, order), entries)
    count = entries.rank
    back = [count + i for i in range(place)], list(range(count)), [count + i for i in range(place, v.rank - 1)]
    result = transpose(emit, moved, [axis for part in back for axis in part])
    return Tensor(result, None if where.at is None else place + where.at, where.size)


def counter(emit: Emitter, v: Variable, axis: int) -> Variable:
    """0, 1, 2, ... along an axis."""
    count = emit.fixed([v.shape[axis]])[0]
    numbers = np.arange(count, dtype=np.float32).reshape([count if a == axis else 1 for a in range(v.rank)])
    return emit.weight(Constant.of(numbers), Group(emit.layer, "numbers"), "numbers", trains=False)


@OPS("Pad")
def pad_(
    emit: Emitter, x: ir.Value, pads: ir.Value, value: ir.Value | None, axes: ir.Value | None, *, mode: str
) -> Tensor:
    """C.pad; at an edge, copies by C.splice; negative, C.slice."""
    source = emit.tensor(x)
    given = emit.ints(pads, "its pads")
    along = list(range(source.rank)) if axes is None else [a % source.rank for a in emit.ints(axes, "its axes")]
    by_axis = dict(zip(along, zip(given[: len(along)], given[len(along) :], strict=True), strict=True))
    if source.at is not None and by_axis.pop(source.at, (0, 0)) != (0, 0):
        raise Refusal("it works along the batch", "CNTK computes sample by sample")
    v = source.variable
    ends = [(0, 0)] * v.rank
    for axis, pair in by_axis.items():
        ends[emit.axis(source, axis)] = pair
    for place, (before, behind) in enumerate(ends):
        size = emit.fixed([v.shape[place]])[0]
        first, end = max(0, -before), size - max(0, -behind)
        if first >= end:
            raise Refusal("it cuts off all that there is")
        v = slices(emit, v, place, first, end)
    ends = [(max(0, before), max(0, behind)) for before, behind in ends]
    if mode == "constant":
        fill = 0.0 if value is None else emit.scalar(value, "its value")
        return emit.like(source, pad(emit, v, ends, fill))
    for place, (before, behind) in enumerate(ends):
        if before or behind:
            v = _continued(emit, v, place, before, behind, mode)
    return emit.like(source, v)


def _continued(emit: Emitter, v: Variable, axis: int, before: int, behind: int, mode: str) -> Variable:
    """An axis with its edge, its reflection or itself around it."""
    size = emit.fixed([v.shape[axis]])[0]
    if mode == "reflect" and max(before, behind) < size:
        return pad(emit, v, [(before, behind) if a == axis else (0, 0) for a in range(v.rank)], mode=1)
    kinds = {"edge": "edge", "wrap": "wrap", "reflect": "reflect"}
    if mode not in kinds:
        raise Refusal(f"padding by {mode!r}")
    order = np.pad(np.arange(size), (before, behind), mode=kinds[mode])  # type: ignore[call-overload]
    return picked(emit, v, axis, [int(i) for i in order])
