"""Suppression of boxes that overlap, and images cut out by boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.ops.resize import sampling

__all__: list[str] = []

LOWEST = float(np.finfo(np.float32).min)


@layer("NonMaximumSuppression")
def non_maximum_suppression(
    net: Context,
    boxes: ir.Value,
    scores: ir.Value,
    overlap: ir.Value | None = None,
    threshold: ir.Value | None = None,
    count: ir.Value | None = None,
    *,
    iouThreshold: float,
    scoreThreshold: float,
    maxBoxes: int,
    perClassSuppression: bool,
) -> list[ir.Value]:
    """Boxes, scores, numbers and count of what is left, by score; of none, the best box is left.

    Boxes are centre and size. Each has the score of its best class; with `perClassSuppression` only boxes of the same
    class suppress each other.
    """
    iou = net.number([iouThreshold], "iou") if overlap is None else net.reshape(overlap, [1])
    least = net.number([scoreThreshold], "least") if threshold is None else net.reshape(threshold, [1])
    most = net.ints([maxBoxes], "most") if count is None else net.reshape(net.int64(count), [1])
    zero, lowest = net.number(0, "zero"), net.number(LOWEST, "lowest")
    best = net.op("ReduceMax", scores, net.ints([-1], "axes"), keepdims=0)
    classes = net.unsqueeze(best, [1])
    if perClassSuppression:
        size = net.ints([net.size(scores, -1)], "classes")
        of_class = net.op("OneHot", net.op("ArgMax", scores, axis=-1, keepdims=0), size, net.number([0, 1]), axis=1)
        classes = net.op("Where", net.bool(of_class), classes, lowest)
    chosen = net.op("NonMaxSuppression", boxes, classes, most, iou, least, center_point_box=1)
    places = net.op("Gather", chosen, net.ints([0, 2], "columns"), axis=1)
    ones = net.op("Expand", net.number(1, "one"), net.op("Shape", chosen, start=0, end=1))
    blank = net.op("Expand", zero, net.op("Shape", best))
    kept = net.op("ScatterND", blank, places, ones)
    total = net.op("ReduceSum", kept, net.ints([1], "axes"), keepdims=1)
    number = net.op("Shape", best, start=1, end=2)
    top = net.op("OneHot", net.op("ArgMax", best, axis=1, keepdims=0), number, net.number([0, 1]), axis=1)
    kept = net.op("Where", net.op("Greater", total, zero), kept, top)
    keys = net.op("Where", net.bool(kept), best, lowest)
    rows = net.op("Concat", net.op("Shape", best, start=0, end=1), most, axis=0)
    keys = net.op("Concat", keys, net.op("Expand", lowest, rows), axis=1)
    values, order = net.builder.ops("TopK", keys, most, outputs=2, axis=1)
    valid = net.op("Greater", values, lowest)
    numbers = net.op("Where", valid, net.floats(order), net.number(-1, "none"))
    safe = net.unsqueeze(net.op("Where", valid, order, net.ints(0, "first")), [2])
    shown = net.unsqueeze(net.floats(valid), [2])
    results = []
    for source in (boxes, scores):
        last = net.op("Concat", net.op("Shape", safe, start=0, end=2), net.op("Shape", source, start=2), axis=0)
        rows = net.op("GatherElements", source, net.op("Expand", safe, last), axis=1)
        results.append(net.op("Mul", rows, shown))
    left = net.op("ReduceSum", net.floats(valid), net.ints([1], "axes"), keepdims=0)
    return [*results, numbers, left]


@layer("cropResize")
def crop_resize(
    net: Context,
    x: ir.Value,
    boxes: ir.Value,
    *,
    targetSize: Sequence[int],
    normalizedCoordinates: bool,
    mode: Any,
    boxIndicesMode: Any,
    spatialScale: float,
) -> ir.Value:
    """Boxes, as channels of the second input, cut out of a batch of images and resized: samples of a grid."""
    target = [int(size) for size in targetSize] or [1, 1]
    net.require(len(target) == 2 and min(target) >= 1, f"it resizes to {target}")
    if net.rank(x) != 5 or net.rank(boxes) != 5:
        raise Refusal(f"its inputs have {net.rank(x)} and {net.rank(boxes)} axes, 5 are supported")
    columns = net.size(boxes, 2)
    net.require(columns in (4, 5) and net.shape(x)[0] in (None, 1), f"its boxes have {columns} numbers")
    if columns == 4 and net.shape(x)[1] not in (None, 1):
        raise Refusal("it cuts the same boxes out of several images")
    image = net.reshape(x, [1 if columns == 4 else -1, net.size(x, 2), net.size(x, 3), net.size(x, 4)])
    corners = net.reshape(boxes, [-1, columns])
    which = None
    if columns == 5:
        which = net.squeeze(net.op("Slice", corners, net.ints([0]), net.ints([1]), net.ints([1])), [1])
        corners = net.op("Slice", corners, net.ints([1]), net.ints([5]), net.ints([1]))
    if spatialScale not in (0, 1):
        corners = net.op("Mul", corners, net.number(spatialScale, "scale"))
    order = _box_mode(boxIndicesMode)
    parts = list(net.builder.ops("Split", corners, outputs=4, axis=1, num_outputs=4))
    grids = []
    for axis in range(2):
        limit = float(net.size(x, 3 + axis) - 1)
        at = axis if order.endswith("HEIGHT_FIRST") else 1 - axis
        first, second = parts[at], parts[at + 2]
        if normalizedCoordinates:
            first, second = (net.op("Mul", part, net.number(limit, "limit")) for part in (first, second))
        if order.startswith("CENTER"):
            half = net.op("Mul", second, net.number(0.5, "half"))
            first, second = net.op("Sub", first, half), net.op("Add", first, half)
        places = _places(net, first, second, target[axis], sampling(mode))
        places = net.op("Clip", places, net.number(0, "least"), net.number(limit, "most"))
        unit = net.number(2 / limit if limit else 0, "unit")
        grids.append(net.op("Sub", net.op("Mul", places, unit), net.number(1, "one")))
    count = net.op("Shape", corners, start=0, end=1)
    shape = net.op("Concat", count, net.ints(target, "size"), axis=0)
    rows = net.op("Expand", net.unsqueeze(grids[0], [2]), shape)
    across = net.op("Expand", net.unsqueeze(grids[1], [1]), shape)
    grid = net.op("Concat", net.unsqueeze(across, [3]), net.unsqueeze(rows, [3]), axis=3)
    if which is None:
        pictures = net.op("Expand", image, net.op("Concat", count, net.ints([1, 1, 1], "ones"), axis=0))
    else:
        pictures = net.op("Gather", image, net.int64(which), axis=0)
    y = net.op("GridSample", pictures, grid, align_corners=1, padding_mode="border", mode="linear")
    return net.unsqueeze(y, [1])


def _box_mode(mode: Any) -> str:
    if mode is None:
        return "CORNERS_HEIGHT_FIRST"
    values = mode.DESCRIPTOR.fields_by_name["boxMode"].enum_type.values_by_number
    return str(values[mode.boxMode].name)


def _places(net: Context, first: ir.Value, last: ir.Value, count: int, method: str) -> ir.Value:
    """Where each box is sampled: (boxes, count)."""
    extent = net.op("Sub", last, first)
    steps = np.arange(count, dtype=np.float64)
    if method in ("STRICT_ALIGN_ENDPOINTS_MODE", "ALIGN_ENDPOINTS_MODE"):
        if count == 1:
            shares = np.array([0.5 if method == "ALIGN_ENDPOINTS_MODE" else 0.0])
        else:
            shares = steps / (count - 1)
        return net.op("Add", first, net.op("Mul", extent, net.number(shares[None], "shares")))
    if method != "ROI_ALIGN_MODE":
        raise Refusal(f"where it samples a box ({method}) is nowhere said")
    shares = (steps + 0.5) / count
    wide = net.op("Max", extent, net.number(1, "least"))
    return net.op("Add", first, net.op("Mul", wide, net.number(shares[None], "shares")))
