"""Poolings, and what takes them back."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hub.dnn import Shape
from hub.errors import Refusal
from importers.cntk.context import Context, Tensor
from importers.cntk.ops.conv import cut, pads
from importers.cntk.ops.geometry import Span, spans
from importers.cntk.table import function

__all__: list[str] = []

NONE = Shape()
MAX, AVERAGE = 0, 1


@function("Pooling")
def pooling(
    cntk: Context,
    x: Tensor,
    *,
    poolingType: int,
    poolingWindowShape: Shape,
    strides: Shape = NONE,
    autoPadding: Sequence[bool] = (),
    lowerPad: Shape = NONE,
    upperPad: Shape = NONE,
    ceilOutDim: bool = False,
    includePad: bool = False,
) -> Tensor:
    """The maximum or the average of each window; an average takes no notice of the padding but with `includePad`."""
    cntk.require(poolingType in (MAX, AVERAGE), f"pooling of type {poolingType}")
    sizes = cntk.shape(x)[::-1]
    if all(size in (0, (1 << 64) - 1) for size in poolingWindowShape):
        return _everything(cntk, x, poolingType)
    found = spans(
        cntk, sizes, poolingWindowShape, strides or [1], [1], autoPadding, lowerPad or [0], upperPad or [0], ceilOutDim
    )
    if any(max(s.before, s.after) >= s.kernel for s in found):
        raise Refusal("a window that lies outside of its input")
    if ceilOutDim and includePad and poolingType == AVERAGE:
        raise Refusal("averages of windows that reach beyond the padding")
    value, back = cntk.merged(x)
    outer = Span(1, 1, 1, 0, 0)
    if len(found) > 1 and found[-1] == outer:
        found = found[:-1]
        return back(_pooled(cntk, value, found, poolingType, includePad))
    # There are no channels, or the windows reach over them: with one more axis in front of it, it is an image.
    value = cntk.op("Unsqueeze", value, cntk.ints([1], "axes"))
    y = _pooled(cntk, value, found, poolingType, includePad)
    return back(cntk.op("Squeeze", y, cntk.ints([1], "axes")))


def _pooled(cntk: Context, value: ir.Value, found: Sequence[Span], kind: int, include: bool) -> ir.Value:
    if len(found) > 3:
        raise Refusal(f"a pooling over {len(found)} axes")
    value = cut(cntk, value, found)
    turned = list(found)[::-1]
    return cntk.op(
        "MaxPool" if kind == MAX else "AveragePool",
        value,
        kernel_shape=[s.kernel for s in turned],
        strides=[s.stride for s in turned],
        pads=pads(found),
        count_include_pad=int(include) if kind == AVERAGE else None,
    )


def _everything(cntk: Context, x: Tensor, kind: int) -> Tensor:
    """Over all places of each channel."""
    cntk.require(cntk.rank(x) >= 2, "there is nothing to pool over")
    value, back = cntk.merged(x)
    return back(cntk.op("GlobalMaxPool" if kind == MAX else "GlobalAveragePool", value))


@function("Unpooling")
def unpooling(
    cntk: Context,
    x: Tensor,
    like: Tensor,
    *,
    poolingType: int = 0,
    unpoolingWindowShape: Shape,
    strides: Shape = NONE,
    autoPadding: Sequence[bool] = (),
    lowerPad: Shape = NONE,
    upperPad: Shape = NONE,
) -> Tensor:
    """Numbers go where, in `like`, the maxima of the windows are."""
    if poolingType != MAX:
        raise Refusal("only the maximum can be taken back")
    sizes = cntk.sizes(like)[::-1]
    found = spans(cntk, sizes, unpoolingWindowShape, strides or [1], [1], autoPadding, lowerPad or [0], upperPad or [0])
    cntk.require(len(found) > 1, "an input without channels")
    if found[-1] != Span(1, 1, 1, 0, 0) or any(s.before < 0 for s in found):
        raise Refusal("its windows reach over channels, or begin inside of the input")
    turned = found[-2::-1]
    kernel, steps = [s.kernel for s in turned], [s.stride for s in turned]
    if any(s.kernel > s.stride for s in turned):
        raise Refusal("its windows overlap, where numbers of several add up")
    value, back = cntk.merged(x)
    source, _ = cntk.merged(like)
    around = pads(found[:-1])
    _, places = cntk.builder.ops("MaxPool", source, outputs=2, pads=around, kernel_shape=kernel, strides=steps)
    size = cntk.op("Shape", source)
    return back(cntk.op("MaxUnpool", value, places, size, pads=around, kernel_shape=kernel, strides=steps))


@function("ROIPooling")
def roi_pooling(
    cntk: Context, x: Tensor, regions: Tensor, *, poolingType: int, roiOutputShape: Shape, spatialScale: float
) -> Tensor:
    """The maxima of regions, given for each item of the batch as x1, y1, x2, y2."""
    if poolingType != MAX or x.dynamic != 1 or regions.dynamic != 1:
        raise Refusal("only the maximum of regions of a batch is supported")
    count, four = cntk.sizes(regions)
    channels = cntk.sizes(x)[0]
    cntk.require(four == 4 and len(roiOutputShape) == 2, f"regions of {four} numbers, to {tuple(roiOutputShape)}")
    height, width = roiOutputShape[1], roiOutputShape[0]
    batch = cntk.op("Squeeze", cntk.op("Shape", x, start=0, end=1), cntk.ints([0], "axes"))
    items = cntk.cast(cntk.op("Range", cntk.ints(0, "first"), batch, cntk.ints(1, "step")), x)
    items = cntk.op("Unsqueeze", items, cntk.ints([1, 2], "axes"))
    items = cntk.op("Expand", items, cntk.ints([1, count, 1], "regions"))
    rows = cntk.reshape(cntk.op("Concat", items, regions, axis=2), [-1, 5])
    y = cntk.op("MaxRoiPool", x, rows, pooled_shape=[height, width], spatial_scale=float(spatialScale))
    return x.of(cntk.reshape(y, [-1, count, channels, height, width]))
