"""SSD's layers: prior boxes, and the detections that are left of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer

__all__: list[str] = []

MOST_PRIORS = 1 << 24
LOWEST = float(np.finfo(np.float32).min)


@layer("PriorBox", param="prior_box_param", words=True)
def prior_box(
    caffe: Context,
    x: ir.Value,
    image: ir.Value | None = None,
    *,
    min_size: Sequence[float] = (),
    max_size: Sequence[float] = (),
    aspect_ratio: Sequence[float] = (),
    flip: bool = True,
    clip: bool = False,
    variance: Sequence[float] = (),
    img_size: int | None = None,
    img_h: int | None = None,
    img_w: int | None = None,
    step: float | None = None,
    step_h: float | None = None,
    step_w: float | None = None,
    offset: float = 0.5,
) -> ir.Value:
    """Boxes around each place of the first bottom, as parts of the image, and their variances: constants.

    SSD cuts sizes off to whole numbers.
    """
    caffe.require(bool(min_size) and min(min_size) > 0, "min_size is needed, and positive")
    caffe.require(len(max_size) in (0, len(min_size)), "max_size is there for each min_size, or not at all")
    caffe.require(all(b > a for a, b in zip(min_size, max_size, strict=False)), "max_size is above min_size")
    caffe.require(len(variance) in (0, 1, 4) and min([*variance, 1]) > 0, "variance is one number or four, positive")
    caffe.require(img_size is None or (img_h is None and img_w is None), "the size of the image is given twice")
    caffe.require(step is None or (step_h is None and step_w is None), "step is given twice")
    caffe.require(min([*aspect_ratio, 1]) > 0, "an aspect_ratio is positive")
    height, width = caffe.size(x, 2), caffe.size(x, 3)
    tall, wide = (img_size, img_size) if img_size is not None else (img_h, img_w)
    if not tall or not wide:
        caffe.require(image is not None, "neither a second bottom nor img_size tells the size of the image")
        assert image is not None
        tall, wide = caffe.size(image, 2), caffe.size(image, 3)
    down, right = (step, step) if step is not None else (step_h, step_w)
    if not down or not right:
        down, right = float(np.float32(tall / height)), float(np.float32(wide / width))
    sizes = _box_sizes(min_size, max_size, aspect_ratio, flip)
    caffe.require(height * width * len(sizes) * 8 <= MOST_PRIORS, f"{height * width * len(sizes)} boxes are too many")

    center_x = ((np.arange(width, dtype=np.float32) + np.float32(offset)) * np.float32(right)).astype(np.float64)
    center_y = ((np.arange(height, dtype=np.float32) + np.float32(offset)) * np.float32(down)).astype(np.float64)
    boxes = np.zeros((height, width, len(sizes), 4), np.float64)
    half = sizes.astype(np.float64) / 2
    boxes[..., 0] = (center_x[None, :, None] - half[:, 0]) / wide
    boxes[..., 1] = (center_y[:, None, None] - half[:, 1]) / tall
    boxes[..., 2] = (center_x[None, :, None] + half[:, 0]) / wide
    boxes[..., 3] = (center_y[:, None, None] + half[:, 1]) / tall
    flat = boxes.astype(np.float32).reshape(-1, 4)
    if clip:
        flat = np.clip(flat, 0, 1)
    spread = np.broadcast_to(np.array(variance or [0.1], np.float32), flat.shape)
    return caffe.constant(np.stack([flat, spread]).reshape(1, 2, -1), "boxes")


def _box_sizes(
    min_size: Sequence[float], max_size: Sequence[float], aspect_ratio: Sequence[float], flip: bool
) -> npt.NDArray[np.float32]:
    """(width, height) of the boxes of one place, in SSD's order."""
    ratios: list[float] = [1.0]
    for ratio in aspect_ratio:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, float(np.float32(1 / ratio))] if flip else [ratio]
    sizes: list[tuple[float, float]] = []
    for number, exact in enumerate(min_size):
        small = int(exact)
        sizes.append((small, small))
        if max_size:
            between = math.sqrt(small * int(max_size[number]))
            sizes.append((between, between))
        sizes += [(small * math.sqrt(r), small / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    return np.array(sizes, np.float32)


@layer("DetectionOutput", param="detection_output_param", words=True)
def detection_output(
    caffe: Context,
    location: ir.Value,
    confidence: ir.Value,
    prior: ir.Value,
    *,
    num_classes: int = 0,
    share_location: bool = True,
    background_label_id: int = 0,
    nms_param: Any = None,
    save_output_param: Any = None,
    code_type: str = "CORNER",
    keep_top_k: int = -1,
    variance_encoded_in_target: bool = False,
    confidence_threshold: float = LOWEST,
    visualize: bool = False,
    visualize_threshold: float = 0.6,
    save_file: str = "",
) -> ir.Value:
    """Rows of image, label, confidence, xmin, ymin, xmax, ymax; files that SSD writes beside are not written."""
    caffe.require(num_classes > 0, "num_classes is needed")
    eta = 1.0 if nms_param is None else nms_param.eta
    overlap = float(np.float32(0.3)) if nms_param is None else nms_param.nms_threshold
    top_k = nms_param.top_k if nms_param is not None and nms_param.HasField("top_k") else -1
    caffe.require(overlap >= 0 and 0 < eta <= 1, "nms_threshold is not negative, eta lies in 0 to 1")
    if eta < 1:
        raise Refusal(f"a threshold that changes from box to box (eta {eta:g}) is not supported")
    if visualize:
        raise Refusal("visualize opens windows")
    if overlap > 1 or top_k == 0 or keep_top_k == 0:
        raise Refusal("nms_threshold above 1, and top_k or keep_top_k of 0, are not supported")
    labels = [label for label in range(num_classes) if label != background_label_id]
    caffe.require(bool(labels), "there is no class but the background")
    count = caffe.size(prior, 2) // 4
    per_class = 1 if share_location else num_classes
    width = math.prod(caffe.sizes(location, 1))
    caffe.require(width == count * per_class * 4, f"{width} locations do not fit {count} priors of {per_class} classes")
    width = math.prod(caffe.sizes(confidence, 1))
    caffe.require(
        width == count * num_classes, f"{width} confidences do not fit {count} priors of {num_classes} classes"
    )

    boxes = _decoded(caffe, location, prior, count, per_class, code_type, variance_encoded_in_target)
    scores = caffe.op("Transpose", caffe.reshape(confidence, [0, count, num_classes]), perm=[0, 2, 1])
    if len(labels) < num_classes:
        chosen = caffe.ints(labels, "labels")
        scores = caffe.op("Gather", scores, chosen, axis=1)
        if not share_location:
            boxes = caffe.op("Gather", boxes, chosen, axis=1)
    # From here on every class of every image is by itself: its candidates, then those that do not overlap.
    scores = caffe.reshape(scores, [-1, count])
    if share_location:
        repeats = caffe.ints([1, len(labels), 1, 1], "classes")
        boxes = caffe.op("Tile", boxes, repeats)
    boxes = caffe.reshape(boxes, [-1, count, 4])
    if 0 < top_k < count:
        scores, places = caffe.builder.ops("TopK", scores, caffe.ints([top_k], "top_k"), outputs=2, axis=1)
        boxes = caffe.op("GatherND", boxes, caffe.op("Unsqueeze", places, caffe.ints([2], "last")), batch_dims=1)
        count = top_k
    selected = _suppressed(caffe, boxes, scores, count, overlap, confidence_threshold)
    group, place = caffe.builder.ops(
        "Split",
        caffe.op("Gather", selected, caffe.ints([0, 2], "columns"), axis=1),
        caffe.ints([1, 1], "parts"),
        outputs=2,
        axis=1,
    )
    group, place = caffe.reshape(group, [-1]), caffe.reshape(place, [-1])
    flat = caffe.op("Add", caffe.op("Mul", group, caffe.ints(count, "count")), place)
    image = caffe.op("Div", group, caffe.ints(len(labels), "classes"))
    label = caffe.op(
        "Gather", caffe.ints(labels, "labels"), caffe.op("Mod", group, caffe.ints(len(labels), "classes")), axis=0
    )
    score = caffe.op("Gather", caffe.reshape(scores, [-1]), flat, axis=0)
    columns = [caffe.op("Cast", value, to=ir.DataType.FLOAT.value) for value in (image, label)] + [score]
    columns = [caffe.reshape(value, [-1, 1]) for value in columns]
    rows = caffe.op("Concat", *columns, caffe.op("Gather", caffe.reshape(boxes, [-1, 4]), flat, axis=0), axis=1)
    if 0 < keep_top_k < len(labels) * count:
        rows = _best(caffe, rows, image, score, caffe.size(location, 0), keep_top_k)
    return _rows_or_none(caffe, rows, caffe.size(location, 0))


def _decoded(
    caffe: Context,
    location: ir.Value,
    prior: ir.Value,
    count: int,
    per_class: int,
    code_type: str,
    variance_encoded_in_target: bool,
) -> ir.Value:
    """(N, classes, priors, 4): corners of the boxes."""
    halves = caffe.ints([1, 1], "halves")
    box, variance = caffe.builder.ops("Split", caffe.reshape(prior, [2, count, 4]), halves, outputs=2, axis=0)
    x = caffe.op("Transpose", caffe.reshape(location, [0, count, per_class, 4]), perm=[0, 2, 1, 3])
    if not variance_encoded_in_target:
        x = caffe.op("Mul", x, variance)
    if code_type == "CORNER":
        return caffe.op("Add", box, x)
    pairs = caffe.ints([2, 2], "pairs")
    low, high = caffe.builder.ops("Split", box, pairs, outputs=2, axis=2)
    size = caffe.op("Sub", high, low)
    first, second = caffe.builder.ops("Split", x, pairs, outputs=2, axis=3)
    if code_type == "CORNER_SIZE":
        corners = [
            caffe.op("Add", corner, caffe.op("Mul", part, size)) for corner, part in ((low, first), (high, second))
        ]
        return caffe.op("Concat", *corners, axis=3)
    two = caffe.constant(2.0, "two")
    center = caffe.op("Add", caffe.op("Mul", first, size), caffe.op("Div", caffe.op("Add", low, high), two))
    half = caffe.op("Div", caffe.op("Mul", caffe.op("Exp", second), size), two)
    return caffe.op("Concat", caffe.op("Sub", center, half), caffe.op("Add", center, half), axis=3)


def _suppressed(
    caffe: Context, boxes: ir.Value, scores: ir.Value, count: int, overlap: float, threshold: float
) -> ir.Value:
    """(n, 3): group, 0, place; in the order of groups, in each the best first.

    A box whose corners are the wrong way round overlaps nothing in SSD: here it gets no area.
    """
    low, high = caffe.builder.ops("Split", boxes, caffe.ints([2, 2], "corners"), outputs=2, axis=2)
    upright = caffe.op("Concat", low, caffe.op("Max", low, high), axis=2)
    return caffe.op(
        "NonMaxSuppression",
        upright,
        caffe.op("Unsqueeze", scores, caffe.ints([1], "axis")),
        caffe.ints([count], "most"),
        caffe.constant([overlap], "overlap"),
        caffe.constant([threshold], "threshold"),
    )


def _best(caffe: Context, rows: ir.Value, image: ir.Value, score: ir.Value, images: int, keep: int) -> ir.Value:
    """The `keep` best rows of each image, in the order that they have."""
    kept = []
    for number in range(images):
        own = caffe.op("NonZero", caffe.op("Equal", image, caffe.ints(number, "image")))
        own = caffe.reshape(own, [-1])
        most = caffe.op("Min", caffe.op("Shape", own), caffe.ints([keep], "keep"))
        own_scores = caffe.op("Gather", score, own, axis=0)
        _, best = caffe.builder.ops("TopK", own_scores, most, outputs=2, axis=0)
        in_order, _ = caffe.builder.ops("TopK", best, most, outputs=2, axis=0, largest=0)
        kept.append(caffe.op("Gather", own, in_order, axis=0))
    places = kept[0] if images == 1 else caffe.op("Concat", *kept, axis=0)
    return caffe.op("Gather", rows, places, axis=0)


def _rows_or_none(caffe: Context, rows: ir.Value, images: int) -> ir.Value:
    """(1, 1, n, 7); where nothing was found at all, for each image a row of its number and -1."""
    nothing = np.full((images, 7), -1, np.float32)
    nothing[:, 0] = np.arange(images)
    found = caffe.op("Gather", caffe.op("Shape", rows), caffe.ints([0], "first"), axis=0)
    zero = caffe.ints([0], "zero")
    end = caffe.op("Where", caffe.op("Greater", found, zero), found, caffe.ints([images], "images"))
    both = caffe.op("Concat", rows, caffe.constant(nothing, "nothing"), axis=0)
    return caffe.reshape(caffe.op("Slice", both, zero, end, zero), [1, 1, -1, 7])
