"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import onnx_ir as ir

from exporters.cntk import layers
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import maximum, pad, power, reduce, slices, times, unary
from exporters.cntk.net import Tensor, Variable
from exporters.cntk.ops.table import OPS
from exporters.constants import Array
from hub.errors import Refusal

__all__: list[str] = []


class _Geometry:
    """Windows over the spatial axes: `pads` as ONNX says, `around` with what the last windows reach beyond."""

    def __init__(
        self,
        emit: Emitter,
        source: Tensor,
        kernel: Sequence[int],
        strides: Sequence[int] | None,
        pads: Sequence[int] | None,
        dilations: Sequence[int] | None,
        auto_pad: str,
    ) -> None:
        count = len(kernel)
        if auto_pad not in ("NOTSET", "VALID"):
            raise Refusal("padding whose size is not known")
        given = pads if pads and auto_pad != "VALID" else [0] * (2 * count)
        self.kernel, self.strides = list(kernel), list(strides or [1] * count)
        self.dilations = list(dilations or [1] * count)
        self.sizes = emit.fixed(source.shape[2:])
        self.outputs = emit.fixed(emit.result()[2:])
        self.pads = list(zip(given[:count], given[count:], strict=True))
        reach = [
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(self.outputs, self.strides, self.kernel, self.dilations, strict=True)
        ]
        everything = zip(self.sizes, self.pads, self.kernel, self.dilations, self.outputs, self.strides, strict=True)
        for size, (before, behind), window, dilation, outputs, stride in everything:
            if (window - 1) * dilation >= size + before + behind or (outputs - 1) * stride >= size + before:
                raise Refusal("a window that begins behind the input, or is larger than it: ONNX Runtime has none")
        # A last window may end before the padding does, or, with ceil_mode, beyond it.
        self.around = [
            (before, max(0, r - n - before)) for (before, _), n, r in zip(self.pads, self.sizes, reach, strict=True)
        ]

    def misses(self) -> bool:
        """Whether some window takes nothing of the input."""
        everything = zip(self.outputs, self.strides, self.kernel, self.dilations, self.sizes, self.pads, strict=True)
        return any(
            not any(0 <= place * stride - before + k * dilation < size for k in range(kernel))
            for outputs, stride, kernel, dilation, size, (before, _) in everything
            for place in range(outputs)
        )


@OPS("MaxPool")
def max_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    storage_order: int,
    strides: list[int] | None,
) -> Tensor:
    """C.pad with minus infinity and C.pooling; dilated, the greatest of slices."""
    source = emit.images(x, len(kernel_shape))
    geometry = _Geometry(emit, source, kernel_shape, strides, pads, dilations, auto_pad)
    v = source.variable
    if geometry.misses():
        raise Refusal("windows that lie outside of the input")
    if any(d > 1 for d in geometry.dilations):
        return emit.like(source, _dilated(emit, v, geometry))
    return emit.like(source, layers.max_pooling(emit, v, kernel_shape, geometry.strides, geometry.around))


def _dilated(emit: Emitter, v: Variable, geometry: _Geometry) -> Variable:
    """The greatest of the slices that each element of a window takes."""
    around = pad(emit, v, [(0, 0), *geometry.around], float("-inf"))
    result: Variable | None = None
    for place in product(*(range(k) for k in geometry.kernel)):
        piece = around
        steps = zip(place, geometry.dilations, geometry.strides, geometry.outputs, strict=True)
        for axis, (index, dilation, stride, count) in enumerate(steps, 1):
            start = index * dilation
            piece = slices(emit, piece, axis, start, start + (count - 1) * stride + 1, stride)
        result = piece if result is None else maximum(emit, result, piece)
    assert result is not None
    return result


@OPS("AveragePool")
def average_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    count_include_pad: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> Tensor:
    """C.pad with zeros and C.pooling; times a constant where the padding does not count."""
    source = emit.images(x, len(kernel_shape))
    geometry = _Geometry(emit, source, kernel_shape, strides, pads, dilations, auto_pad)
    if any(d > 1 for d in geometry.dilations):
        raise Refusal("dilated windows")
    ratio = _ratio(geometry, bool(count_include_pad))
    result = layers.average_pooling(
        emit, source.variable, kernel_shape, geometry.strides, geometry.around, None if (ratio == 1).all() else ratio
    )
    return emit.like(source, result)


def _ratio(geometry: _Geometry, padding_counts: bool) -> Array:
    """The size of a window by that part of it which counts, by position."""
    result: Array = np.ones((), np.float64)
    everything = zip(geometry.sizes, geometry.kernel, geometry.strides, geometry.outputs, geometry.pads, strict=True)
    for size, kernel, stride, outputs, (before, behind) in everything:
        first, last = (-before, size + behind) if padding_counts else (0, size)
        starts = np.arange(outputs) * stride - before
        inside = np.minimum(starts + kernel, last) - np.maximum(starts, first)
        if (inside < 1).any():
            raise Refusal("windows that lie outside of the input")
        result = result[..., None] * (kernel / inside)
    return result


def _spatial(emit: Emitter, x: ir.Value) -> tuple[Tensor, list[int]]:
    source = emit.images(x)
    return source, list(range(1, source.variable.rank))


@OPS("GlobalAveragePool")
def global_average_pool(emit: Emitter, x: ir.Value) -> Tensor:
    """C.reduce_mean."""
    source, axes = _spatial(emit, x)
    return emit.like(source, reduce(emit, source.variable, "Mean", axes))


@OPS("GlobalMaxPool")
def global_max_pool(emit: Emitter, x: ir.Value) -> Tensor:
    """C.reduce_max."""
    source, axes = _spatial(emit, x)
    return emit.like(source, reduce(emit, source.variable, "Max", axes))


@OPS("GlobalLpPool")
def global_lp_pool(emit: Emitter, x: ir.Value, *, p: int) -> Tensor:
    """(sum of |x| ** p) ** (1 / p)."""
    source, axes = _spatial(emit, x)
    raised = power(emit, unary(emit, "Abs", source.variable), float(p))
    return emit.like(source, power(emit, reduce(emit, raised, "Sum", axes), 1.0 / p))


@OPS("LpPool")
def lp_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    p: int,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Tensor:
    """(size of the window * mean of |x| ** p) ** (1 / p)."""
    source = emit.images(x, len(kernel_shape))
    geometry = _Geometry(emit, source, kernel_shape, strides, pads, dilations, auto_pad)
    if any(d > 1 for d in geometry.dilations):
        raise Refusal("dilated windows")
    raised = power(emit, unary(emit, "Abs", source.variable), float(p))
    mean = layers.average_pooling(emit, raised, kernel_shape, geometry.strides, geometry.around)
    return emit.like(source, power(emit, times(emit, mean, float(np.prod(kernel_shape))), 1.0 / p))
