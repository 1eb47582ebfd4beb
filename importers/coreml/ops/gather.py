"""Gathers and scatters, one-hot vectors, diagonal bands."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from importers.coreml.context import Mil
from importers.coreml.table import op

__all__: list[str] = []


def _checked(mil: Mil, validate: bool) -> None:
    """With `validate_indices` Core ML raises at a bad index, and so does ONNX Runtime, but for negative ones."""
    if validate:
        mil.warn(f"{mil.name!r} raises in Core ML where an index is negative; here it counts from the end")


@op("gather")
def gather(
    mil: Mil,
    x: ir.Value,
    indices: ir.Value,
    *,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> ir.Value:
    """Gather; with batch_dims GatherND of the axis moved behind them."""
    _checked(mil, validate_indices)
    rank = mil.rank(x)
    along, places, count = mil.axis(axis, rank), mil.int64(indices), mil.rank(indices)
    if not batch_dims:
        return mil.op("Gather", x, places, axis=along)
    mil.require(0 < batch_dims <= along and batch_dims <= count, f"batch_dims {batch_dims} and axis {along}")
    first = [*range(batch_dims), along, *(axis for axis in range(batch_dims, rank) if axis != along)]
    y = mil.op("GatherND", mil.transpose(x, first), mil.unsqueeze(places, count), batch_dims=batch_dims)
    rest = list(range(count, rank - 1 + count - batch_dims))
    before = along - batch_dims
    return mil.transpose(y, [*range(batch_dims), *rest[:before], *range(batch_dims, count), *rest[before:]])


@op("gather_along_axis")
def gather_along_axis(
    mil: Mil, x: ir.Value, indices: ir.Value, *, axis: int = 0, validate_indices: bool = False
) -> ir.Value:
    """GatherElements."""
    _checked(mil, validate_indices)
    return mil.op("GatherElements", x, mil.int64(indices), axis=mil.axis(axis, mil.rank(x)))


@op("gather_nd")
def gather_nd(
    mil: Mil, x: ir.Value, indices: ir.Value, *, batch_dims: int = 0, validate_indices: bool = False
) -> ir.Value:
    """GatherND."""
    _checked(mil, validate_indices)
    return mil.op("GatherND", x, mil.int64(indices), batch_dims=batch_dims)


MODES = {"add": "add", "mul": "mul", "min": "min", "max": "max", "update": None, "sub": "add", "div": "mul"}


def _scatter(
    mil: Mil, kind: str, data: ir.Value, places: ir.Value, updates: ir.Value, mode: str, **more: int
) -> ir.Value:
    """ScatterND or ScatterElements; what is subtracted is added negated, what divides is multiplied before it does."""
    how = MODES[mil.one_of(mode, *MODES)]
    updates = mil.cast(updates, mil.dtype(data))
    if mode == "sub":
        updates = mil.op("Neg", updates)
    if mode == "div":
        ones = mil.op("Expand", mil.scalar(1, data, "one"), mil.op("Shape", data))
        return mil.op("Div", data, mil.op(kind, ones, places, updates, reduction=how, **more))
    return mil.op(kind, data, places, updates, reduction=how, **more)


@op("scatter_nd")
def scatter_nd(
    mil: Mil,
    data: ir.Value,
    indices: ir.Value,
    updates: ir.Value,
    *,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    """ScatterND."""
    _checked(mil, validate_indices)
    return _scatter(mil, "ScatterND", data, mil.int64(indices), updates, mode)


@op("scatter_along_axis")
def scatter_along_axis(
    mil: Mil,
    data: ir.Value,
    indices: ir.Value,
    updates: ir.Value,
    *,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    """ScatterElements."""
    _checked(mil, validate_indices)
    along = mil.axis(axis, mil.rank(data))
    return _scatter(mil, "ScatterElements", data, mil.int64(indices), updates, mode, axis=along)


@op("scatter")
def scatter(
    mil: Mil,
    data: ir.Value,
    indices: ir.Value,
    updates: ir.Value,
    *,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    """ScatterND, the axis moved to the front."""
    _checked(mil, validate_indices)
    rank, count = mil.rank(data), mil.rank(indices)
    along = mil.axis(axis, rank)
    places = mil.unsqueeze(mil.int64(indices), count)
    front = [along, *(axis for axis in range(rank) if axis != along)]
    new = [*range(along, along + count), *range(along), *range(along + count, rank - 1 + count)]
    y = _scatter(mil, "ScatterND", mil.transpose(data, front), places, mil.transpose(updates, new), mode)
    return mil.transpose(y, np.argsort(front).tolist())


@op("one_hot")
def one_hot(
    mil: Mil,
    indices: ir.Value,
    one_hot_vector_size: ir.Value,
    on_value: ir.Value | None = None,
    off_value: ir.Value | None = None,
    *,
    axis: int = -1,
) -> ir.Value:
    """OneHot, in a type that ONNX Runtime has it for."""
    kind = ir.DataType.FLOAT if mil.result_type() in (ir.DataType.FLOAT, ir.DataType.FLOAT16) else ir.DataType.INT64
    numbers = []
    for value, number in ((off_value, 0), (on_value, 1)):
        one = mil.builder.constant(np.array(number, kind.numpy()), "number") if value is None else mil.cast(value, kind)
        numbers.append(mil.reshape(one, [1]))
    depth = mil.reshape(mil.int64(one_hot_vector_size), [1])
    return mil.op("OneHot", mil.int64(indices), depth, mil.op("Concat", *numbers, axis=0), axis=axis)


@op("band_part")
def band_part(mil: Mil, x: ir.Value, *, lower: int = -1, upper: int = -1) -> ir.Value:
    """Trilu, twice; once or not at all where one side, or both, are kept."""
    if lower < 0 and upper < 0:
        return mil.op("Identity", x)
    if lower >= 0:
        x = mil.op("Trilu", x, mil.builder.constant(np.array(-lower, np.int64), "lower"), upper=1)
    if upper >= 0:
        x = mil.op("Trilu", x, mil.builder.constant(np.array(upper, np.int64), "upper"), upper=0)
    return x
