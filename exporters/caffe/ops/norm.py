"""Normalisations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import reduce
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.merge import product, total
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import bias, eltwise, power, reshape, scale, unary
from exporters.constants import Constant, elements
from hub.errors import Refusal


@OPS("BatchNormalization", outputs=1)
def batch_normalization(
    emit: Emitter,
    x: ir.Value,
    gamma: ir.Value,
    beta: ir.Value,
    mean: ir.Value,
    variance: ir.Value,
    *,
    epsilon: float,
    training_mode: int,
) -> Blob:
    """BatchNorm, which has neither gamma nor beta, then Scale for these; no Scale where they are 1 and 0.

    BatchNorm's blobs are mean * f, variance * f and f; here f = 1. Its epsilon is inside the root, as ONNX's.
    """
    if training_mode:
        raise Refusal("training mode")
    source = emit.blob(x)
    weights = [emit.weight(v, "a weight") for v in (gamma, beta, mean, variance)]
    parameters = {} if np.float32(epsilon) == np.float32(1e-5) else {"eps": epsilon}
    factor = Constant.of(np.ones(1, np.float32))
    image = source if source.rank != 1 else reshape(emit, source, (*source.shape, 1), "axes")
    blobs = [weights[2], weights[3], factor]
    result = emit.layer("BatchNorm", [image], image.shape, "", blobs, batch_norm_param=parameters)
    if not (np.all(weights[0].numpy() == 1) and np.all(weights[1].numpy() == 0)):
        result = scale(emit, result, weights[0], 1, weights[1])
    return reshape(emit, result, source.shape, "result")


def _moments(emit: Emitter, x: Blob, start: int, epsilon: float) -> Blob:
    """(x - mean) / sqrt(variance + epsilon) over the axes from `start` on.

    Reduction MEAN, its negative as a Bias, the mean of squares in the same way, Power (v + epsilon) ** -0.5
    as a Scale. Caffe's own MVN adds its epsilon outside of the root.
    """
    outer = x.shape[:start]

    def averaged(y: Blob, role: str) -> Blob:
        return emit.layer("Reduction", [y], outer, role, reduction_param={"operation": "MEAN", "axis": start})

    centred = bias(emit, x, power(emit, averaged(x, "mean"), scale=-1, role="minus_mean"), 0, "centred")
    variance = averaged(power(emit, centred, 2, role="squares"), "variance")
    return scale(emit, centred, power(emit, variance, -0.5, shift=epsilon, role="inverse"), 0, role="normalized")


@OPS("LayerNormalization")
def layer_normalization(
    emit: Emitter,
    x: ir.Value,
    gamma: ir.Value,
    beta: ir.Value | None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Blob:
    """(x - mean) (variance + epsilon) ** -0.5 by Reduction, Bias, Power and Scale, then a Scale."""
    source = emit.blob(x)
    axis %= source.rank
    if axis == 0:
        emit.fixed(source.shape, 0)
        whole = reshape(emit, source, (1, *source.shape), "axes")
        result = reshape(emit, _moments(emit, whole, 1, epsilon), source.shape, "shape")
    else:
        result = _moments(emit, source, axis, epsilon)
    inner = tuple(emit.fixed(source.shape, axis))

    def fitted(value: ir.Value) -> Constant:
        weight = emit.weight(value, "a weight")
        return weight.viewed(lambda a: np.broadcast_to(a, inner), inner, f"to{inner}")

    return scale(emit, result, fitted(gamma), axis, None if beta is None else fitted(beta), "")


@OPS("InstanceNormalization")
def instance_normalization(emit: Emitter, x: ir.Value, gamma: ir.Value, beta: ir.Value, *, epsilon: float) -> Blob:
    """As LayerNormalization, over the spatial axes, then a Scale by channel."""
    source = emit.blob(x)
    result = _moments(emit, source, 2, epsilon)
    return scale(emit, result, emit.weight(gamma, "a weight"), 1, emit.weight(beta, "a weight"), "")


@OPS("GroupNormalization", since=21)
def group_normalization(
    emit: Emitter, x: ir.Value, gamma: ir.Value, beta: ir.Value, *, epsilon: float, num_groups: int, stash_type: int
) -> Blob:
    """As LayerNormalization, over the channels of a group and the spatial axes, then a Scale by channel."""
    source = emit.blob(x)
    per_group = elements(emit.fixed(source.shape)) // num_groups
    grouped = reshape(emit, source, (source.shape[0], num_groups, per_group), "groups")
    result = reshape(emit, _moments(emit, grouped, 2, epsilon), source.shape, "channels")
    return scale(emit, result, emit.weight(gamma, "a weight"), 1, emit.weight(beta, "a weight"), "")


@OPS("RMSNormalization")
def rms_normalization(
    emit: Emitter, x: ir.Value, gamma: ir.Value, *, axis: int, epsilon: float, stash_type: int
) -> Blob:
    """x (mean(x^2) + epsilon) ** -0.5 gamma."""
    source = emit.blob(x)
    axis %= source.rank
    if axis == 0:
        raise Refusal("a normalisation along the batch")
    squares = power(emit, source, 2, role="squares")
    parameters = {"operation": "MEAN", "axis": axis}
    average = emit.layer("Reduction", [squares], source.shape[:axis], "mean", reduction_param=parameters)
    result = scale(emit, source, power(emit, average, -0.5, shift=epsilon, role="inverse"), 0, role="normalized")
    return product(emit, result, gamma)


@OPS("MeanVarianceNormalization")
def mean_variance_normalization(emit: Emitter, x: ir.Value, *, axes: list[int] | None) -> Blob:
    """(x - mean) / (sqrt(mean(x^2) - mean^2) + 1e-9), as the operator's own definition says."""
    source = emit.blob(x)
    wanted = sorted(a % source.rank for a in (axes if axes is not None else [0, 2, 3]))
    kept = [1 if a in wanted else size for a, size in enumerate(source.shape)]
    mean = reduce(emit, source, wanted, "MEAN", kept, "mean")
    centred = total(emit, source, power(emit, mean, scale=-1, role="minus_mean"), "centred")
    variance = reduce(emit, power(emit, centred, 2, role="squares"), wanted, "MEAN", kept, "variance")
    deviation = power(emit, power(emit, variance, 0.5, role="root"), -1, shift=1e-9, role="inverse")
    return product(emit, centred, deviation)


