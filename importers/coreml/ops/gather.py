"""Gathers and scatters, one-hot vectors, diagonal bands."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
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


@op("random_categorical")
def random_categorical(mil: Mil, x: ir.Value, *, mode: str = "logits", size: int = 1, seed: int = -1) -> ir.Value:
    """Multinomial; other numbers than Core ML's, of the same distribution."""
    mil.one_of(mode, "logits", "probs")
    if mil.rank(x) < 1:
        raise Refusal("its input has no axes")
    _random(mil)
    logits = mil.op("Log", x) if mode == "probs" else x
    sizes = [mil.size(x, axis) for axis in range(mil.rank(x))]
    rows = mil.reshape(logits, [-1, sizes[-1]])
    y = mil.op("Multinomial", rows, sample_size=size, seed=_seed(seed), dtype=int(ir.DataType.INT32))
    return mil.reshape(y, [*sizes[:-1], size])


def _random(mil: Mil) -> None:
    mil.warn(f"{mil.name!r} gives random numbers: others than in Core ML, of the same distribution")


def _seed(seed: int) -> float | None:
    return float(seed) if seed >= 0 else None


def _template(mil: Mil, shape: ir.Value) -> ir.Value:
    """A tensor of a shape, of the type of the result."""
    zero = mil.builder.constant(np.zeros((), mil.result_type().numpy()), "zero")
    return mil.op("Expand", zero, mil.int64(shape))


@op("random_normal")
def random_normal(mil: Mil, shape: ir.Value, *, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> ir.Value:
    """RandomNormalLike, scaled and moved; other numbers than Core ML's, of the same distribution."""
    _random(mil)
    y = mil.op("RandomNormalLike", _template(mil, shape), mean=0.0, scale=1.0, seed=_seed(seed))
    # Not by its attributes: a deviation of 0 ends the process of ONNX Runtime.
    return mil.op("Add", mil.op("Mul", y, mil.scalar(stddev, y, "stddev")), mil.scalar(mean, y, "mean"))


@op("random_uniform")
def random_uniform(mil: Mil, shape: ir.Value, *, low: float = 0.0, high: float = 1.0, seed: int = -1) -> ir.Value:
    """RandomUniformLike; other numbers than Core ML's, of the same distribution."""
    _random(mil)
    return mil.op("RandomUniformLike", _template(mil, shape), low=low, high=high, seed=_seed(seed))


@op("random_bernoulli")
def random_bernoulli(mil: Mil, shape: ir.Value, *, prob: float = 0.5, seed: int = -1) -> ir.Value:
    """RandomUniformLike, below the probability; other numbers than Core ML's, of the same distribution."""
    _random(mil)
    uniform = mil.op("RandomUniformLike", _template(mil, shape), low=0.0, high=1.0, seed=_seed(seed))
    return mil.op("Less", uniform, mil.scalar(prob, uniform, "probability"))
