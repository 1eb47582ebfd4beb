"""Poolings, with Caffe's own rule for the last window.

The output has ceil((in + 2 pad - kernel) / stride) + 1 windows, less one if there are pads and the last
would begin behind the image and the pad before it. AVE divides by as much of the window as lies
within the image and its pads, MAX looks at the image alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer

__all__ = ["pool2d"]

LOWEST = float(np.finfo(np.float32).min)
MOST_BINS = 1 << 12


@dataclass(frozen=True)
class Axis:
    """One axis of a pooling: sizes, and how many windows there are."""

    size: int
    kernel: int
    stride: int
    pad: int
    windows: int

    @property
    def end(self) -> int:
        """How far the last window reaches beyond the image, at least 0."""
        return max((self.windows - 1) * self.stride + self.kernel - self.size - self.pad, 0)

    @property
    def empty(self) -> bool:
        """Whether the last window lies behind the image and its pad."""
        return (self.windows - 1) * self.stride >= self.size + self.pad

    @property
    def ceil(self) -> int:
        """The windows that ONNX counts with ceil_mode."""
        count = -(-(self.size + 2 * self.pad - self.kernel) // self.stride) + 1
        return count - ((count - 1) * self.stride >= self.size + self.pad)


def windows(size: int, kernel: int, stride: int, pad: int, *, floor: bool = False, padded: bool = True) -> int:
    """How many windows Caffe counts; `padded`: another axis has pads, so that the rule for the last one holds."""
    room = size + 2 * pad - kernel
    count = (room // stride if floor else -(-room // stride)) + 1
    if padded and (count - 1) * stride >= size + pad:
        count -= 1
    return count


@layer("Pooling", param="pooling_param")
def pooling(
    caffe: Context,
    x: ir.Value,
    *,
    pool: str = "MAX",
    pad: int = 0,
    pad_h: int = 0,
    pad_w: int = 0,
    kernel_size: int | None = None,
    kernel_h: int | None = None,
    kernel_w: int | None = None,
    stride: int | None = None,
    stride_h: int | None = None,
    stride_w: int | None = None,
    global_pooling: bool = False,
    round_mode: str = "CEIL",
) -> ir.Value | list[ir.Value]:
    """MAX and AVE, with MAX's second top, the places of the maxima; `round_mode` is later than Caffe 1.0."""
    caffe.require(caffe.rank(x) == 4, f"its bottom has {caffe.rank(x)} axes, 4 are needed")
    if pool == "STOCHASTIC":
        raise Refusal("stochastic pooling is random in training, and Caffe has no form of it on the CPU")
    if global_pooling:
        caffe.require(kernel_size is None and kernel_h is None and kernel_w is None, "a global pooling has no kernel")
        caffe.require(pad == pad_h == pad_w == 0, "a global pooling has no pads")
        caffe.require(not {stride or 1, stride_h or 1, stride_w or 1} - {1}, "a global pooling has no strides")
        if caffe.tops == 1:
            return caffe.op("GlobalMaxPool" if pool == "MAX" else "GlobalAveragePool", x)
        kernel = caffe.sizes(x, 2)
    else:
        caffe.require(
            (kernel_size is None) != (kernel_h is None or kernel_w is None),
            "it needs kernel_size, or both of kernel_h and kernel_w",
        )
        kernel = [kernel_size or 0] * 2 if kernel_size is not None else [kernel_h or 0, kernel_w or 0]
    pads = [pad, pad] if pad else [pad_h, pad_w]
    strides = [1 if stride is None else stride] * 2 if stride_h is None else [stride_h, stride_w or 0]
    caffe.require(not (pad and (pad_h or pad_w)), "pad is given twice")
    caffe.require(stride is None or (stride_h is None and stride_w is None), "stride is given twice")
    caffe.require((stride_h is None) == (stride_w is None), "stride_h and stride_w belong together")
    caffe.require(min([*kernel, *strides]) >= 1, "kernel and stride are 1 or more")
    return pool2d(caffe, x, pool, kernel, strides, pads, floor=round_mode == "FLOOR")


def pool2d(
    caffe: Context,
    x: ir.Value,
    pool: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    *,
    floor: bool = False,
    name: str | None = None,
) -> ir.Value | list[ir.Value]:
    """A pooling as Caffe does it."""
    if any(pads):
        caffe.require(all(p < k for p, k in zip(pads, kernel, strict=True)), "pads must be smaller than the kernel")
    known = caffe.shape(x)[2:]
    if None in known:
        return _unknown_sizes(caffe, x, pool, kernel, strides, pads, floor)
    axes = []
    for size, k, s, p in zip(caffe.sizes(x, 2), kernel, strides, pads, strict=True):
        count = windows(size, k, s, p, floor=floor, padded=any(pads))
        caffe.require(
            size + 2 * p >= k and count >= 1, f"a kernel of {k} does not fit into {size} numbers and pads of {p}"
        )
        axes.append(Axis(size, k, s, p, count))
    if pool == "AVE":
        return _average(caffe, x, axes, name)
    return _maximum(caffe, x, axes, name)


