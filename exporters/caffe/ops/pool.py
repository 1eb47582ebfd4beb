"""Poolings.

Caffe pads both ends by P < kernel, and its number of outputs is ceil((n + 2P - k) / s) + 1, less one if
there is any padding and the last window would begin at n + P or later. MAX ignores what is padded; AVE
divides by the window as far as it lies inside n + P, what is padded counted.

So any pooling is Caffe's with P = begin modulo the stride, of which the wanted outputs are kept, and for AVE
times the ratio of Caffe's divisor to the wanted one, where it is not 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import reduce
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob, Size
from exporters.caffe.ops.conv import crop
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import power, reshape, scale
from exporters.constants import Array, Constant, elements
from hub.errors import Refusal

Pair = tuple[int, int]


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
    strides: list[int] | None,
    storage_order: int,
) -> Blob:
    """Pooling MAX, and Slice where it rounds up too far; over three axes one over two, then one over the third."""
    return _pool(emit, emit.blob(x), "MAX", kernel_shape, strides, dilations, _ends(auto_pad, pads), False)


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
) -> Blob:
    """Pooling AVE as for MAX, then a Scale where Caffe divides by another number of pixels."""
    ends = _ends(auto_pad, pads)
    return _pool(emit, emit.blob(x), "AVE", kernel_shape, strides, dilations, ends, bool(count_include_pad))


def _ends(auto_pad: str, pads: list[int] | None) -> list[int] | None:
    if auto_pad not in ("NOTSET", "VALID"):
        raise Refusal("padding whose size is not known")
    return pads if auto_pad == "NOTSET" else None


@OPS("GlobalAveragePool")
def global_average_pool(emit: Emitter, x: ir.Value) -> Blob:
    """The mean over all spatial axes."""
    source = emit.blob(x)
    return reduce(emit, source, range(2, source.rank), "MEAN", emit.result())


@OPS("GlobalMaxPool")
def global_max_pool(emit: Emitter, x: ir.Value) -> Blob:
    """The maximum over all spatial axes."""
    source = emit.blob(x)
    return reduce(emit, source, range(2, source.rank), "MAX", emit.result())


def _pool(
    emit: Emitter,
    x: Blob,
    kind: str,
    kernel: list[int],
    strides: list[int] | None,
    dilations: list[int] | None,
    pads: list[int] | None,
    include: bool,
) -> Blob:
    count = len(kernel)
    if any(d != 1 for d in dilations or ()):
        raise Refusal("Caffe has no dilated pooling")
    if count > 3:
        raise Refusal(f"a pool over {count} axes")
    stride = strides or [1] * count
    ends = list(zip(pads[:count], pads[count:], strict=True)) if pads else [(0, 0)] * count
    if any(begin < 0 or end < 0 for begin, end in ends):
        raise Refusal("negative pads")
    outputs, final = emit.fixed(emit.result(), 2), emit.result()
    if count == 2:
        return pool2d(emit, x, kind, kernel, stride, ends, outputs, include)
    n, channels, *sizes = x.shape
    fixed = emit.fixed(x.shape)
    if count == 1:
        image = reshape(emit, x, (*x.shape, 1), "rows")
        flat = pool2d(emit, image, kind, [*kernel, 1], [*stride, 1], [*ends, (0, 0)], [*outputs, 1], include)
        return reshape(emit, flat, final, "result")
    depth = fixed[1]
    planes = reshape(emit, x, (n, fixed[0] * depth, *sizes[1:]), "planes")
    first = pool2d(emit, planes, kind, kernel[1:], stride[1:], ends[1:], outputs[1:], include)
    columns = reshape(emit, first, (n, channels, depth, elements(outputs[1:])), "columns")
    second = pool2d(
        emit,
        columns,
        kind,
        [kernel[0], 1],
        [stride[0], 1],
        [ends[0], (0, 0)],
        [outputs[0], elements(outputs[1:])],
        include,
        "depth",
    )
    return reshape(emit, second, final, "result")


def pool2d(
    emit: Emitter,
    x: Blob,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    ends: Sequence[Pair],
    outputs: Sequence[int],
    include: bool,
    role: str = "",
) -> Blob:
    """A pooling over the last two axes of an (N, C, H, W) blob, with ONNX's meaning."""
    sizes = emit.fixed(x.shape, 2)
    pad, full, floor = _plan(emit.dialect, sizes, kernel, stride, ends, outputs)
    parameters: dict[str, Any] = {"pool": kind}
    parameters |= _fields("kernel", "kernel_size", kernel, 0) | _fields("stride", "stride", stride, 1)
    parameters |= _fields("pad", "pad", pad, 0) | ({"round_mode": "FLOOR"} if floor else {})
    shape: tuple[Size, ...] = (*x.shape[:2], *full)
    result = emit.layer("Pooling", [x], shape, role, pooling_param=parameters)
    starts = [(p - begin) // s for p, (begin, _), s in zip(pad, ends, stride, strict=True)]
    result = crop(emit, result, starts, outputs)
    if kind == "AVE":
        ratios = [
            _ratio(n, k, s, p, end, out, start, include)
            for n, k, s, p, end, out, start in zip(sizes, kernel, stride, pad, ends, outputs, starts, strict=True)
        ]
        result = _times(emit, result, np.outer(*ratios))
    return result


def _fields(name: str, plain: str, values: Sequence[int], default: int) -> dict[str, int]:
    if values[0] == values[1]:
        return {} if values[0] == default else {plain: values[0]}
    return {f"{name}_h": values[0], f"{name}_w": values[1]}


def _plan(
    dialect: str,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    ends: Sequence[Pair],
    outputs: Sequence[int],
) -> tuple[list[int], list[int], bool]:
    """Pads, the sizes that Caffe then gives, and whether they are rounded down (BVLC after 1.0)."""
    pads = [begin for begin, _ in ends]
    floors = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(sizes, pads, kernel, stride, strict=True)]
    if dialect == "bvlc" and floors == list(outputs) and all(p < k for p, k in zip(pads, kernel, strict=True)):
        ceils = _given(sizes, kernel, stride, pads)
        return pads, floors, ceils != floors
    for axis in range(2):
        begin = pads[axis]
        while True:
            if pads[axis] >= kernel[axis]:
                raise Refusal("pads as large as its kernel")
            given = _given(sizes, kernel, stride, pads)[axis]
            if given >= (pads[axis] - begin) // stride[axis] + outputs[axis]:
                break
            pads[axis] += stride[axis]
    return pads, _given(sizes, kernel, stride, pads), False


def _given(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int]) -> list[int]:
    """Caffe's number of outputs."""
    result = []
    for n, k, s, p in zip(sizes, kernel, stride, pads, strict=True):
        out = math.ceil((n + 2 * p - k) / s) + 1
        if any(pads) and (out - 1) * s >= n + p:
            out -= 1
        result.append(out)
    return result


def _ratio(n: int, k: int, s: int, p: int, ends: Pair, out: int, start: int, include: bool) -> Array:
    """By output: Caffe's divisor over the wanted one."""
    begin, end = ends
    ratios = []
    for i in range(out):
        first = (i + start) * s - p
        caffe = min(first + k, n + p) - first
        first = i * s - begin
        wanted = min(first + k, n + end) - first if include else min(first + k, n) - max(first, 0)
        if wanted <= 0:
            raise Refusal("an average of nothing but padding")
        ratios.append(caffe / wanted)
    return np.array(ratios)


def _times(emit: Emitter, x: Blob, mask: Array) -> Blob:
    if np.all(mask == 1):
        return x
    if np.all(mask == mask.flat[0]):
        return power(emit, x, scale=float(mask.flat[0]), role="divisor")
    return scale(emit, x, Constant.of(mask.astype(np.float32)), 2, role="divisor")
