"""Convolutions, products with matrices, and what is one of them underneath."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer

__all__ = ["spread"]

MOST_PATCHES = 1 << 22
"""Numbers in the kernel that stands for Im2col."""


def spread(
    caffe: Context, what: str, both: Sequence[int], pair: tuple[int | None, int | None], count: int, default: int | None
) -> list[int]:
    """A size for each spatial axis: given as h and w, once for all, one by one, or not at all."""
    if pair != (None, None):
        caffe.require(not both and count == 2, f"{what} is given twice, or {what}_h and {what}_w without two axes")
        found = [size if size is not None else default for size in pair]
        caffe.require(None not in found, f"{what}_h and {what}_w belong together")
        return [int(size or 0) for size in found]
    if not both:
        caffe.require(default is not None, f"it has no {what}")
        return [int(default or 0)] * count
    caffe.require(len(both) in (1, count), f"{len(both)} numbers of {what} for {count} axes")
    return [int(size) for size in both] * (count if len(both) == 1 else 1)


def _window(
    caffe: Context,
    x: ir.Value,
    kernel_size: Sequence[int],
    kernel: tuple[int | None, int | None],
    stride: Sequence[int],
    strides: tuple[int | None, int | None],
    pad: Sequence[int],
    pads: tuple[int | None, int | None],
    dilation: Sequence[int],
    axis: int,
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, pads and dilations for each spatial axis."""
    if caffe.axis(x, axis) != 1:
        raise Refusal(f"channels on axis {axis} are not supported")
    count = caffe.rank(x) - 2
    caffe.require(count >= 1, f"its bottom has {count + 2} axes")
    size = spread(caffe, "kernel_size", kernel_size, kernel, count, None)
    step = spread(caffe, "stride", stride, strides, count, 1)
    margin = spread(caffe, "pad", pad, pads, count, 0)
    rate = spread(caffe, "dilation", dilation, (None, None), count, 1)
    caffe.require(min([*size, *step, *rate]) >= 1, "kernel, stride and dilation are 1 or more")
    return size, step, margin, rate


def _check_fits(caffe: Context, x: ir.Value, size: Sequence[int], margin: Sequence[int], rate: Sequence[int]) -> None:
    for given, k, p, d in zip(caffe.shape(x)[2:], size, margin, rate, strict=True):
        fits = given is None or given + 2 * p >= (k - 1) * d + 1
        caffe.require(fits, f"a kernel of {(k - 1) * d + 1} does not fit into {given} numbers and pads of {p}")


def _attributes(step: Sequence[int], margin: Sequence[int], rate: Sequence[int], group: int) -> dict[str, Any]:
    return {
        "strides": list(step) if any(s != 1 for s in step) else None,
        "pads": [*margin, *margin] if any(margin) else None,
        "dilations": list(rate) if any(d != 1 for d in rate) else None,
        "group": group if group != 1 else None,
    }


