"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


def pairs(pads: Sequence[int]) -> list[int]:
    """ONNX's [begins, ends] as Core ML's [begin, end] of each axis."""
    half = len(pads) // 2
    return [n for i in range(half) for n in (pads[i], pads[i + half])]


def explicit(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int | str],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """The pads, begins then ends, that a window of ONNX has."""
    if auto_pad == "NOTSET":
        return list(pads or [0] * 2 * len(kernel))
    if auto_pad == "VALID":
        return [0] * 2 * len(kernel)
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        if not isinstance(size, int):
            if s != 1:
                raise Refusal("automatic padding of an open size")
            missing = (k - 1) * d
        else:
            missing = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        less, more = missing // 2, missing - missing // 2
        begins.append(less if auto_pad == "SAME_UPPER" else more)
        ends.append(more if auto_pad == "SAME_UPPER" else less)
    return [*begins, *ends]


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
) -> Var:
    kernel = emit.static(w, "the size of the kernel")[2:]
    count = len(kernel)
    strides, dilations = strides or [1] * count, dilations or [1] * count
    edges = explicit(auto_pad, pads, emit.shape(x)[2:], kernel, strides, dilations)
    data = emit.floats(x)
    if min(edges, default=0) < 0:
        raise Refusal("negative padding")
    if emit.constant(w) is None and group != 1 and emit.version < 6:
        raise Refusal("a kernel in groups that is computed at run time")
    apart = b is not None and emit.constant(b) is None
    result = emit(
        "conv", x=data, weight=w, bias=None if apart else b, strides=strides, dilations=dilations, groups=group,
        pad_type="custom", pad=pairs(edges),
    )  # fmt: skip
    return with_bias(emit, result, b, count) if apart else result


def with_bias(emit: Emitter, result: Var, b: ir.Value | None, count: int) -> Var:
    """A bias along axis 1 is added."""
    if b is None:
        return result
    return emit("add", x=result, y=emit("reshape", x=b, shape=[1, -1] + [1] * count))


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
) -> Var:
    """What is given beyond the last window, by output_padding, is the bias: zeros put there before it is added."""
    kernel = emit.static(w, "the size of the kernel")[2:]
    count = len(kernel)
    strides, dilations = strides or [1] * count, dilations or [1] * count
    if emit.constant(w) is None:
        raise Refusal("a kernel that is computed at run time")
    edges = _edges(emit, x, auto_pad, dilations, kernel, output_padding or [0] * count, output_shape, pads, strides)
    begins, ends = edges[:count], edges[count:]
    crop = [max(n, 0) for n in begins] + [max(n, 0) for n in ends]
    missing = [max(-n, 0) for n in begins], [max(-n, 0) for n in ends]
    late = any(missing[0] + missing[1]) or (b is not None and emit.constant(b) is None)
    result = emit(
        "conv_transpose", x=emit.floats(x), weight=w, bias=None if late else b, strides=strides, dilations=dilations,
        groups=group, pad_type="custom", pad=pairs(crop),
    )  # fmt: skip
    if any(missing[0] + missing[1]):
        both = [0, 0, 0, 0, *pairs([*missing[0], *missing[1]])]
        result = emit("pad", x=result, pad=np.array(both, np.int32), mode="constant", constant_val=emit.number(x, 0))
    return with_bias(emit, result, b, count) if late else result


def _edges(
    emit: Emitter,
    x: ir.Value,
    auto_pad: str,
    dilations: list[int],
    kernel: list[int],
    output_padding: list[int],
    output_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int],
) -> list[int]:
    """What is cut off, begins then ends; negative where zeros are put on."""
    count = len(kernel)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in ("NOTSET", "VALID") and not output_shape:
        given = list(pads or [0] * 2 * count) if auto_pad == "NOTSET" else [0] * 2 * count
        return given[:count] + [end - extra for end, extra in zip(given[count:], output_padding, strict=True)]
    begins, ends = [], []
    for i in range(count):
        size = emit.shape(x)[2 + i]
        if output_shape:
            if not isinstance(size, int):
                raise Refusal("a given output size for an open one")
            wanted = output_shape[-count:][i]
            total = (size - 1) * strides[i] + output_padding[i] + spans[i] - wanted
        else:
            total = output_padding[i] + spans[i] - strides[i]
        less, more = total // 2, total - total // 2
        begins.append(less if auto_pad == "SAME_UPPER" else more)
        ends.append((more if auto_pad == "SAME_UPPER" else less) - output_padding[i])
    return [*begins, *ends]


EXACT = 1 << 24
"""Whole numbers below it are exact in float32."""


@OPS("ConvInteger", since=10)
def conv_integer(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    x_zero_point: ir.Value | None,
    w_zero_point: ir.Value | None,
    *,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Var:
    """In float32, which is exact while the sums stay below 2 ** 24."""
    kernel = emit.static(w)
    count = len(kernel) - 2
    if int(np.prod(kernel[1:])) * 255 * 255 >= EXACT:
        raise Refusal("sums that float32 does not hold exactly")
    strides, dilations = strides or [1] * count, dilations or [1] * count
    edges = explicit(auto_pad, pads, emit.shape(x)[2:], kernel[2:], strides, dilations)
    array = emit.array(w)
    zero = 0 if w_zero_point is None else emit.array(w_zero_point)
    if array is None or zero is None or (np.size(zero) != 1):
        raise Refusal("a kernel that is computed at run time, or has several zero points")
    weight = (array.astype(np.int32) - np.reshape(zero, ())).astype(np.float32)
    result = emit(
        "conv", x=centred(emit, x, x_zero_point), weight=weight, strides=strides, dilations=dilations, groups=group,
        pad_type="custom", pad=pairs(edges),
    )  # fmt: skip
    return emit.cast(result, "int32")


def centred(emit: Emitter, x: ir.Value, zero: Any) -> Var:
    """Small integers less their zero point, in float32."""
    data = emit.cast(emit.var(x), "fp32")
    return data if zero is None else emit("sub", x=data, y=emit.cast(emit.var(zero), "fp32"))
