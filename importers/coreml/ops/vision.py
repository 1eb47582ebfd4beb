"""What is done to images at computed places: sampling, affine maps, crops, boxes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import OPEN, Mil, Size
from importers.coreml.ops.resize import GRIDS
from importers.coreml.table import op

__all__: list[str] = []


@op("resample")
def resample(
    mil: Mil,
    x: ir.Value,
    coordinates: ir.Value,
    *,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> ir.Value:
    """GridSample, with the coordinates turned into those that it takes; a padding with other numbers is a ring."""
    sampling = mil.one_of(sampling_mode.lower(), "bilinear", "nearest")
    around = mil.one_of(padding_mode.lower(), "constant", "border", "reflection", "symmetric")
    system = mil.one_of(
        coordinates_mode.lower(), "unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"
    )
    # Reflections include the border where GridSample aligns the edges of pixels, and exclude it where their centers.
    centers = around != "symmetric" if around in ("symmetric", "reflection") else align_corners
    places = mil.cast(coordinates, mil.dtype(x))
    ring = int(around == "constant" and padding_value != 0)
    if system != "normalized_minus_one_to_one" or centers != align_corners or ring:
        places = _normalized(mil, x, places, system, align_corners, centers, ring)
    if ring:
        around = "border"
        edge = mil.ints([1, 1, 1, 1], "pads")
        x = mil.op("Pad", x, edge, mil.scalar(padding_value, x, "padding"), mil.ints([2, 3], "axes"))
    padding = {"constant": "zeros", "border": "border"}.get(around, "reflection")
    mode = "linear" if sampling == "bilinear" else "nearest"
    return mil.op("GridSample", x, places, mode=mode, padding_mode=padding, align_corners=int(centers))


def _normalized(
    mil: Mil, x: ir.Value, places: ir.Value, system: str, corners: bool, centers: bool, ring: int
) -> ir.Value:
    """Coordinates in pixels, moved by a ring around the image, then from -1 to 1 as GridSample has them.

    That is between the centers of the outer pixels, or between their edges.
    """
    size = np.array(mil.fixed(x)[:1:-1], np.float64)  # width, height, as the coordinates have them
    if system == "unnormalized":
        scale, shift = np.ones(2), np.zeros(2)
    else:
        scale, shift = (size - 1, np.zeros(2)) if corners else (size, np.full(2, -0.5))
        if system == "normalized_minus_one_to_one":
            scale, shift = scale / 2, shift + scale / 2
    shift, size = shift + ring, size + 2 * ring
    last = np.maximum(size - 1, 1)
    outer, move = (2 / last, -np.ones(2)) if centers else (2 / size, 1 / size - 1)
    scale, shift = scale * outer, shift * outer + move
    return mil.op("Add", mil.op("Mul", places, mil.array(scale, places, "scale")), mil.array(shift, places, "shift"))


@op("affine")
def affine(
    mil: Mil,
    x: ir.Value,
    transform_matrix: ir.Value,
    *,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> ir.Value:
    """AffineGrid and GridSample."""
    mil.one_of(sampling_mode.lower(), "bilinear")
    mil.one_of(padding_mode.lower(), "constant")
    mil.one_of(coordinates_mode.lower(), "normalized_minus_one_to_one")
    if padding_value != 0 or not align_corners:
        raise Refusal("a padding with other numbers than 0, or corners that are not aligned")
    batch, channels = mil.size(x, 0), mil.size(x, 1)
    theta = mil.reshape(mil.cast(transform_matrix, mil.dtype(x)), [-1, 2, 3])
    theta = mil.op("Expand", theta, mil.shape_of([batch, 2, 3]))
    sizes = mil.shape_of([batch, channels, output_height, output_width])
    places = mil.op("AffineGrid", theta, sizes, align_corners=1)
    return mil.op("GridSample", x, places, mode="linear", padding_mode="zeros", align_corners=1)


BOXES = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")


@op("crop_resize")
def crop_resize(
    mil: Mil,
    x: ir.Value,
    roi: ir.Value | None = None,
    boxes: ir.Value | None = None,
    box_indices: ir.Value | None = None,
    *,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float | None = None,
) -> ir.Value:
    """Two products with the weights that linear interpolation gives each row and each column, for each box."""
    mil.one_of(box_coordinate_mode, *BOXES)
    mil.one_of(sampling_mode, *GRIDS)
    mil.require((roi is None) != (boxes is None), "it has no boxes")
    height, width = mil.fixed(x)[2:]
    batch, channels = mil.size(x, 0), mil.size(x, 1)
    corners, images, every = _boxes(mil, x, roi, boxes, box_indices)
    if pad_value is None:
        _inside(mil, roi if roi is not None else boxes, normalized_coordinates)
    low_y, low_x, high_y, high_x = _corners(mil, corners, box_coordinate_mode)
    factors = [spatial_scale * (size - 1 if normalized_coordinates else 1) for size in (height, width)]
    rows = _places(mil, low_y, high_y, factors[0], target_height, sampling_mode)
    columns = _places(mil, low_x, high_x, factors[1], target_width, sampling_mode)
    left = _weights(mil, rows, height)  # (boxes, target, size)
    right = mil.op("Transpose", _weights(mil, columns, width), perm=[0, 2, 1])
    if every:
        shape: list[Size] = [1, batch, channels, height, width]
        picked, apart = mil.reshape(x, shape), [1, 2]
    else:
        assert images is not None
        picked, apart = mil.op("Gather", x, images, axis=0), [1]
    y = mil.op("MatMul", mil.op("MatMul", mil.unsqueeze(left, *apart), picked), mil.unsqueeze(right, *apart))
    inside = mil.op(
        "And",
        mil.unsqueeze(_within(mil, rows, height), *apart, len(apart) + 2),
        mil.unsqueeze(_within(mil, columns, width), *apart, len(apart) + 1),
    )
    y = mil.op("Where", inside, y, mil.scalar(pad_value or 0, y, "pad"))
    return mil.unsqueeze(y, 1) if roi is not None and not every else y


def _inside(mil: Mil, boxes: ir.Value | None, normalized: bool) -> None:
    """Before iOS 16 nothing says what lies outside of an image."""
    known = mil.known(boxes) if boxes is not None else None
    if known is None:
        mil.warn(f"{mil.name!r} cuts boxes out of images: outside of one it gives 0 here; Core ML does not say what")
    elif normalized and known.size and (known.min() < 0 or known.reshape(-1, known.shape[2])[:, -4:].max() > 1):
        raise Refusal("its boxes are outside of the image, where Core ML does not say what there is")


def _boxes(
    mil: Mil, x: ir.Value, roi: ir.Value | None, boxes: ir.Value | None, indices: ir.Value | None
) -> tuple[ir.Value, ir.Value | None, bool]:
    """The boxes, (boxes, 4); the images that they are cut from; and whether that is each of all."""
    if roi is not None:
        width = mil.sizes(roi)[2]
        mil.require(mil.rank(roi) == 5 and width in (4, 5), "boxes of another shape")
        flat = mil.reshape(roi, [-1, int(width or 0)])
        if width == 4:
            return flat, None, True
        numbers = mil.cast(mil.squeeze(mil.slice(flat, 1, 0, 1), 1), ir.DataType.INT64)
        return mil.slice(flat, 1, 1, 5), numbers, False
    assert boxes is not None
    if indices is None:
        zero, one = (mil.builder.constant(np.array(n, np.int64), "number") for n in (0, 1))
        count = mil.size(boxes, 0)
        end = (
            mil.builder.constant(np.array(count, np.int64), "count")
            if isinstance(count, int)
            else mil.squeeze(count, 0)
        )
        return mil.cast(boxes, mil.dtype(x)), mil.op("Range", zero, end, one), False
    return mil.cast(boxes, mil.dtype(x)), mil.int64(indices), False


def _corners(mil: Mil, boxes: ir.Value, mode: str) -> list[ir.Value]:
    """The lower and the higher corner of each box: y, x, y, x, each (boxes, 1)."""
    a, b, c, d = (mil.slice(boxes, 1, i, i + 1) for i in range(4))
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CORNERS"):
        return [a, b, c, d]
    half = mil.scalar(0.5, boxes, "half")
    height, width = mil.op("Mul", c, half), mil.op("Mul", d, half)
    return [
        mil.op("Sub", a, height), mil.op("Sub", b, width), mil.op("Add", a, height), mil.op("Add", b, width),
    ]  # fmt: skip


def _places(mil: Mil, low: ir.Value, high: ir.Value, factor: float, count: int, mode: str) -> ir.Value:
    """Where the pixels of each box are taken from, (boxes, count): the grid over high - low + 1 pixels."""
    mil.require(0 < count < 1 << 20, f"a target of {count} pixels")
    if factor != 1:
        low, high = (mil.op("Mul", one, mil.scalar(factor, one, "factor")) for one in (low, high))
    i = np.arange(count, dtype=np.float64)[None]
    span = mil.op("Sub", high, low)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = 0.5 if mode == "ALIGN_CORNERS" else 0.0
        parts, shift = i / (count - 1) if count > 1 else np.full((1, 1), alone), 0.0
    elif mode == "OFFSET_CORNERS":
        parts, shift = (i + 0.5) / count, 0.0
    else:
        # Over as many pixels as there are between the corners, and the last one itself.
        parts = (i + (0.5 if mode == "UNALIGN_CORNERS" else 0)) / count
        span = mil.op("Add", span, mil.scalar(1, span, "one"))
        shift = -0.5 if mode == "UNALIGN_CORNERS" else 0.0
    y = mil.op("Add", low, mil.op("Mul", span, mil.array(parts, low, "grid")))
    return mil.op("Add", y, mil.scalar(shift, y, "shift")) if shift else y


def _weights(mil: Mil, places: ir.Value, size: int) -> ir.Value:
    """What each of `size` pixels counts at each place: 1 there, and less up to a pixel away."""
    last = mil.scalar(size - 1, places, "last")
    clipped = mil.op("Clip", places, mil.scalar(0, places, "first"), last)
    distance = mil.op("Abs", mil.op("Sub", mil.unsqueeze(clipped, 2), mil.array(np.arange(size), places, "pixels")))
    return mil.op("Relu", mil.op("Sub", mil.scalar(1, places, "one"), distance))


def _within(mil: Mil, places: ir.Value, size: int) -> ir.Value:
    low = mil.op("GreaterOrEqual", places, mil.scalar(0, places, "first"))
    return mil.op("And", low, mil.op("LessOrEqual", places, mil.scalar(size - 1, places, "last")))


@op("non_maximum_suppression")
def non_maximum_suppression(
    mil: Mil,
    boxes: ir.Value,
    scores: ir.Value,
    *,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> list[ir.Value]:
    """NonMaxSuppression of the best score of each box; what it keeps is sorted, and filled up to max_boxes.

    As in Apple's own reference: per class, a box belongs to the class of its best score; where nothing is left, the
    box with the best score is.
    """
    old = score_threshold is not None
    if not old:  # since iOS 17 boxes lie along the last axis
        boxes, scores = (mil.op("Transpose", one, perm=[0, 2, 1]) for one in (boxes, scores))
    count, classes = mil.sizes(scores)[1:]
    if count is None or classes is None:
        raise Refusal("the number of boxes, or of classes, is open", OPEN)
    mil.require(0 < max_boxes < 1 << 24 and count > 0, f"{max_boxes} of {count} boxes")
    boxes, scores = mil.cast(boxes, ir.DataType.FLOAT), mil.cast(scores, ir.DataType.FLOAT)
    best = mil.op("ReduceMax", scores, mil.ints([2], "axes"), keepdims=0)  # (batch, boxes)
    nothing = mil.scalar(-np.inf, best, "nothing")
    lists = mil.unsqueeze(best, 1)
    if per_class_suppression:
        own = mil.unsqueeze(mil.op("ArgMax", scores, axis=2, keepdims=0), 1)
        numbers = mil.ints(list(range(classes)), "classes")
        lists = mil.op("Where", mil.op("Equal", own, mil.unsqueeze(numbers, 0, 2)), lists, nothing)
    least = score_threshold if score_threshold is not None else float(np.finfo(np.float32).min)
    picked = mil.op(
        "NonMaxSuppression",
        boxes,
        lists,
        mil.ints([max_boxes], "most"),
        mil.builder.constant(np.array([iou_threshold], np.float32), "iou_threshold"),
        mil.builder.constant(np.array([least], np.float32), "score_threshold"),
        center_point_box=1,
    )
    places = mil.op("Gather", picked, mil.ints([0, 2], "columns"), axis=1)
    empty = mil.op("Expand", nothing, mil.op("Shape", best))
    kept = mil.op("ScatterND", empty, places, mil.op("GatherND", best, places))
    return _filled(mil, boxes, scores, best, kept, max_boxes, count, old)


def _filled(
    mil: Mil, boxes: ir.Value, scores: ir.Value, best: ir.Value, kept: ir.Value, most: int, count: int, old: bool
) -> list[ir.Value]:
    """The boxes that are kept, sorted by score, and zeros behind them; their scores, their numbers, and how many."""
    above = mil.op("Greater", kept, mil.scalar(-np.inf, kept, "nothing"))
    found = mil.op("ReduceSum", mil.cast(above, ir.DataType.INT64), mil.ints([1], "axes"), keepdims=1)
    none = mil.op("Equal", found, mil.ints([0], "zero"))
    take = min(most, count)
    _, order = mil.ops("TopK", mil.op("Where", none, best, kept), mil.ints([take], "k"), outputs=2, axis=1)
    found = mil.op("Min", mil.op("Max", found, mil.ints([1], "one")), mil.ints([most], "most"))  # (batch, 1)
    there = mil.op("Less", mil.ints(list(range(take)), "places"), found)  # (batch, take)
    results = []
    for values in (boxes, scores):
        rows = mil.op("GatherND", values, mil.unsqueeze(order, 2), batch_dims=1)
        results.append(mil.op("Where", mil.unsqueeze(there, 2), rows, mil.scalar(0, rows, "zero")))
    results.append(mil.op("Where", there, order, mil.ints([-1], "no_box")))
    if most > take:
        axes = mil.ints([1], "axes")
        behind = mil.ints([0, most - take], "pads")
        for i, (value, number) in enumerate(zip(results, (0, 0, -1), strict=True)):
            results[i] = mil.op("Pad", value, behind, mil.scalar(number, value, "fill"), axes)
    if not old:
        return [*(mil.op("Transpose", one, perm=[0, 2, 1]) for one in results[:2]), results[2]]
    return [*results, mil.squeeze(found, 1)]
