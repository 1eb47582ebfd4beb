"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.cntk import layers
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import reshape
from exporters.cntk.net import Tensor
from exporters.cntk.ops.table import OPS
from exporters.constants import Array, Constant
from hub.errors import Refusal

__all__ = ["spread"]


def spread(kernel: Constant, dilations: Sequence[int]) -> Constant:
    """A dilated kernel as a plain one, with zeros between: CNTK does not dilate on a CPU."""
    if all(d == 1 for d in dilations):
        return kernel
    shape = (*kernel.shape[:2], *((k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilations, strict=True)))

    def stuffed(array: Array) -> Array:
        result = np.zeros(shape, array.dtype)
        result[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = array
        return result

    return kernel.viewed(stuffed, shape, f"dilated{tuple(dilations)}")


def _pads(pads: list[int] | None, count: int) -> list[tuple[int, int]]:
    given = pads or [0] * (2 * count)
    return list(zip(given[:count], given[count:], strict=True))


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
) -> Tensor:
    """C.pad and C.convolution."""
    kernel = emit.given(w, "its kernel")
    count = len(kernel.shape) - 2
    source = emit.images(x, count)
    if auto_pad not in ("NOTSET", "VALID"):
        raise Refusal("padding whose size is not known")
    ends = _pads(None if auto_pad == "VALID" else pads, count)
    if any(end < 0 for pair in ends for end in pair):
        raise Refusal("negative pads")
    if source.shape[1] != kernel.shape[1] * group:
        raise Refusal(f"a kernel of {kernel.shape[1]} channels in {group} groups on an input of {source.shape[1]}")
    bias = None if b is None else emit.given(b, "its bias")
    kernel = spread(kernel, dilations or [1] * count)
    stride, v = strides or [1] * count, source.variable
    if group == 1 or count == 2:
        return emit.like(source, layers.convolution(emit, v, kernel, bias, stride, ends, group))
    # On a CPU, CNTK groups along two axes only.
    if count > 2:
        return emit.like(source, layers.convolution(emit, v, _blocks(kernel, group), bias, stride, ends, 1))
    shape = (*kernel.shape[:2], 1, kernel.shape[2])
    flat = kernel.viewed(lambda array: array.reshape(shape), shape, f"reshape{shape}")
    v = reshape(emit, v, (v.shape[0], 1, v.shape[1]))
    v = layers.convolution(emit, v, flat, bias, [1, *stride], [(0, 0), *ends], group)
    return emit.like(source, reshape(emit, v, (v.shape[0], v.shape[2])))


def _blocks(kernel: Constant, groups: int) -> Constant:
    """The kernel of a grouped convolution, either way, as one of all channels: zeros between the groups."""
    if groups == 1:
        return kernel
    inside, outside = kernel.shape[0] // groups, kernel.shape[1]
    shape = (kernel.shape[0], outside * groups, *kernel.shape[2:])

    def diagonal(array: Array) -> Array:
        result = np.zeros(shape, array.dtype)
        for g in range(groups):
            rows = slice(g * inside, (g + 1) * inside)
            result[rows, g * outside : (g + 1) * outside] = array[rows]
        return result

    return kernel.viewed(diagonal, shape, f"groups{groups}")


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
) -> Tensor:
    """C.convolution_transpose and C.slice; groups as a block-diagonal kernel."""
    kernel = emit.given(w, "its kernel")
    count = len(kernel.shape) - 2
    source = emit.images(x, count)
    if auto_pad != "NOTSET" or output_shape:
        raise Refusal("padding whose size is not known")
    if source.shape[1] != kernel.shape[0]:
        raise Refusal(f"a kernel of {kernel.shape[0]} channels on an input of {source.shape[1]}")
    kernel = _blocks(spread(kernel, dilations or [1] * count), group)
    stride, extra = strides or [1] * count, output_padding or [0] * count
    sizes = emit.fixed(source.shape[2:])
    full = [(n - 1) * s + k for n, s, k in zip(sizes, stride, kernel.shape[2:], strict=True)]
    crops = [(begin, end - more) for (begin, end), more in zip(_pads(pads, count), extra, strict=True)]
    bias = None if b is None else emit.given(b, "its bias")
    beyond = [max(0, -end) for _, end in crops]
    if any(beyond) or any(begin < 0 for begin, _ in crops):
        # What lies beyond the full result is zeros, before the bias: a larger kernel with zeros behind.
        kernel = _lengthened(kernel, beyond)
        full = [n + more for n, more in zip(full, beyond, strict=True)]
        crops = [(begin, end + more) for (begin, end), more in zip(crops, beyond, strict=True)]
        if any(begin < 0 for begin, _ in crops):
            raise Refusal("negative pads")
    result = layers.convolution_transpose(emit, source.variable, kernel, bias, stride, crops, full)
    return emit.like(source, result)


def _lengthened(kernel: Constant, more: Sequence[int]) -> Constant:
    widths = [(0, 0), (0, 0), *((0, m) for m in more)]
    shape = tuple(n + sum(width) for n, width in zip(kernel.shape, widths, strict=True))
    return kernel.viewed(lambda array: np.pad(array, widths), shape, f"lengthened{tuple(more)}")
