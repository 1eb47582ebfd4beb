"""What moves numbers and does not change them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer

__all__: list[str] = []


@layer("Flatten", param="flatten_param")
def flatten(caffe: Context, x: ir.Value, *, axis: int = 1, end_axis: int = -1) -> ir.Value:
    """Axes from `axis` to `end_axis` as one."""
    first, last, rank = caffe.axis(x, axis), caffe.axis(x, end_axis, "end_axis"), caffe.rank(x)
    caffe.require(first <= last, f"end_axis {end_axis} lies before axis {axis}")
    if first == 1 and last == rank - 1:
        return caffe.op("Flatten", x, axis=1)
    return _reshaped(caffe, x, first, last + 1, [-1])


@layer("Reshape", param="reshape_param")
def reshape(caffe: Context, x: ir.Value, *, shape: Any = None, axis: int = 0, num_axes: int = -1) -> ir.Value:
    """Axes from `axis` on, `num_axes` of them, as `shape`, where 0 takes a size over and -1 is what is left."""
    rank = caffe.rank(x)
    caffe.require(shape is not None, "it has no shape")
    first = axis if axis >= 0 else rank + axis + 1
    caffe.require(0 <= first <= rank, f"axis {axis} of a bottom with {rank} axes")
    caffe.require(num_axes >= -1, f"num_axes {num_axes} is none")
    end = rank if num_axes == -1 else first + num_axes
    caffe.require(end <= rank, f"num_axes {num_axes} from axis {first} of {rank}")
    dims = [int(size) for size in shape.dim]
    caffe.require(dims.count(-1) <= 1 and min([*dims, 0]) >= -1, f"the shape {dims} is none")
    return _reshaped(caffe, x, first, end, dims)


def _reshaped(caffe: Context, x: ir.Value, first: int, end: int, dims: Sequence[int]) -> ir.Value:
    """Axes `first` to `end` as `dims`; the others keep their sizes, which at most one of may be unknown."""
    sizes = caffe.shape(x)
    middle: list[int | None] = []
    for index, size in enumerate(dims):
        caffe.require(size != 0 or first + index < len(sizes), f"there is no size to take over at axis {first + index}")
        middle.append(sizes[first + index] if size == 0 else size)
    target: list[int | None] = [*sizes[:first], *middle, *sizes[end:]]
    if -1 in target and None not in sizes[first:end] and None not in middle:
        rest = math.prod(int(s or 0) for s in middle if s != -1)
        total = math.prod(int(s or 0) for s in sizes[first:end])
        caffe.require(rest > 0 and total % rest == 0, f"{total} numbers do not divide into {list(dims)}")
        target[target.index(-1)] = total // rest
    if None not in sizes and -1 not in target:
        caffe.require(
            math.prod(int(s or 0) for s in sizes) == math.prod(int(s or 0) for s in target),
            f"the shape {sizes} cannot become {target}",
        )
    # ONNX's 0 takes over the size at the same place; one size may be left to be found.
    written = [
        0 if size is None and place < len(sizes) and sizes[place] is None else -1 if size is None else size
        for place, size in enumerate(target)
    ]
    if first > 0:
        written[0] = 0  # the batch, whatever it is
    if written.count(-1) > 1:
        raise Refusal("several sizes of its bottom are not known", "give sizes of the inputs with inputs=")
    return caffe.reshape(x, [int(size) for size in written])


@layer("Permute", param="permute_param")
def permute(caffe: Context, x: ir.Value, *, order: Sequence[int] = ()) -> ir.Value:
    """SSD's: the axes in this order, those that are not named behind them."""
    rank = caffe.rank(x)
    caffe.require(len(set(order)) == len(order) and max([*order, 0]) < rank, f"order {list(order)} of {rank} axes")
    return caffe.op("Transpose", x, perm=[*order, *(axis for axis in range(rank) if axis not in order)])


@layer("Crop", param="crop_param")
def crop(caffe: Context, x: ir.Value, like: ir.Value, *, axis: int = 2, offset: Sequence[int] = ()) -> ir.Value:
    """From `axis` on as large as the second bottom."""
    rank, axis = caffe.rank(x), caffe.axis(x, axis)
    caffe.require(caffe.rank(like) == rank, f"its bottoms have {rank} and {caffe.rank(like)} axes")
    count = rank - axis
    caffe.require(len(offset) in (0, 1, count), f"{len(offset)} offset for {count} axes")
    starts = list(offset) * (count if len(offset) == 1 else 1) or [0] * count
    ends = []
    for place, start in zip(range(axis, rank), starts, strict=True):
        size = caffe.size(like, place)
        if caffe.shape(x)[place] is not None:
            caffe.require(start + size <= caffe.size(x, place), f"{size} from {start} do not lie in axis {place}")
        ends.append(start + size)
    axes = list(range(axis, rank))
    return caffe.op("Slice", x, caffe.ints(starts, "start"), caffe.ints(ends, "end"), caffe.ints(axes, "axes"))


@layer("Tile", param="tile_param")
def tile(caffe: Context, x: ir.Value, *, axis: int = 1, tiles: int = 0) -> ir.Value:
    caffe.require(tiles > 0, "tiles is 1 or more")
    repeats = [1] * caffe.rank(x)
    repeats[caffe.axis(x, axis)] = tiles
    return caffe.op("Tile", x, caffe.ints(repeats, "repeats"))


@layer("Reduction", param="reduction_param")
def reduction(caffe: Context, x: ir.Value, *, operation: str = "SUM", axis: int = 0, coeff: float = 1.0) -> ir.Value:
    """Over all axes from `axis` on."""
    types = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    axes = caffe.ints(list(range(caffe.axis(x, axis), caffe.rank(x))), "axes")
    y = caffe.op(types[operation], x, axes, keepdims=0)
    return y if coeff == 1 else caffe.op("Mul", y, caffe.constant(coeff, "coeff"))


@layer("DummyData", param="dummy_data_param")
def dummy_data(
    caffe: Context,
    *,
    data_filler: Sequence[Any] = (),
    shape: Sequence[Any] = (),
    num: Sequence[int] = (),
    channels: Sequence[int] = (),
    height: Sequence[int] = (),
    width: Sequence[int] = (),
) -> list[ir.Value]:
    """Constant numbers; random ones are refused."""
    count = caffe.tops
    caffe.require(len(data_filler) in (0, 1, count), f"{len(data_filler)} data_filler for {count} tops")
    legacy = list(zip(num, channels, height, width, strict=False))
    sizes = [list(entry.dim) for entry in shape] or [list(entry) for entry in legacy]
    caffe.require(len(sizes) in (1, count), f"{len(sizes)} shapes for {count} tops")
    results = []
    for index in range(count):
        dims = sizes[0 if len(sizes) == 1 else index]
        caffe.require(min([*dims, 1]) > 0 and math.prod(dims) < 1 << 31, f"the shape {dims} is none")
        filler = data_filler[0 if len(data_filler) == 1 else index] if data_filler else None
        if filler is not None and filler.type != "constant":
            raise Refusal(f"it gives random numbers ({filler.type[:40]})", "make it an Input layer")
        value = np.float32(0 if filler is None else filler.value)
        results.append(caffe.op("Expand", caffe.constant(value, "value"), caffe.ints(dims, "shape")))
    return results


@layer("Parameter", param="parameter_param")
def parameter(caffe: Context, *, shape: Any = None) -> ir.Value:
    """A blob of weights by itself."""
    dims = list(shape.dim) if shape is not None else []
    caffe.require(min([*dims, 1]) > 0, f"the shape {dims} is none")
    return caffe.weights(weight=dims)["weight"]
