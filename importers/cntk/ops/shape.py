"""What moves numbers and does not change them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from hub.dnn import Axis, Shape
from hub.errors import Refusal
from importers.cntk.context import OPEN, Context, Tensor
from importers.cntk.table import function

__all__: list[str] = []

NEW = (1 << 31) - 4
"""The index of an axis that is to be made in front of all others."""

FIRST = Axis(0)

MOST_AXES = 12
"""Static axes that a value of CNTK has at most."""


@function("Reshape")
def reshape(
    cntk: Context, x: Tensor, *, newShape: Shape, beginAxis: Axis = FIRST, endAxis: Axis | None = None
) -> Tensor:
    """The static axes from one to another as a shape, in which one size may be left to be found."""
    sizes = cntk.shape(x)[::-1]
    first = _place(cntk, beginAxis, len(sizes))
    last = len(sizes) if endAxis is None else _place(cntk, endAxis, len(sizes))
    cntk.require(first <= last, f"axes from {first} to {last}")
    middle = [cntk.known(size) for size in newShape]
    if middle.count(None) == 1 and None not in sizes[first:last]:
        rest = math.prod(size for size in middle if size is not None)
        total = math.prod(size or 0 for size in sizes[first:last])
        cntk.require(rest > 0 and total % rest == 0, f"{total} numbers do not divide into {tuple(newShape)}")
        middle[middle.index(None)] = total // rest
    target = [*sizes[:first], *middle, *sizes[last:]]
    if None not in target and None not in sizes:
        cntk.require(cntk.count(target) == cntk.count(sizes), f"{sizes[::-1]} cannot become {target[::-1]}")
    return x.of(cntk.reshape(x, cntk.target(x, target[::-1])))


def _place(cntk: Context, axis: Axis, rank: int) -> int:
    """The place of an axis, or of the one behind the last, in CNTK's order."""
    if axis.index == NEW:
        return rank
    index = axis.index if axis.index >= 0 else axis.index + rank
    cntk.require(cntk.is_static(axis) and 0 <= index <= rank, f"there is no static axis {axis.index} of {rank}")
    return index


@function("Squeeze")
def squeeze(cntk: Context, x: Tensor, *, axisVec: Sequence[Axis] | None = None) -> Tensor:
    """Without the axes of size 1, or without some of them."""
    if axisVec is None:
        sizes = cntk.shape(x)
        if None in sizes:
            raise Refusal("sizes of its input are not known", OPEN)
        axes = [x.dynamic + axis for axis, size in enumerate(sizes) if size == 1]
    else:
        axes = [cntk.onnx(x, axis) for axis in axisVec]
    return x.of(cntk.op("Squeeze", x, cntk.ints(axes, "axes"))) if axes else x.of(cntk.op("Identity", x))


@function("TransposeAxes")
def transpose(
    cntk: Context, x: Tensor, *, axis1: Axis | None = None, axis2: Axis | None = None, axisVec: Sequence[Axis] = ()
) -> Tensor:
    """Two static axes exchanged, or all in another order."""
    rank = cntk.rank(x)
    order = list(range(rank))
    if axis1 is not None and axis2 is not None:
        one, other = cntk.static(x, axis1), cntk.static(x, axis2)
        order[one], order[other] = order[other], order[one]
    else:
        order = [cntk.static(x, axis) for axis in axisVec][::-1]
    cntk.require(sorted(order) == list(range(rank)), f"{order} is no order of {rank} axes")
    return x.of(cntk.op("Transpose", x, perm=[*range(x.dynamic), *(x.dynamic + axis for axis in order)]))