@layer("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", param="convolution_param")
def convolution(
    caffe: Context,
    *bottoms: ir.Value,
    num_output: int = 0,
    bias_term: bool = True,
    pad: Sequence[int] = (),
    kernel_size: Sequence[int] = (),
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    pad_h: int | None = None,
    pad_w: int | None = None,
    kernel_h: int | None = None,
    kernel_w: int | None = None,
    stride_h: int | None = None,
    stride_w: int | None = None,
    group: int | None = None,
    axis: int = 1,
) -> list[ir.Value]:
    """Of several bottoms each by the same weights. The depthwise types are forks'; they take a group per channel."""
    caffe.require(bool(bottoms), "it has no bottom")
    channels = caffe.size(bottoms[0], 1)
    if group is None:
        group = 1 if caffe.layer.type == "Convolution" else channels
    caffe.require(num_output > 0, "num_output is 1 or more")
    caffe.require(group > 0 and channels % group == 0 and num_output % group == 0, f"{group} groups do not fit")
    results = []
    for x in bottoms:
        size, step, margin, rate = _window(
            caffe, x, kernel_size, (kernel_h, kernel_w), stride, (stride_h, stride_w), pad, (pad_h, pad_w),
            dilation, axis,
        )  # fmt: skip
        caffe.require(caffe.size(x, 1) == channels, "its bottoms have different channels")
        found = caffe.weights(weight=(num_output, channels // group, *size), bias=(num_output,) if bias_term else None)
        _check_fits(caffe, x, size, margin, rate)
        attributes = _attributes(step, margin, rate, group)
        results.append(caffe.op("Conv", x, found["weight"], found.get("bias"), kernel_shape=size, **attributes))
    return results


@layer("Deconvolution", param="convolution_param")
def deconvolution(
    caffe: Context,
    *bottoms: ir.Value,
    num_output: int = 0,
    bias_term: bool = True,
    pad: Sequence[int] = (),
    kernel_size: Sequence[int] = (),
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    pad_h: int | None = None,
    pad_w: int | None = None,
    kernel_h: int | None = None,
    kernel_w: int | None = None,
    stride_h: int | None = None,
    stride_w: int | None = None,
    group: int = 1,
    axis: int = 1,
) -> list[ir.Value]:
    caffe.require(bool(bottoms), "it has no bottom")
    channels = caffe.size(bottoms[0], 1)
    caffe.require(num_output > 0, "num_output is 1 or more")
    caffe.require(group > 0 and channels % group == 0 and num_output % group == 0, f"{group} groups do not fit")
    results = []
    for x in bottoms:
        size, step, margin, rate = _window(
            caffe, x, kernel_size, (kernel_h, kernel_w), stride, (stride_h, stride_w), pad, (pad_h, pad_w),
            dilation, axis,
        )  # fmt: skip
        caffe.require(caffe.size(x, 1) == channels, "its bottoms have different channels")
        found = caffe.weights(weight=(channels, num_output // group, *size), bias=(num_output,) if bias_term else None)
        attributes = _attributes(step, margin, rate, group)
        results.append(
            caffe.op("ConvTranspose", x, found["weight"], found.get("bias"), kernel_shape=size, **attributes)
        )
    return results


@layer("Im2col", param="convolution_param")
def im2col(
    caffe: Context,
    x: ir.Value,
    *,
    pad: Sequence[int] = (),
    kernel_size: Sequence[int] = (),
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    pad_h: int | None = None,
    pad_w: int | None = None,
    kernel_h: int | None = None,
    kernel_w: int | None = None,
    stride_h: int | None = None,
    stride_w: int | None = None,
    axis: int = 1,
) -> ir.Value:
    """The patches that a convolution sees, as channels: a convolution by kernels of a single one."""
    size, step, margin, rate = _window(
        caffe, x, kernel_size, (kernel_h, kernel_w), stride, (stride_h, stride_w), pad, (pad_h, pad_w), dilation, axis
    )
    _check_fits(caffe, x, size, margin, rate)
    channels, count = caffe.size(x, 1), math.prod(size)
    if channels * count * count > MOST_PATCHES:
        raise Refusal(f"patches of {count} numbers in {channels} channels are too many")
    kernel = np.tile(np.eye(count, dtype=np.float32).reshape(count, 1, *size), (channels, *[1] * (len(size) + 1)))
    attributes = _attributes(step, margin, rate, channels)
    return caffe.op("Conv", x, caffe.constant(kernel, "patches"), kernel_shape=size, **attributes)


@layer("InnerProduct", param="inner_product_param")
def inner_product(
    caffe: Context, x: ir.Value, *, num_output: int = 0, bias_term: bool = True, axis: int = 1, transpose: bool = False
) -> ir.Value:
    """The axes from `axis` on, flattened, times a matrix."""
    caffe.require(num_output > 0, "num_output is 1 or more")
    axis = caffe.axis(x, axis)
    inputs = math.prod(caffe.sizes(x, axis))
    shapes = {"weight": (inputs, num_output) if transpose else (num_output, inputs)}
    blobs = caffe.blobs(**shapes, bias=(num_output,) if bias_term else None)
    bias = caffe.weight("bias", (num_output,), blobs["bias"], 1) if bias_term else None
    if axis == 1:
        flat = x if caffe.rank(x) == 2 else caffe.op("Flatten", x, axis=1)
        weight = caffe.weight("weight", shapes["weight"], blobs["weight"], 0)
        return caffe.op("Gemm", flat, weight, bias, transB=0 if transpose else 1)
    if caffe.rank(x) != axis + 1:
        x = caffe.reshape(x, [*[0] * axis, inputs])
    weight = caffe.weight(
        "weight",
        shapes["weight"],
        blobs["weight"],
        0,
        lambda a: a if transpose else a.T,
        "right" if not transpose else "",
    )
    y = caffe.op("MatMul", x, weight)
    return y if bias is None else caffe.op("Add", y, bias)


@layer("Embed", param="embed_param")
def embed(caffe: Context, x: ir.Value, *, num_output: int = 0, input_dim: int = 0, bias_term: bool = True) -> ir.Value:
    """Rows of a matrix by their numbers."""
    caffe.require(num_output > 0 and input_dim > 0, "num_output and input_dim are 1 or more")
    found = caffe.weights(weight=(input_dim, num_output), bias=(num_output,) if bias_term else None)
    y = caffe.op("Gather", found["weight"], caffe.op("Cast", x, to=ir.DataType.INT64.value), axis=0)
    return caffe.op("Add", y, found["bias"]) if bias_term else y