@OPS("LpNormalization")
def lp_normalization(emit: Emitter, x: ir.Value, *, axis: int, p: int) -> Blob:
    """x times the inverse of its norm along an axis; a norm of 0 counts as 1, since 0 / 0 is meant to be 0."""
    source = emit.blob(x)
    axis %= source.rank
    kept = [1 if a == axis else size for a, size in enumerate(source.shape)]
    norm = reduce(emit, source, [axis], "SUMSQ" if p == 2 else "ASUM", kept, "norm")
    positive = emit.layer("Threshold", [norm], norm.shape, "positive")
    safe = eltwise(emit, "SUM", [norm, power(emit, positive, scale=-1, shift=1, role="zero")], role="divisor")
    inverse = power(emit, safe, -0.5 if p == 2 else -1, role="inverse")
    return product(emit, source, inverse)


@OPS("LRN")
def lrn(emit: Emitter, x: ir.Value, *, alpha: float, beta: float, bias: float, size: int) -> Blob:
    """LRN across channels: x / (bias + alpha / size * sum of squares) ** beta."""
    if size % 2 == 0:
        raise Refusal("Caffe's LRN takes an odd number of channels")
    source = emit.blob(x)
    if source.rank != 4:
        raise Refusal(f"Caffe's LRN takes 4 axes, not {source.rank}")
    given = {"local_size": (size, 5), "alpha": (alpha, 1.0), "beta": (beta, 0.75), "k": (bias, 1.0)}
    return unary(emit, source, "LRN", lrn_param={k: v for k, (v, default) in given.items() if v != default})
