"""What moves numbers without changing them: reshapes, slices, paddings, joins, blocks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import FAR, OPEN, Mil, Size
from importers.coreml.table import Bools, Ints, Values, op

__all__: list[str] = []


@op("shape")
def shape(mil: Mil, x: ir.Value) -> ir.Value:
    """Shape."""
    return mil.op("Shape", x)


@op("reshape")
def reshape(mil: Mil, x: ir.Value, shape: ir.Value) -> ir.Value:
    """Reshape; where it counts zeros from the last axis, with the sizes that they stand for."""
    known = mil.known(shape)
    if known is None:
        if mil.sizes(shape) == [mil.rank(x)]:
            return mil.op("Reshape", x, mil.int64(shape))
        raise_zero = mil.op("Reshape", x, mil.int64(shape), allowzero=1)
        mil.warn(f"{mil.name!r} reshapes to a computed shape: a 0 in it is taken for an empty axis")
        return raise_zero
    numbers = known.reshape(-1).tolist()
    rank, count = mil.rank(x), len(numbers)
    if 0 not in numbers or count == rank:
        return mil.op("Reshape", x, mil.ints(numbers, "shape"))
    places = [i + rank - count for i in range(count)]
    sizes: list[Size] = [
        number or (mil.size(x, place) if place >= 0 else 1) for number, place in zip(numbers, places, strict=True)
    ]
    return mil.reshape(x, sizes)


@op("reshape_like")
def reshape_like(mil: Mil, x: ir.Value, ref_tensors: Values, *, begins: Ints, ends: Ints, end_masks: Bools) -> ir.Value:
    """Reshape to sizes of other values."""
    mil.require(len(ref_tensors) == len(begins) == len(ends) == len(end_masks), "its lists are of different lengths")
    parts = [
        mil.op("Shape", ref, start=begin, end=None if open_end else end)
        for ref, begin, end, open_end in zip(ref_tensors, begins, ends, end_masks, strict=True)
    ]
    return mil.op("Reshape", x, mil.op("Concat", *parts, axis=0), allowzero=1)


@op("transpose")
def transpose(mil: Mil, x: ir.Value, *, perm: Ints) -> ir.Value:
    """Transpose."""
    return mil.op("Transpose", x, perm=[mil.axis(axis, mil.rank(x)) for axis in perm] or None)


@op("expand_dims")
def expand_dims(mil: Mil, x: ir.Value, *, axes: Ints) -> ir.Value:
    """Unsqueeze."""
    return mil.unsqueeze(x, *axes)


@op("squeeze")
def squeeze(mil: Mil, x: ir.Value, *, axes: Ints | None = None) -> ir.Value:
    """Squeeze; of all sizes that are 1 where no axes are given."""
    if axes is not None:
        return mil.squeeze(x, *axes)
    return mil.squeeze(x, *[axis for axis, size in enumerate(mil.fixed(x)) if size == 1])


@op("flatten2d")
def flatten2d(mil: Mil, x: ir.Value, *, axis: int = 1) -> ir.Value:
    """Flatten."""
    return mil.op("Flatten", x, axis=axis)


@op("concat")
def concat(mil: Mil, values: Values, *, axis: int, interleave: bool = False) -> ir.Value:
    """Concat; a number without axes is a list of one. Interleaved: a Concat along a new axis behind it, joined."""
    parts = [mil.unsqueeze(value, 0) if mil.rank(value) == 0 else value for value in mil.alike(*values)]
    along = mil.axis(axis, mil.rank(parts[0]))
    if not interleave:
        return mil.op("Concat", *parts, axis=along)
    sizes = [mil.size(parts[0], i) for i in range(mil.rank(parts[0]))]
    sizes[along] = mil.times(sizes[along], len(parts))
    joined = mil.op("Concat", *[mil.unsqueeze(part, along + 1) for part in parts], axis=along + 1)
    return mil.reshape(joined, sizes)


@op("stack")
def stack(mil: Mil, values: Values, *, axis: int) -> ir.Value:
    """Concat along a new axis."""
    along = mil.axis(axis, mil.rank(values[0]) + 1)
    return mil.op("Concat", *[mil.unsqueeze(value, along) for value in mil.alike(*values)], axis=along)


@op("split")
def split(
    mil: Mil, x: ir.Value, *, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> Values:
    """Split."""
    along, count = mil.axis(axis, mil.rank(x)), len(mil.types)
    if split_sizes is not None:
        mil.require(len(split_sizes) == count, f"{count} results, and {len(split_sizes)} sizes")
        if num_splits is not None and num_splits != count:
            raise Refusal(f"it says {num_splits} results, and has {count}")
        return mil.ops("Split", x, mil.ints(list(split_sizes), "sizes"), outputs=count, axis=along)
    mil.require(num_splits == count, f"{count} results, and num_splits is {num_splits}")
    size = mil.sizes(x)[along]
    mil.require(size is None or size % count == 0, f"{size} numbers in {count} equal parts")
    return mil.ops("Split", x, outputs=count, axis=along, num_outputs=count)


@op("tile")
def tile(mil: Mil, x: ir.Value, reps: ir.Value) -> ir.Value:
    """Tile."""
    return mil.op("Tile", x, mil.int64(reps))


@op("fill")
def fill(mil: Mil, shape: ir.Value, value: ir.Value | None = None) -> ir.Value:
    """Expand of one number."""
    return mil.op("Expand", _number(mil, value), mil.int64(shape))


@op("fill_like")
def fill_like(mil: Mil, ref_tensor: ir.Value, value: ir.Value | None = None) -> ir.Value:
    """Expand of one number to the size of another value."""
    return mil.op("Expand", _number(mil, value), mil.op("Shape", ref_tensor))


def _number(mil: Mil, value: ir.Value | None) -> ir.Value:
    if value is not None:
        mil.require(mil.rank(value) == 0, "its value is not one number")
        return value
    return mil.builder.constant(np.zeros((), mil.result_type().numpy()), "zero")


@op("range_1d")
def range_1d(mil: Mil, end: ir.Value, start: ir.Value, step: ir.Value) -> ir.Value:
    """Range."""
    return mil.op("Range", *mil.alike(start, end, step))


@op("pad")
def pad(mil: Mil, x: ir.Value, pad: ir.Value, *, mode: str = "constant", constant_val: float = 0.0) -> ir.Value:
    """Pad of the last axes."""
    kind = {"constant": None, "reflect": "reflect", "replicate": "edge"}[
        mil.one_of(mode, "constant", "reflect", "replicate")
    ]
    (count,) = mil.fixed(pad)
    rank = mil.rank(x)
    mil.require(count % 2 == 0 and count // 2 <= rank, f"a padding of {count} numbers for {rank} axes")
    known = mil.known(pad)
    if known is not None:
        numbers = known.tolist()
        mil.require(min(numbers, default=0) >= 0, "a negative padding")
        around = mil.ints([*numbers[0::2], *numbers[1::2]], "pads")
    else:
        pairs = mil.op("Transpose", mil.reshape(mil.int64(pad), [count // 2, 2]), perm=[1, 0])
        around = mil.reshape(pairs, [count])
    number = mil.scalar(constant_val, x, "value") if kind is None else None
    return mil.op("Pad", x, around, number, mil.ints(list(range(rank - count // 2, rank)), "axes"), mode=kind)


@op("reverse")
def reverse(mil: Mil, x: ir.Value, *, axes: Ints | None = None) -> ir.Value:
    """Slice with steps of -1."""
    along = [mil.axis(axis, mil.rank(x)) for axis in (range(mil.rank(x)) if axes is None else axes)]
    count = len(along)
    begins, ends = mil.ints([-1] * count, "begins"), mil.ints([-FAR - 1] * count, "ends")
    return mil.op("Slice", x, begins, ends, mil.ints(along, "axes"), mil.ints([-1] * count, "steps"))


@op("reverse_sequence")
def reverse_sequence(mil: Mil, x: ir.Value, lengths: ir.Value, *, seq_axis: int = 0, batch_axis: int = 0) -> ir.Value:
    """ReverseSequence, with the two axes moved to the front where they are elsewhere."""
    rank = mil.rank(x)
    time, batch = mil.axis(seq_axis, rank), mil.axis(batch_axis, rank)
    mil.require(time != batch, "the axis of the sequence is that of the batch")
    perm = [time, batch, *[axis for axis in range(rank) if axis not in (time, batch)]]
    if {time, batch} == {0, 1}:
        return mil.op("ReverseSequence", x, mil.int64(lengths), batch_axis=batch, time_axis=time)
    y = mil.op("ReverseSequence", mil.transpose(x, perm), mil.int64(lengths), batch_axis=1, time_axis=0)
    return mil.transpose(y, np.argsort(perm).tolist())


@op("sliding_windows")
def sliding_windows(mil: Mil, x: ir.Value, *, axis: int, size: int, stride: int = 1) -> ir.Value:
    """Gather of windows along an axis, each of which gets an axis of its own."""
    along = mil.axis(axis, mil.rank(x))
    count = mil.sizes(x)[along]
    if count is None:
        raise Refusal("the size of its axis is open", OPEN)
    mil.require(0 < size <= count and stride > 0 and count < 1 << 20, f"windows of {size}, each {stride}")
    begins = np.arange(0, count - size + 1, stride)
    places = mil.builder.constant(begins[:, None] + np.arange(size)[None], "places")
    return mil.op("Gather", x, places, axis=along)


@op("crop")
def crop(mil: Mil, x: ir.Value, *, crop_height: Ints, crop_width: Ints) -> ir.Value:
    """Slice of the last two axes."""
    mil.require(len(crop_height) == len(crop_width) == 2, "crops of two numbers each")
    begins = mil.ints([crop_height[0], crop_width[0]], "begins")
    ends = mil.ints([-crop_height[1] or FAR, -crop_width[1] or FAR], "ends")
    rank = mil.rank(x)
    return mil.op("Slice", x, begins, ends, mil.ints([rank - 2, rank - 1], "axes"))


# -- blocks ------------------------------------------------------------------------------------------------------------


@op("depth_to_space")
def depth_to_space(mil: Mil, x: ir.Value, *, block_size: int) -> ir.Value:
    """DepthToSpace, DCR."""
    return mil.op("DepthToSpace", x, blocksize=block_size, mode="DCR")


@op("pixel_shuffle")
def pixel_shuffle(mil: Mil, x: ir.Value, *, upscale_factor: int) -> ir.Value:
    """DepthToSpace, CRD."""
    return mil.op("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@op("space_to_depth")
def space_to_depth(mil: Mil, x: ir.Value, *, block_size: int) -> ir.Value:
    """SpaceToDepth."""
    return mil.op("SpaceToDepth", x, blocksize=block_size)


@op("pixel_unshuffle")
def pixel_unshuffle(mil: Mil, x: ir.Value, *, downscale_factor: int) -> ir.Value:
    """Reshape, Transpose, Reshape: channels count before the places in a block, other than in SpaceToDepth."""
    f = downscale_factor
    mil.require(f > 0 and mil.rank(x) == 4, f"a factor of {f}")
    n, c, h, w = (mil.size(x, axis) for axis in range(4))
    h, w = mil.over(h, f), mil.over(w, f)
    y = mil.transpose(mil.reshape(x, [n, c, h, f, w, f]), [0, 1, 3, 5, 2, 4])
    return mil.reshape(y, [n, mil.times(c, f * f), h, w])


@op("space_to_batch")
def space_to_batch(mil: Mil, x: ir.Value, *, block_shape: Ints, paddings: Ints) -> ir.Value:
    """Pad, Reshape, Transpose, Reshape."""
    rank, count = mil.rank(x), len(block_shape)
    mil.require(len(paddings) == 2 * count and rank == count + 2 and min(block_shape) > 0, "its blocks do not fit")
    axes = list(range(2, rank))
    if any(paddings):
        around = mil.ints([*paddings[0::2], *paddings[1::2]], "pads")
        x = mil.op("Pad", x, around, mil.scalar(0, x, "zero"), mil.ints(axes, "axes"))
    n, c = mil.size(x, 0), mil.size(x, 1)
    sizes = [mil.over(mil.size(x, axis), b) for axis, b in zip(axes, block_shape, strict=True)]
    apart: list[Size] = [part for size, b in zip(sizes, block_shape, strict=True) for part in (size, b)]
    y = mil.reshape(x, [n, c, *apart])
    y = mil.transpose(y, [*range(3, 3 + 2 * count, 2), 0, 1, *range(2, 2 + 2 * count, 2)])
    return mil.reshape(y, [mil.times(n, int(np.prod(block_shape))), c, *sizes])


@op("batch_to_space")
def batch_to_space(mil: Mil, x: ir.Value, *, block_shape: Ints, crops: Ints) -> ir.Value:
    """Reshape, Transpose, Reshape, Slice."""
    rank, count = mil.rank(x), len(block_shape)
    mil.require(len(crops) == 2 * count and rank == count + 2 and min(block_shape) > 0, "its blocks do not fit")
    n, c = mil.over(mil.size(x, 0), int(np.prod(block_shape))), mil.size(x, 1)
    sizes = [mil.size(x, axis) for axis in range(2, rank)]
    y = mil.reshape(x, [*block_shape, n, c, *sizes])
    perm = [count, count + 1, *(axis for i in range(count) for axis in (count + 2 + i, i))]
    whole = [mil.times(size, b) for size, b in zip(sizes, block_shape, strict=True)]
    y = mil.reshape(mil.transpose(y, perm), [n, c, *whole])
    if not any(crops):
        return y
    ends = mil.ints([-crop or FAR for crop in crops[1::2]], "ends")
    return mil.op("Slice", y, mil.ints(list(crops[0::2]), "begins"), ends, mil.ints(list(range(2, rank)), "axes"))
