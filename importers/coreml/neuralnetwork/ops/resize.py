"""Sizes of images: upsampling and resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer

__all__: list[str] = []

COORDINATES = {
    "STRICT_ALIGN_ENDPOINTS_MODE": "align_corners",
    "ALIGN_ENDPOINTS_MODE": "align_corners",
    "UPSAMPLE_MODE": "asymmetric",
    "ROI_ALIGN_MODE": "",  # ONNX has no such grid
}


@layer("upsample")
def upsample(
    net: Context,
    x: ir.Value,
    *,
    scalingFactor: Sequence[int],
    fractionalScalingFactor: Sequence[float],
    mode: str,
    linearUpsampleMode: str,
) -> ir.Value:
    """Factors that are not whole are those of the sizes that come of them."""
    factors = [float(f) for f in fractionalScalingFactor] or [float(f) for f in scalingFactor] or [1.0, 1.0]
    net.require(len(factors) == 2 and min(factors) > 0, f"its factors are {factors}")
    net.require(not (scalingFactor and fractionalScalingFactor), "its factors are given twice")
    flat, back = net.as_rank(x, 4)
    how = {"DEFAULT": "asymmetric", "ALIGN_CORNERS_TRUE": "align_corners", "ALIGN_CORNERS_FALSE": "half_pixel"}
    transformation = "asymmetric" if mode == "NN" else how[linearUpsampleMode]
    attributes = {"mode": "linear", "coordinate_transformation_mode": transformation}
    if mode == "NN":
        attributes |= {"mode": "nearest", "nearest_mode": "floor"}
    if all(factor.is_integer() for factor in factors):
        return back(net.op("Resize", flat, None, net.number([1, 1, *factors], "scales"), **attributes))
    if transformation == "asymmetric":
        raise Refusal(f"where it takes the numbers from is nowhere said for the factors {factors}")
    wanted = [math.floor(net.size(flat, 2 + i) * factor) for i, factor in enumerate(factors)]
    net.require(min(wanted) >= 1, f"it gives the size {wanted}")
    return back(net.op("Resize", flat, None, None, net.ints(wanted, "sizes"), axes=[2, 3], **attributes))


def sampling(mode: Any) -> str:
    """The name of a sampling method."""
    if mode is None:
        return "STRICT_ALIGN_ENDPOINTS_MODE"
    values = mode.DESCRIPTOR.fields_by_name["samplingMethod"].enum_type.values_by_number
    return str(values[mode.samplingMethod].name) if mode.samplingMethod in values else ""


@layer("resizeBilinear")
def resize_bilinear(net: Context, x: ir.Value, *, targetSize: Sequence[int], mode: Any) -> ir.Value:
    """A single number of ALIGN_ENDPOINTS_MODE is that of the middle."""
    target = [int(size) for size in targetSize] or [1, 1]
    method = sampling(mode)
    net.require(len(target) == 2 and min(target) >= 1 and method in COORDINATES, f"it resizes to {target}")
    flat, back = net.as_rank(x, 4)
    if method == "ROI_ALIGN_MODE":
        rows = net.number(_middles(net.size(flat, 2), target[0]), "rows")
        columns = net.number(_middles(net.size(flat, 3), target[1]).T, "columns")
        return back(net.op("MatMul", net.op("MatMul", rows, flat), columns))
    how = [COORDINATES[method]] * 2
    if method == "ALIGN_ENDPOINTS_MODE":
        how = ["half_pixel" if size == 1 else "align_corners" for size in target]
    if how[0] == how[1]:
        return back(_resized(net, flat, target, [2, 3], how[0]))
    return back(_resized(net, _resized(net, flat, target[:1], [2], how[0]), target[1:], [3], how[1]))


def _resized(net: Context, x: ir.Value, sizes: Sequence[int], axes: Sequence[int], how: str) -> ir.Value:
    wanted = net.ints(list(sizes), "sizes")
    return net.op("Resize", x, None, None, wanted, mode="linear", coordinate_transformation_mode=how, axes=list(axes))


def _middles(size: int, count: int) -> npt.NDArray[np.float64]:
    """The matrix that takes `size` numbers to those in the middle of `count` parts of the way from first to last."""
    places = np.clip((np.arange(count) + 0.5) * max(1, size - 1) / count, 0, size - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size))))
