"""Normalizations, scales and biases."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer
from importers.caffe.wire import Blob

__all__: list[str] = []


@layer("BatchNorm", param="batch_norm_param")
def batch_norm(
    caffe: Context, x: ir.Value, *, use_global_stats: bool | None = None, eps: float = 9.999999747378752e-06
) -> ir.Value:
    """By the statistics of training, which lie in the file times a factor; scale and bias are a Scale layer."""
    caffe.not_in_training("normalizes by the statistics of the batch")
    if use_global_stats is False:
        raise Refusal("it normalizes by the statistics of the batch (use_global_stats: false)")
    caffe.require(caffe.rank(x) >= 2, "its bottom needs two axes or more")
    shape = (caffe.size(x, 1),)
    blobs = caffe.blobs(mean=shape, variance=shape, factor=(1,))
    (factor,) = caffe.numbers("factor", (1,), blobs["factor"], 2)
    by = np.float32(0) if factor == 0 else np.float32(1) / factor
    mean = caffe.numbers("mean", shape, blobs["mean"], 0) * by
    variance = caffe.numbers("variance", shape, blobs["variance"], 1) * by
    return caffe.op(
        "BatchNormalization",
        x,
        caffe.constant(np.broadcast_to(np.float32(1), shape), "scale"),
        caffe.constant(np.broadcast_to(np.float32(0), shape), "bias"),
        caffe.builder.constant(mean, "mean", "weight"),
        caffe.builder.constant(variance, "variance", "weight"),
        epsilon=float(eps),
    )


@layer("Scale", param="scale_param")
def scale(
    caffe: Context,
    x: ir.Value,
    other: ir.Value | None = None,
    *,
    axis: int = 1,
    num_axes: int = 1,
    bias_term: bool = False,
) -> ir.Value:
    """Times a blob, plus another one with `bias_term`; or times the second bottom."""
    first, shape = _spans(caffe, x, other, axis, num_axes)
    blobs = caffe.blobs(scale=None if other is not None else shape, bias=shape if bias_term else None)
    number = 0
    if other is not None:
        y = caffe.op("Mul", x, caffe.broadcastable(other, caffe.rank(x), first, "scale"))
    else:
        y = caffe.op("Mul", x, _spread(caffe, x, "scale", first, shape, blobs, 0))
        number = 1
    return caffe.op("Add", y, _spread(caffe, x, "bias", first, shape, blobs, number)) if bias_term else y


@layer("Bias", param="bias_param")
def bias(caffe: Context, x: ir.Value, other: ir.Value | None = None, *, axis: int = 1, num_axes: int = 1) -> ir.Value:
    """Plus a blob, or plus the second bottom."""
    first, shape = _spans(caffe, x, other, axis, num_axes)
    blobs = caffe.blobs(bias=None if other is not None else shape)
    if other is not None:
        return caffe.op("Add", x, caffe.broadcastable(other, caffe.rank(x), first, "bias"))
    return caffe.op("Add", x, _spread(caffe, x, "bias", first, shape, blobs, 0))


def _spans(
    caffe: Context, x: ir.Value, other: ir.Value | None, axis: int, num_axes: int
) -> tuple[int, tuple[int, ...]]:
    """The first axis to which the factors belong, and their shape."""
    rank = caffe.rank(x)
    if other is not None:
        first = 0 if caffe.rank(other) == 0 else caffe.axis(x, axis)
        own = caffe.shape(other)
        caffe.require(
            first + len(own) <= rank, f"a second bottom of {len(own)} axes does not fit at axis {first} of {rank}"
        )
        for ours, theirs in zip(own, caffe.shape(x)[first:], strict=False):
            caffe.require(
                ours == theirs or None in (ours, theirs), f"its second bottom has {ours} where the first has {theirs}"
            )
        return first, tuple(caffe.sizes(other)) if None not in own else ()
    if num_axes == 0:
        return rank, ()
    first = caffe.axis(x, axis)
    caffe.require(num_axes >= -1, f"num_axes {num_axes} is none")
    caffe.require(num_axes == -1 or first + num_axes <= rank, f"num_axes {num_axes} from axis {first} of {rank}")
    return first, tuple(caffe.sizes(x, first, None if num_axes == -1 else first + num_axes))


def _spread(
    caffe: Context,
    x: ir.Value,
    name: str,
    first: int,
    shape: tuple[int, ...],
    blobs: dict[str, Blob | None],
    number: int,
) -> ir.Value:
    """A blob with ones behind it, so that it stands at its axes."""
    ones = (1,) * (caffe.rank(x) - first - len(shape)) if shape else ()
    return caffe.weight(name, shape, blobs[name], number, lambda a: a.reshape(shape + ones), f"+{len(ones)}")


@layer("LRN", param="lrn_param")
def lrn(
    caffe: Context,
    x: ir.Value,
    *,
    local_size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    norm_region: str = "ACROSS_CHANNELS",
    k: float = 1.0,
) -> ir.Value:
    """Within a channel Caffe averages squares over a window and takes no notice of `k`."""
    caffe.require(local_size % 2 == 1, f"local_size {local_size} is not odd")
    caffe.require(caffe.rank(x) == 4, f"its bottom has {caffe.rank(x)} axes, 4 are needed")
    if norm_region == "ACROSS_CHANNELS":
        return caffe.op("LRN", x, size=local_size, alpha=float(alpha), beta=float(beta), bias=float(k))
    margin = (local_size - 1) // 2
    squares = caffe.op("Mul", x, x)
    mean = caffe.op(
        "AveragePool",
        squares,
        kernel_shape=[local_size] * 2,
        pads=[margin] * 4 if margin else None,
        count_include_pad=1 if margin else None,
    )
    scaled = caffe.op("Add", caffe.op("Mul", mean, caffe.constant(alpha, "alpha")), caffe.constant(1.0, "one"))
    return caffe.op("Mul", x, caffe.op("Pow", scaled, caffe.constant(-beta, "beta")))


@layer("MVN", param="mvn_param")
def mvn(
    caffe: Context,
    x: ir.Value,
    *,
    normalize_variance: bool = True,
    across_channels: bool = False,
    eps: float = 9.999999717180685e-10,
) -> ir.Value:
    """(x - mean) / (deviation + eps), of each channel or of all; what it gives has four axes."""
    rank = caffe.rank(x)
    caffe.require(rank <= 4, f"its bottom has {rank} axes, 4 at most are supported by Caffe")
    axes = caffe.ints(list(range(1 if across_channels else 2, rank)), "axes")
    if rank <= (1 if across_channels else 2):
        raise Refusal("there is nothing to normalize over")
    centered = caffe.op("Sub", x, caffe.op("ReduceMean", x, axes, keepdims=1))
    if not normalize_variance:
        return _four_axes(caffe, centered)
    variance = caffe.op("ReduceMean", caffe.op("Mul", centered, centered), axes, keepdims=1)
    deviation = caffe.op("Add", caffe.op("Sqrt", variance), caffe.constant(eps, "eps"))
    return _four_axes(caffe, caffe.op("Div", centered, deviation))


def _four_axes(caffe: Context, x: ir.Value) -> ir.Value:
    """With ones behind, where there are fewer."""
    rank = caffe.rank(x)
    return x if rank == 4 else caffe.reshape(x, [0] * rank + [1] * (4 - rank))
