"""Convolutions.

Caffe pads both ends alike. Where the ends differ there are two exact forms, and the cheaper one is
chosen: a kernel enlarged by zeros, so that equal pads P do; or pads P with P = begin modulo the stride,
of which the output from (P - begin) / stride on is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob, Size
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import slices
from exporters.constants import Constant, elements
from hub.errors import Refusal

__all__ = ["crop", "kernel_fields", "spatial_fields", "widened"]

ENLARGE = 32
"""Multiplications per output element up to which zeros in the kernel are cheaper than a copy of the output."""


def crop(emit: Emitter, x: Blob, starts: Sequence[int], sizes: Sequence[int], first: int = 2) -> Blob:
    """x[..., start : start + size, ...] on the axes from `first` on; nothing where that is all of it."""
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        axis = first + number
        total = emit.fixed(x.shape, axis)[0]
        points = [p for p in (start, start + size) if 0 < p < total]
        pieces = slices(emit, x, axis, points, f"crop_{'hw'[number] if len(sizes) == 2 else number}")
        x = pieces[1 if start else 0]
    return x


def spatial_fields(name: str, values: Sequence[int], default: int) -> dict[str, Any]:
    """`stride`, `pad` or `dilation` of a convolution: one number where all are the same, none for the default."""
    if all(value == default for value in values):
        return {}
    if len(set(values)) == 1:
        return {name: [values[0]]}
    if len(values) == 2 and name != "dilation":
        return {f"{name}_h": values[0], f"{name}_w": values[1]}
    return {name: list(values)}


def kernel_fields(kernel: Sequence[int]) -> dict[str, Any]:
    """`kernel_size`, or `kernel_h` and `kernel_w`."""
    if len(set(kernel)) == 1:
        return {"kernel_size": [kernel[0]]}
    if len(kernel) == 2:
        return {"kernel_h": kernel[0], "kernel_w": kernel[1]}
    return {"kernel_size": list(kernel)}


def widened(weight: Constant, margins: Sequence[tuple[int, int]]) -> Constant:
    """The kernel with rows of zeros before and behind, by spatial axis."""
    if not any(before or behind for before, behind in margins):
        return weight
    widths = [(0, 0), (0, 0), *margins]
    shape = tuple(size + sum(width) for size, width in zip(weight.shape, widths, strict=True))
    return weight.viewed(lambda array: np.pad(array, widths), shape, f"padded{widths}")


def _geometry(
    emit: Emitter, x: Blob, weight: Constant, strides: list[int] | None, dilations: list[int] | None
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Sizes, kernel, strides and dilations by spatial axis."""
    kernel = list(weight.shape[2:])
    count = len(kernel)
    if x.rank != count + 2 or not count:
        raise Refusal(f"a kernel of {count} axes on an input of {x.rank}")
    return emit.fixed(x.shape, 2), kernel, strides or [1] * count, dilations or [1] * count