@function("Slice")
def slices(
    cntk: Context,
    x: Tensor,
    *,
    axis: Axis | None = None,
    beginIndex: int = 0,
    endIndex: int = 0,
    sliceStrides: int = 1,
    axisVec: Sequence[Axis] = (),
    beginIndexVec: Sequence[int] = (),
    endIndexVec: Sequence[int] = (),
    sliceStridesVec: Sequence[int] = (),
) -> Tensor:
    """From one index to another, of which 0 is the end; with a negative stride backwards."""
    if axis is not None:
        rows = [(axis, beginIndex, endIndex, sliceStrides)]
    else:
        steps = sliceStridesVec or [1] * len(axisVec)
        rows = list(zip(axisVec, beginIndexVec, endIndexVec, steps, strict=True))
    if any(not cntk.is_static(row[0]) for row in rows):
        raise Refusal("it takes a part of a dynamic axis", "sequence.slice says the same of sequences")
    starts, ends, axes, steps = [], [], [], []
    for one, begin, end, step in rows:
        cntk.require(step != 0, "a stride of 0")
        far = (1 << 63) - 1
        forward = (begin, end if end else far)
        # Backwards CNTK takes the same numbers as forwards, from the last on.
        first, last = forward if step > 0 else ((end - 1) if end else far, begin - 1 if begin else -far)
        starts.append(first)
        ends.append(last)
        axes.append(cntk.onnx(x, one))
        steps.append(step)
    inputs = [cntk.ints(row, name) for row, name in zip((starts, ends, axes), ("starts", "ends", "axes"), strict=True)]
    strides = [cntk.ints(steps, "steps")] if any(step != 1 for step in steps) else []
    return x.of(cntk.op("Slice", x, *inputs, *strides))


@function("Splice")
def splice(cntk: Context, *inputs: Tensor, axis: Axis) -> Tensor:
    """One behind the other along a static axis, which may be a new one in front."""
    cntk.require(bool(inputs), "it has no inputs")
    if not cntk.is_static(axis) and axis.index != NEW:
        raise Refusal("it puts values behind each other along a dynamic axis")
    rank = max(cntk.rank(x) for x in inputs)
    like = cntk.like(*inputs)
    index = rank if axis.index == NEW else axis.index if axis.index >= 0 else axis.index + rank
    cntk.require(0 <= index <= max(rank, MOST_AXES), f"there is no static axis {axis.index} of {rank}")
    rank = max(rank, index + 1)
    values = [_grown(cntk, x, like, rank, inputs) for x in inputs]
    return like.of(cntk.op("Concat", *values, axis=like.dynamic + rank - 1 - index))


def _grown(cntk: Context, x: Tensor, like: Tensor, rank: int, inputs: Sequence[Tensor]) -> ir.Value:
    """`x` with `rank` static axes and the dynamic axes of `like`, over which it is spread."""
    missing = rank - cntk.rank(x)
    value = x.value
    if missing:
        value = cntk.op("Unsqueeze", x, cntk.ints(list(range(x.dynamic, x.dynamic + missing)), "axes"))
    if x.dynamic == like.dynamic:
        return value
    if x.dynamic:
        value = cntk.op("Unsqueeze", value, cntk.ints([1], "axes"))
    else:
        value = cntk.op("Unsqueeze", value, cntk.ints(list(range(like.dynamic)), "axes"))
    return cntk.spread(value, like, [*[1] * missing, *cntk.shape(x)])


@function("Pad")
def pad(
    cntk: Context,
    x: Tensor,
    *,
    paddingHead: Sequence[int],
    paddingFoot: Sequence[int],
    paddingMode: int = 0,
    paddingConstantValue: float = 0.0,
) -> Tensor:
    """Static axes with more before and behind: a constant, or with mode 1 the numbers mirrored."""
    rank = cntk.rank(x)
    cntk.require(len(paddingHead) == len(paddingFoot) <= rank, f"{len(paddingHead)} paddings for {rank} axes")
    cntk.require(paddingMode in (0, 1, 2), f"the mode {paddingMode}")
    if paddingMode == 2:
        raise Refusal("it mirrors numbers with the edge", "pad with the mode reflect, or a constant")
    cntk.require(all(0 <= int(n) < 1 << 31 for n in [*paddingHead, *paddingFoot]), "a padding of many numbers")
    more = [0] * (rank - len(paddingHead))
    before, behind = [*more, *list(paddingHead)[::-1]], [*more, *list(paddingFoot)[::-1]]
    front = [0] * x.dynamic
    amounts = cntk.ints([*front, *before, *front, *behind], "pads")
    if paddingMode:
        return x.of(cntk.op("Pad", x, amounts, mode="reflect"))
    value = [cntk.constant(paddingConstantValue, "value", x)] if paddingConstantValue else []
    return x.of(cntk.op("Pad", x, amounts, *value))


