"""Poolings of two and of three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.ops.conv import _mode, borders, same_pads

__all__: list[str] = []

Pads = tuple[list[int], list[int]]


def _pooled(
    net: Context, x: ir.Value, kind: str, kernel: Sequence[int], step: Sequence[int], pads: Pads, exclude: bool
) -> ir.Value:
    """Windows that lie in the padded input; `exclude`: an average is that of the numbers that are no pads."""
    attributes: dict[str, Any] = {
        "kernel_shape": list(kernel),
        "strides": list(step) if any(s != 1 for s in step) else None,
        "pads": [*pads[0], *pads[1]] if any(pads[0]) or any(pads[1]) else None,
    }
    if any(p >= k for side in pads for p, k in zip(side, kernel, strict=True)):
        raise Refusal("it pads by as much as its window, which ONNX Runtime refuses")
    if kind == "MAX":
        return net.op("MaxPool", x, **attributes)
    included = None if exclude or attributes["pads"] is None else 1
    if kind == "AVERAGE":
        return net.op("AveragePool", x, count_include_pad=included, **attributes)
    return net.op("LpPool", x, p=2, **attributes)


def _same(net: Context, x: ir.Value, kernel: Sequence[int], step: Sequence[int], mode: str) -> Pads:
    totals = []
    for axis, (k, s) in enumerate(zip(kernel, step, strict=True), 2):
        size = net.size(x, axis) if s != 1 else 0
        totals.append(k - 1 if s == 1 else max((-(-size // s) - 1) * s + k - size, 0))
    return same_pads(totals, mode)


@layer("pooling")
def pooling(
    net: Context,
    x: ir.Value,
    *,
    type: str,
    kernelSize: Sequence[int],
    stride: Sequence[int],
    valid: Any,
    same: Any,
    includeLastPixel: Any,
    avgPoolExcludePadding: bool,
    globalPooling: bool,
) -> ir.Value:
    flat, back = net.as_rank(x, 4)
    if globalPooling:
        if type == "L2":
            return back(net.op("GlobalLpPool", flat, p=2))
        return back(net.op("GlobalMaxPool" if type == "MAX" else "GlobalAveragePool", flat))
    kernel = [int(k) for k in kernelSize] or [3, 3]
    step = [int(s) for s in stride] or [1, 1]
    net.require(len(kernel) == len(step) == 2 and min([*kernel, *step]) >= 1, f"its window is {kernel} by {step}")
    if same is not None:
        pads = _same(net, flat, kernel, step, _mode(same))
    elif includeLastPixel is not None:
        return back(_last_included(net, flat, type, kernel, step, includeLastPixel, avgPoolExcludePadding))
    else:
        net.require(valid is not None, "it does not say how it pads")
        pads = borders(net, valid.paddingAmounts, 2)
    return back(_pooled(net, flat, type, kernel, step, pads, avgPoolExcludePadding))


def _last_included(
    net: Context, x: ir.Value, kind: str, kernel: Sequence[int], step: Sequence[int], padding: Any, exclude: bool
) -> ir.Value:
    """As in Caffe: the last window may reach beyond the pads, if it begins inside of the input or of the first pads.

    An average counts the pads, if it counts them, but not what is beyond.
    """
    margin = [int(p) for p in padding.paddingAmounts] or [0, 0]
    net.require(len(margin) == 2, f"its pads are {margin}")
    behind, shares = list(margin), []
    for i in range(2):
        size = net.size(x, 2 + i)
        count = -(-(size + 2 * margin[i] - kernel[i]) // step[i]) + 1
        if any(margin) and (count - 1) * step[i] >= size + margin[i]:
            count -= 1
        net.require(count >= 1, f"a window of {kernel[i]} does not fit into {size} numbers")
        behind[i] = (count - 1) * step[i] + kernel[i] - size - margin[i]
        starts = np.arange(count) * step[i]
        shares.append(np.minimum(starts + kernel[i], size + 2 * margin[i]) - starts)
        if behind[i] < 0:
            behind[i] = 0
    if kind == "AVERAGE" and not exclude:
        y = _pooled(net, x, kind, kernel, step, (margin, behind), False)
        counted = np.outer(shares[0], shares[1]).astype(np.float32)
        by = np.float32(kernel[0] * kernel[1]) / counted
        return y if np.all(by == 1) else net.op("Mul", y, net.number(by, "shares"))
    return _pooled(net, x, kind, kernel, step, (margin, behind), exclude)


@layer("pooling3d")
def pooling3d(
    net: Context,
    x: ir.Value,
    *,
    type: str,
    kernelDepth: int,
    kernelHeight: int,
    kernelWidth: int,
    strideDepth: int,
    strideHeight: int,
    strideWidth: int,
    paddingType: str,
    customPaddingFront: int,
    customPaddingBack: int,
    customPaddingTop: int,
    customPaddingBottom: int,
    customPaddingLeft: int,
    customPaddingRight: int,
    countExcludePadding: bool,
) -> ir.Value:
    flat, back = net.as_rank(x, 5)
    kernel = [kernelDepth, kernelHeight, kernelWidth]
    step = [strideDepth or 1, strideHeight or 1, strideWidth or 1]
    net.require(min([*kernel, *step]) >= 1, f"its window is {kernel} by {step}")
    before = [customPaddingFront, customPaddingTop, customPaddingLeft]
    behind = [customPaddingBack, customPaddingBottom, customPaddingRight]
    if paddingType != "CUSTOM" and any([*before, *behind]):
        raise Refusal(f"it has pads of its own and the padding {paddingType}")
    pads = (before, behind)
    if paddingType == "SAME":
        pads = _same(net, flat, kernel, step, "BOTTOM_RIGHT_HEAVY")
    return back(_pooled(net, flat, type, kernel, step, pads, countExcludePadding))


@layer("globalPooling3d")
def global_pooling3d(net: Context, x: ir.Value, *, type: str) -> ir.Value:
    flat, back = net.as_rank(x, 5)
    return back(net.op("GlobalMaxPool" if type == "MAX" else "GlobalAveragePool", flat))