@OPS("Conv")
def conv(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None,
    *,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Blob:
    """Convolution; unequal pads by zeros in the kernel, or by larger pads and a Slice."""
    source, weight = emit.blob(x), emit.weight(w, "its kernel")
    sizes, kernel, stride, dilation = _geometry(emit, source, weight, strides, dilations)
    count = len(kernel)
    outputs = emit.fixed(emit.result(), 2)
    if source.shape[1] != weight.shape[1] * group:
        raise Refusal(f"a kernel of {weight.shape[1]} channels in {group} groups on an input of {source.shape[1]}")
    if auto_pad not in ("NOTSET", "VALID"):
        raise Refusal("padding whose size is not known")
    given = [0] * (2 * count) if pads is None or auto_pad == "VALID" else pads
    ends = list(zip(given[:count], given[count:], strict=True))
    if any(begin < 0 or end < 0 for begin, end in ends):
        raise Refusal("negative pads")
    pad, margins, starts = _plan(ends, sizes, outputs, kernel, stride, dilation, weight)
    weight = widened(weight, margins)
    kernel = list(weight.shape[2:])
    full = [
        (n + 2 * p - (k - 1) * d - 1) // s + 1
        for n, p, k, s, d in zip(sizes, pad, kernel, stride, dilation, strict=True)
    ]
    result = _layer(emit, "Convolution", source, weight, b, weight.shape[0], full, stride, pad, dilation, group)
    return crop(emit, result, starts, outputs)


def _layer(
    emit: Emitter,
    kind: str,
    source: Blob,
    weight: Constant,
    b: ir.Value | None,
    channels: int,
    sizes: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int,
) -> Blob:
    """A Convolution or Deconvolution that gives `channels` of the spatial `sizes`."""
    parameters: dict[str, Any] = {"num_output": channels}
    if b is None:
        parameters["bias_term"] = False
    parameters |= kernel_fields(weight.shape[2:]) | spatial_fields("stride", stride, 1)
    parameters |= spatial_fields("pad", pad, 0) | spatial_fields("dilation", dilation, 1)
    parameters |= {"group": group} if group != 1 else {}
    blobs = [weight] if b is None else [weight, emit.weight(b, "its bias")]
    shape: tuple[Size, ...] = (source.shape[0], channels, *sizes)
    return emit.layer(kind, [source], shape, "", blobs, convolution_param=parameters)


def _plan(
    ends: list[tuple[int, int]],
    sizes: list[int],
    outputs: list[int],
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    weight: Constant,
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Pads, zeros around the kernel, and where the output begins, by axis."""
    enlarged = [_margins(b, e, d) for (b, e), d in zip(ends, dilation, strict=True)]
    if all(plan is not None for plan in enlarged):
        plans = [plan for plan in enlarged if plan is not None]
        taps = elements([k + front + behind for k, (_, front, behind) in zip(kernel, plans, strict=True)])
        if weight.shape[1] * (taps - elements(kernel)) <= ENLARGE:
            return [p for p, _, _ in plans], [(front, behind) for _, front, behind in plans], [0] * len(kernel)
    pads, starts = [], []
    for (begin, _), n, out, k, s, d in zip(ends, sizes, outputs, kernel, stride, dilation, strict=True):
        pad = begin
        while (n + 2 * pad - (k - 1) * d - 1) // s + 1 < (pad - begin) // s + out:
            pad += s
        pads.append(pad)
        starts.append((pad - begin) // s)
    return pads, [(0, 0)] * len(kernel), starts


def _margins(begin: int, end: int, dilation: int) -> tuple[int, int, int] | None:
    """(pad, zeros in front, zeros behind) that are the same as the pads (begin, end), if there are any."""
    difference = end - begin
    if difference % dilation:
        return None
    taps = abs(difference) // dilation
    return (end, taps, 0) if difference > 0 else (begin, 0, taps)


@OPS("ConvTranspose")
def conv_transpose(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None,
    *,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Blob:
    """Deconvolution: its full output is s (n - 1) + (k - 1) d + 1 rows, of which pads take P off both ends.

    What is wanted begins at row `begin` and has the size of the node's output. P is the largest that leaves
    all of it; rows that the kernel does not reach (output_padding) are zeros at the end of the kernel.
    """
    source, weight = emit.blob(x), emit.weight(w, "its kernel")
    sizes, kernel, stride, dilation = _geometry(emit, source, weight, strides, dilations)
    outputs = emit.fixed(emit.result(), 2)
    if auto_pad == "NOTSET" and output_shape is None:
        begins = pads[: len(kernel)] if pads else [0] * len(kernel)
    else:
        extra = output_padding or [0] * len(kernel)
        geometry = zip(sizes, outputs, kernel, stride, dilation, extra, strict=True)
        totals = [_reach(n, k, s, d) + more - out for n, out, k, s, d, more in geometry]
        halves = {"VALID": [0] * len(kernel), "SAME_UPPER": [total // 2 for total in totals]}
        begins = halves.get(auto_pad, [total - total // 2 for total in totals])
    if any(begin < 0 for begin in begins):
        raise Refusal("negative pads")
    pad, margins, starts, full = [], [], [], []
    for n, out, begin, k, s, d in zip(sizes, outputs, begins, kernel, stride, dilation, strict=True):
        reach = _reach(n, k, s, d)
        taps = _zeros(reach, out, begin, d, weight.shape[1] * k)
        reach += taps * d
        p = max(0, min(begin, reach - begin - out))
        pad.append(p)
        margins.append((0, taps))
        starts.append(begin - p)
        full.append(reach - 2 * p)
    weight = widened(weight, margins)
    channels = weight.shape[1] * group
    result = _layer(emit, "Deconvolution", source, weight, b, channels, full, stride, pad, dilation, group)
    return crop(emit, result, starts, outputs)


def _reach(n: int, k: int, s: int, d: int) -> int:
    """The rows of a full transposed convolution."""
    return s * (n - 1) + (k - 1) * d + 1


def _zeros(reach: int, out: int, begin: int, d: int, cost: int) -> int:
    """Rows of zeros at the end of the kernel: for what it does not reach, or, where cheap, to make the pads equal."""
    exact = out + 2 * begin - reach
    if exact > 0 and exact % d == 0 and cost * (exact // d) <= ENLARGE:
        return exact // d
    return max(0, -(-(begin + out - reach) // d))
