"""Tensors of one number, and ranges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.ops.shape import ranked

__all__ = ["MOST_RANGE", "filled"]

MOST_RANGE = 1 << 26
"""Longest range of constants."""


def filled(net: Context, shape: ir.Value, value: float) -> ir.Value:
    """A tensor of this shape, of one number."""
    return ranked(net, net.op("Expand", net.number(value, "value"), shape), shape)


@layer("fillLike")
def fill_like(net: Context, x: ir.Value, *, value: float) -> ir.Value:
    return filled(net, net.op("Shape", x), value)


@layer("fillStatic")
def fill_static(net: Context, *, value: float, targetShape: Sequence[int]) -> ir.Value:
    return filled(net, net.ints([int(size) for size in targetShape], "shape"), value)


@layer("fillDynamic")
def fill_dynamic(net: Context, shape: ir.Value, *, value: float) -> ir.Value:
    return filled(net, net.int64(shape), value)


@layer("rangeStatic")
def range_static(net: Context, *, endValue: float, startValue: float, stepSizeValue: float) -> ir.Value:
    net.require(stepSizeValue != 0, "its step is 0")
    count = (endValue - startValue) / stepSizeValue
    net.require(np.isfinite(count) and count <= MOST_RANGE, f"it has {count} numbers")
    return net.op("Identity", net.number(np.arange(startValue, endValue, stepSizeValue), "range"))


@layer("rangeDynamic")
def range_dynamic(
    net: Context,
    end: ir.Value,
    start: ir.Value | None = None,
    step: ir.Value | None = None,
    *,
    startValue: float,
    stepSizeValue: float,
) -> ir.Value:
    """Start and step may be inputs."""
    first = net.number(startValue, "start") if start is None else net.reshape(start, [])
    by = net.number(stepSizeValue, "step") if step is None else net.reshape(step, [])
    return net.op("Range", first, net.reshape(end, []), by)