@function("Crop")
def crop(cntk: Context, x: Tensor, like: Tensor, *others: Tensor, offset: Sequence[int] | None = None) -> Tensor:
    """The two fastest axes as large as those of the second input, from `offset` on."""
    if offset is None or others:
        raise Refusal("where it cuts follows from the layers between its inputs", "crop_manual says it outright")
    cntk.require(len(offset) == 2 and all(0 <= int(n) < 1 << 31 for n in offset), f"the offset {list(offset)}")
    rank, reference = cntk.rank(x), cntk.shape(like)
    cntk.require(rank >= 2 and len(reference) >= 2, "inputs without two axes")
    if None in reference[-2:]:
        raise Refusal("sizes of its second input are not known", OPEN)
    starts = [int(offset[1]), int(offset[0])]
    ends = [start + int(size or 0) for start, size in zip(starts, reference[-2:], strict=True)]
    for end, size in zip(ends, cntk.shape(x)[-2:], strict=True):
        cntk.require(size is None or end <= size, f"{end} places of {size}")
    axes = [x.dynamic + rank - 2, x.dynamic + rank - 1]
    return x.of(cntk.op("Slice", x, cntk.ints(starts, "starts"), cntk.ints(ends, "ends"), cntk.ints(axes, "axes")))


@function("OneHot")
def one_hot(cntk: Context, x: Tensor, *, numClass: int, onehotAxis: Axis, oneHotOutputSparse: bool = False) -> Tensor:
    """Each number as a vector with a 1 in its place, along a new axis."""
    cntk.require(0 < numClass < 1 << 31, f"{numClass} classes")
    axis = x.dynamic + cntk.static(x, onehotAxis, beyond=1)
    places = cntk.op("Cast", x, to=int(ir.DataType.INT64))
    depth, values = cntk.ints(numClass, "classes"), cntk.constant([0, 1], "values", x)
    # ONNX counts negative numbers from the end; in CNTK they are in no class, as those behind the last.
    negative = cntk.op("Less", places, cntk.ints(0, "zero"))
    places = cntk.op("Where", negative, depth, places)
    return x.of(cntk.op("OneHot", places, depth, values, axis=axis))


@function("Gather")
def gather(cntk: Context, indices: Tensor, reference: Tensor, *, axis: Axis | None = None) -> Tensor:
    """What lies in the reference at each index, along its slowest axis or another."""
    cntk.require(cntk.rank(reference) > 0, "a reference without axes")
    place = 0 if axis is None else cntk.static(reference, axis)
    if reference.dynamic:
        raise Refusal("what it takes from is computed for each item of the batch")
    found = cntk.op("Cast", indices, to=int(ir.DataType.INT64))
    if place:
        raise Refusal("it takes along another axis than the slowest")
    known = cntk.numbers(indices)
    if known is None or not ((known >= 0) & (known < (cntk.shape(reference)[0] or 0))).all():
        cntk.warn(
            f"{cntk.found.label!r} takes numbers by index: outside of the reference CNTK gives 0, while ONNX counts "
            "negative indices from the end and has no others"
        )
    return indices.of(cntk.op("Gather", reference, found, axis=place))


@function("EyeLike")
def eye_like(cntk: Context, x: Tensor, *, OutputSparse: bool = False) -> Tensor:
    """Ones on the diagonal, in the size of the input."""
    cntk.require(x.dynamic + cntk.rank(x) == 2, "an input that has not two axes")
    return x.of(cntk.op("EyeLike", x))


@function("UnpackBatch")
def unpack_batch(cntk: Context, x: Tensor) -> Tensor:
    """The batch as a static axis, the slowest one."""
    if x.sequence is not None or not x.batch:
        raise Refusal("it takes the batch of sequences apart")
    return replace(x, value=cntk.op("Identity", x), batch=False)


@function("ToBatch")
def to_batch(cntk: Context, x: Tensor) -> Tensor:
    """The slowest static axis as the batch."""
    cntk.require(x.dynamic == 0 and cntk.rank(x) > 0, "an input with dynamic axes, or without static ones")
    return replace(x, value=cntk.op("Identity", x), batch=True)
