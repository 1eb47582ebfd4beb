"""Layers that move, cut, repeat or pad."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from importers.keras.layers import Context, layer
from importers.keras.ops.conv import Ints, spread

INT64_MAX = np.iinfo(np.int64).max


@layer("Flatten")
def flatten(keras: Context, x: ir.Value, *, data_format: str | None = None) -> ir.Value:
    """Keras flattens in channels-last order also where the data is channels first."""
    rank = len(keras.shape(x))
    if data_format == "channels_first" and rank > 2:
        x = keras.op("Transpose", x, perm=[0, *range(2, rank), 1])
    return keras.op("Flatten", x)


@layer("Reshape")
def reshape(keras: Context, x: ir.Value, *, target_shape: Sequence[int]) -> ir.Value:
    target = [int(size) for size in target_shape]
    if any(size < 1 and size != -1 for size in target) or target.count(-1) > 1:
        raise InvalidModel(f"{target} is not a shape")
    sizes = [size for size in keras.shape(x)[1:] if size is not None]
    if len(sizes) == len(keras.shape(x)) - 1:
        total, known = math.prod(sizes), math.prod(size for size in target if size != -1)
        if total % known or (-1 not in target and total != known):
            raise InvalidModel(f"{tuple(sizes)} cannot be reshaped to {tuple(target)}")
        target = [total // known if size == -1 else size for size in target]
    return keras.op("Reshape", x, keras.ints([0, *target], "shape"))


@layer("Permute")
def permute(keras: Context, x: ir.Value, *, dims: Sequence[int]) -> ir.Value:
    """`dims` counts from 1, the batch being axis 0."""
    return keras.op("Transpose", x, perm=[0, *(int(d) for d in dims)])


@layer("RepeatVector")
def repeat_vector(keras: Context, x: ir.Value, *, n: int) -> ir.Value:
    y = keras.op("Unsqueeze", x, keras.ints([1], "axes"))
    return keras.op("Tile", y, keras.ints([1, int(n), 1], "repeats"))


def _pairs(value: Any, n: int) -> list[tuple[int, int]]:
    """An amount for all sides, one for each axis, or a pair for each axis (for one axis also just the pair)."""
    if isinstance(value, int):
        sides = [(value, value)] * n
    elif n == 1 and len(value) == 2 and all(isinstance(v, int) for v in value):
        sides = [(value[0], value[1])]
    else:
        sides = [(v, v) if isinstance(v, int) else (v[0], v[1]) for v in value]
    if len(sides) != n or any(type(v) is not int or v < 0 for side in sides for v in side):
        raise InvalidModel(f"{str(value)[:40]} is not an amount for each side of {n} axes")
    return sides


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(keras: Context, x: ir.Value, *, padding: Any, data_format: str | None = "channels_last") -> ir.Value:
    x = keras.first(x, data_format)
    sides = _pairs(padding, len(keras.shape(x)) - 2)
    pads = [0, 0, *(b for b, _ in sides), 0, 0, *(e for _, e in sides)]
    return keras.last(keras.op("Pad", x, keras.ints(pads, "pads")), data_format)


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(keras: Context, x: ir.Value, *, cropping: Any, data_format: str | None = "channels_last") -> ir.Value:
    x = keras.first(x, data_format)
    sides = _pairs(cropping, len(keras.shape(x)) - 2)
    for axis, (begin, end) in enumerate(sides):
        size = keras.shape(x)[2 + axis]
        if size is not None and begin + end >= size:
            raise Refusal(f"it crops all of an axis of size {size}")
    starts = [begin for begin, _ in sides]
    ends = [-end if end else INT64_MAX for _, end in sides]
    axes = [2 + axis for axis in range(len(sides))]
    y = keras.op("Slice", x, keras.ints(starts, "starts"), keras.ints(ends, "ends"), keras.ints(axes, "axes"))
    return keras.last(y, data_format)


def _pixels(keras: Context) -> str:
    """Where the pixels of an image are: TensorFlow 1 put them on the corners of a grid, TensorFlow 2 into its cells."""
    release = keras.origin.release
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if keras.version >= 3 or numbers >= (2, 4):
        return "half_pixel"
    if not release.endswith("-tf"):
        return "asymmetric"
    if numbers >= (2, 3):
        return "half_pixel"
    raise Refusal(
        f"bilinear interpolation of tf.keras {release} means one thing in TensorFlow 1 and another in TensorFlow 2",
        "load the model with the TensorFlow that it is from, and save it with 2.3 or later",
    )


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(
    keras: Context,
    x: ir.Value,
    *,
    size: Ints,
    data_format: str | None = "channels_last",
    interpolation: str = "nearest",
) -> ir.Value:
    x = keras.first(x, data_format)
    factors = spread(size, len(keras.shape(x)) - 2)
    scales = keras.constant([1.0, 1.0, *map(float, factors)], "scales")
    if interpolation == "nearest":
        modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif interpolation == "bilinear":
        modes = {"mode": "linear", "coordinate_transformation_mode": _pixels(keras)}
    else:
        raise Refusal(f"interpolation {interpolation!r} is not supported yet")
    return keras.last(keras.op("Resize", x, None, scales, **modes), data_format)
