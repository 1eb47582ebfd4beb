"""Slices, crops, pads and windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.ops.conv import borders

__all__: list[str] = []

END = (1 << 31) - 1
"""Beyond every axis."""


@layer("slice")
def slice_(net: Context, x: ir.Value, *, startIndex: int, endIndex: int, stride: int, axis: str) -> ir.Value:
    """Of channels, height or width; an end below 0 counts from the end."""
    net.require(stride >= 1, f"its stride is {stride}")
    at = {"CHANNEL_AXIS": -3, "HEIGHT_AXIS": -2, "WIDTH_AXIS": -1}[axis]
    net.at_least(x, -at)
    return _sliced(net, x, [startIndex], [endIndex], [at], [stride])


def _sliced(
    net: Context, x: ir.Value, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> ir.Value:
    by = net.ints(list(steps), "steps") if any(step != 1 for step in steps) else None
    return net.op("Slice", x, net.ints(list(starts), "starts"), net.ints(list(ends), "ends"), net.ints(list(axes)), by)


@layer("sliceStatic")
def slice_static(
    net: Context,
    x: ir.Value,
    *,
    beginIds: Sequence[int],
    beginMasks: Sequence[bool],
    endIds: Sequence[int],
    endMasks: Sequence[bool],
    strides: Sequence[int],
    squeezeMasks: Sequence[bool],
) -> ir.Value:
    """A mask takes all from the begin, or to the end; an axis that is squeezed has one number, at its begin."""
    rank = net.rank(x)
    lengths = {len(beginIds), len(endIds), len(strides), len(beginMasks), len(endMasks), len(squeezeMasks) or rank}
    net.require(lengths == {rank}, f"it has numbers for {sorted(lengths)} axes, its input has {rank}")
    net.require(0 not in strides, "a stride of it is 0")
    starts, ends, steps, squeezed = [], [], [], []
    for axis in range(rank):
        begin, end, step = int(beginIds[axis]), int(endIds[axis]), int(strides[axis])
        if squeezeMasks and squeezeMasks[axis]:
            squeezed.append(axis)
            begin = 0 if beginMasks[axis] else begin
            end, step = (END if begin == -1 else begin + 1), 1
        else:
            if beginMasks[axis]:
                begin = 0 if step > 0 else END
            if endMasks[axis]:
                end = END if step > 0 else -END
        starts.append(begin)
        ends.append(end)
        steps.append(step)
    y = _sliced(net, x, starts, ends, range(rank), steps)
    return _without(net, y, squeezed, rank)


def _without(net: Context, y: ir.Value, axes: Sequence[int], rank: int) -> ir.Value:
    """A result without axes has one of size 1."""
    if len(axes) == rank:
        return net.reshape(y, [1])
    return net.squeeze(y, axes) if axes else y


@layer("sliceDynamic")
def slice_dynamic(
    net: Context,
    x: ir.Value,
    begin: ir.Value,
    end: ir.Value | None = None,
    stride: ir.Value | None = None,
    begin_mask: ir.Value | None = None,
    end_mask: ir.Value | None = None,
    squeeze_mask: ir.Value | None = None,
    *,
    beginMasks: Sequence[bool],
    endIds: Sequence[int],
    endMasks: Sequence[bool],
    strides: Sequence[int],
    squeezeMasks: Sequence[bool],
) -> ir.Value:
    """As sliceStatic, with numbers that are computed; inputs stand before the parameters of the same name."""
    rank = net.rank(x)
    if squeeze_mask is not None:
        raise Refusal("which axes it squeezes is computed", "the number of axes is fixed in ONNX")
    for name, values in (("beginMasks", beginMasks), ("endMasks", endMasks), ("squeezeMasks", squeezeMasks)):
        net.require(len(values) in (0, rank), f"it has {len(values)} {name}, its input {rank} axes")
    net.require(end is not None or len(endIds) == rank, "it does not say where it ends")
    net.require(stride is not None or len(strides) == rank, "it has no strides")
    steps = net.int64(stride) if stride is not None else net.ints([int(s) for s in strides], "steps")
    starts = net.int64(begin)
    ends = net.int64(end) if end is not None else net.ints([int(e) for e in endIds], "ends")
    forward = net.op("Greater", steps, net.ints(0, "zero"))
    first = net.op("Where", forward, net.ints(0, "first"), net.ints(END, "last"))
    last = net.op("Where", forward, net.ints(END, "last"), net.ints(-END, "first"))
    starts = _masked(net, starts, first, begin_mask, beginMasks)
    ends = _masked(net, ends, last, end_mask, endMasks)
    squeezed = [axis for axis, flag in enumerate(squeezeMasks) if flag]
    if squeezed:
        flags = net.builder.constant(np.array(squeezeMasks, bool), "squeezed")
        behind = net.op("Add", starts, net.ints(1, "one"))
        behind = net.op("Where", net.op("Equal", starts, net.ints(-1, "minus")), net.ints(END, "last"), behind)
        ends = net.op("Where", flags, behind, ends)
        steps = net.op("Where", flags, net.ints(1, "one"), steps)
    y = net.op("Slice", x, starts, ends, net.ints(list(range(rank)), "axes"), steps)
    if y.shape is None:
        y.shape = ir.Shape([None] * rank)
    return _without(net, y, squeezed, rank)


def _masked(net: Context, value: ir.Value, whole: ir.Value, mask: ir.Value | None, flags: Sequence[bool]) -> ir.Value:
    if mask is not None:
        return net.op("Where", net.bool(mask), whole, value)
    if not any(flags):
        return value
    return net.op("Where", net.builder.constant(np.array(flags, bool), "masks"), whole, value)


@layer("sliceBySize")
def slice_by_size(net: Context, x: ir.Value, begin: ir.Value, *, size: int, axis: int) -> ir.Value:
    """So many from the place on that the second input says."""
    at = net.axis(x, axis)
    start = net.reshape(net.int64(begin), [1])
    count = net.ints([size], "size")
    y = net.op("Slice", x, start, net.op("Add", start, count), net.ints([at], "axes"))
    sizes: list[Any] = list(net.shape(x))
    sizes[at] = size
    y.shape = ir.Shape(sizes)
    return y


@layer("crop")
def crop(
    net: Context, x: ir.Value, like: ir.Value | None = None, *, cropAmounts: Any, offset: Sequence[int]
) -> ir.Value:
    """Without borders of height and width; or to the size of a second input, from an offset on."""
    net.at_least(x, 3)
    if like is None:
        before, behind = borders(net, cropAmounts, 2)
        ends = [-b if b else END for b in behind]
        return _sliced(net, x, before, ends, [-2, -1], [1, 1])
    start = [int(o) for o in offset] or [0, 0]
    net.require(len(start) == 2, f"its offset is {start}")
    sizes = net.shape(like)[-2:]
    if None not in sizes:
        return _sliced(net, x, start, [o + int(s or 0) for o, s in zip(start, sizes, strict=True)], [-2, -1], [1, 1])
    begin = net.ints(start, "starts")
    end = net.op("Add", begin, net.op("Shape", like, start=net.rank(like) - 2))
    return net.op("Slice", x, begin, end, net.ints([-2, -1], "axes"))


@layer("padding")
def padding(
    net: Context, x: ir.Value, *, constant: Any, reflection: Any, replication: Any, paddingAmounts: Any
) -> ir.Value:
    """Of height and width."""
    net.at_least(x, 2)
    before, behind = borders(net, paddingAmounts, 2)
    ones = [0] * (net.rank(x) - 2)
    pads = net.ints([*ones, *before, *ones, *behind], "pads")
    if reflection is not None:
        return net.op("Pad", x, pads, mode="reflect")
    if replication is not None:
        return net.op("Pad", x, pads, mode="edge")
    net.require(constant is not None, "it does not say how it pads")
    return net.op("Pad", x, pads, net.number(constant.value, "value"))


@layer("constantPad")
def constant_pad(
    net: Context,
    x: ir.Value,
    amounts: ir.Value | None = None,
    *,
    value: float,
    padAmounts: Sequence[int],
    padToGivenOutputSizeMode: bool,
) -> ir.Value:
    """Pairs of before and behind, by axis; or the sizes wanted, 0 where none is, at the side that is to be padded."""
    rank = net.rank(x)
    if amounts is None:
        given = [int(a) for a in padAmounts]
        net.require(len(given) == 2 * rank, f"it has {len(given)} pads for {rank} axes")
        pads = np.array(given, np.int64).reshape(rank, 2)
        if padToGivenOutputSizeMode:
            own = np.array(net.sizes(x), np.int64)[:, None]
            pads = np.where(pads > 0, pads - own, 0)
            net.require(bool((pads >= 0).all()), "its input is larger than the size wanted")
        return net.op("Pad", x, net.ints(pads.T.reshape(-1).tolist(), "pads"), net.number(value, "value"))
    pairs = net.reshape(net.int64(amounts), [rank, 2])
    if padToGivenOutputSizeMode:
        sizes = net.unsqueeze(net.op("Shape", x), [1])
        wanted = net.op("Greater", pairs, net.ints(0, "zero"))
        pairs = net.op("Where", wanted, net.op("Sub", pairs, sizes), net.ints(0, "zero"))
    flat = net.reshape(net.op("Transpose", pairs, perm=[1, 0]), [2 * rank])
    y = net.op("Pad", x, flat, net.number(value, "value"))
    if y.shape is None:
        y.shape = ir.Shape([None] * rank)
    return y


@layer("slidingWindows")
def sliding_windows(net: Context, x: ir.Value, *, axis: int, windowSize: int, step: int) -> ir.Value:
    """Windows along an axis, which becomes two: number of the window, place in it."""
    at = net.axis(x, axis)
    size = net.size(x, at)
    net.require(1 <= windowSize <= size and step >= 1, f"windows of {windowSize} by {step} in {size} numbers")
    count = (size - windowSize) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(windowSize)
    return net.op("Gather", x, net.builder.constant(places.astype(np.int64), "places"), axis=at)