def _unknown_sizes(
    caffe: Context,
    x: ir.Value,
    pool: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    floor: bool,
) -> ir.Value:
    """Without the sizes of the image, what ONNX's own rules say as well."""
    overshoots = any(s > k for s, k in zip(strides, kernel, strict=True))
    if caffe.tops > 1 or floor or overshoots or (pool == "AVE" and any(pads)):
        caffe.size(x, 2 if caffe.shape(x)[2] is None else 3)
    attributes = _attributes(kernel, strides, [*pads, *pads])
    ceil = None if all(s == 1 for s in strides) else 1
    return caffe.op("MaxPool" if pool == "MAX" else "AveragePool", x, ceil_mode=ceil, **attributes)


def _attributes(kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> dict[str, Any]:
    return {
        "kernel_shape": list(kernel),
        "strides": list(strides) if any(s != 1 for s in strides) else None,
        "pads": list(pads) if any(pads) else None,
    }


def _plain(axes: Sequence[Axis]) -> dict[str, Any] | None:
    """The attributes with which ONNX counts the same windows from pads as they are in Caffe, if there are any."""
    attributes = _attributes([a.kernel for a in axes], [a.stride for a in axes], [a.pad for a in axes] * 2)
    if all((a.size + 2 * a.pad - a.kernel) // a.stride + 1 == a.windows for a in axes):
        return attributes
    if all(a.ceil == a.windows for a in axes):
        return {**attributes, "ceil_mode": 1}
    return None


def _maximum(caffe: Context, x: ir.Value, axes: Sequence[Axis], name: str | None) -> ir.Value | list[ir.Value]:
    if any(a.empty for a in axes):
        # Windows that lie behind the image: Caffe leaves the lowest number there is.
        if caffe.tops > 1:
            raise Refusal("places of maxima in windows behind the image are not supported")
        ends = [a.end if a.empty else 0 for a in axes]
        x = caffe.op("Pad", x, caffe.ints([0] * 6 + ends, "pads"), caffe.constant(LOWEST, "lowest"))
        axes = [Axis(a.size + end, a.kernel, a.stride, a.pad, a.windows) for a, end in zip(axes, ends, strict=True)]
    attributes = _plain(axes) or _attributes(
        [a.kernel for a in axes], [a.stride for a in axes], [*(a.pad for a in axes), *(a.end for a in axes)]
    )
    if caffe.tops < 2 or name is not None:
        return caffe.op("MaxPool", x, name=name, **attributes)
    y, places = caffe.builder.ops("MaxPool", x, outputs=2, **attributes)
    plane = caffe.op("Mod", places, caffe.ints(axes[0].size * axes[1].size, "plane"))
    return [y, caffe.op("Cast", plane, to=ir.DataType.FLOAT.value)]


def _average(caffe: Context, x: ir.Value, axes: Sequence[Axis], name: str | None) -> ir.Value:
    if any(a.empty for a in axes):
        raise Refusal("its last windows lie behind the image: Caffe divides by zero there")
    if caffe.tops > 1 and name is None:
        raise Refusal("AVE has one top")
    begins, ends = [a.pad for a in axes], [a.end for a in axes]
    if all(end <= a.pad for a, end in zip(axes, ends, strict=True)):
        # Every window is whole: it is divided by its size.
        attributes = _plain(axes)
        if attributes is None or "ceil_mode" in attributes:
            attributes = _attributes([a.kernel for a in axes], [a.stride for a in axes], [*begins, *ends])
        include = 1 if attributes.get("pads") else None
        return caffe.op("AveragePool", x, name=name, count_include_pad=include, **attributes)
    if any(begins):
        # Zeros around the image count, what lies behind them does not.
        x = caffe.op("Pad", x, caffe.ints([0, 0, *begins, 0, 0, *begins], "pads"), caffe.constant(0.0, "zero"))
        axes = [Axis(a.size + 2 * a.pad, a.kernel, a.stride, 0, a.windows) for a in axes]
    attributes = _plain(axes) or _attributes(
        [a.kernel for a in axes], [a.stride for a in axes], [0, 0, *(a.end for a in axes)]
    )
    return caffe.op("AveragePool", x, name=name, **attributes)


@layer("SPP", param="spp_param")
def spp(caffe: Context, x: ir.Value, *, pyramid_height: int = 0, pool: str = "MAX") -> ir.Value:
    """Poolings to 1, 2, 4, ... windows an axis, flattened one after the other."""
    caffe.require(caffe.rank(x) == 4, f"its bottom has {caffe.rank(x)} axes, 4 are needed")
    caffe.require(1 <= pyramid_height <= 12, f"pyramid_height {pyramid_height} is not supported")
    if pool == "STOCHASTIC":
        raise Refusal("stochastic pooling is random in training, and Caffe has no form of it on the CPU")
    levels = []
    for number in range(pyramid_height):
        bins = 1 << number
        kernel = [-(-size // bins) for size in caffe.sizes(x, 2)]
        pads = [(k * bins - size + 1) // 2 for k, size in zip(kernel, caffe.sizes(x, 2), strict=True)]
        y = pool2d(caffe, x, pool, kernel, kernel, pads, name=f"level{number}")
        assert isinstance(y, ir.Value)
        levels.append(y if pyramid_height == 1 else caffe.op("Flatten", y, axis=1))
    return levels[0] if pyramid_height == 1 else caffe.op("Concat", *levels, axis=1)
