"""Normalization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.cntk import layers
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import divide, maximum, plus, reduce, reshape, times, unary
from exporters.cntk.net import Group, Tensor, Variable, number
from exporters.cntk.ops.table import OPS
from exporters.constants import Constant
from hub.errors import Refusal

__all__: list[str] = []


@OPS("BatchNormalization")
def batch_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
    mean: ir.Value,
    variance: ir.Value,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int,
) -> Tensor:
    """C.batch_normalization."""
    if training_mode:
        raise Refusal("it normalises by the batch")
    source = emit.apart(emit.tensor(x), 0)
    if source.rank < 2:
        raise Refusal("it has no channels")
    names = ("its scale", "its bias", "its mean", "its variance")
    s, b, m, v = (emit.given(v, name) for v, name in zip((scale, bias, mean, variance), names, strict=True))
    return emit.like(source, layers.batch_normalization(emit, source.variable, s, b, m, v, epsilon))


def _affine(
    emit: Emitter, y: Variable, scale: ir.Value | None, bias: ir.Value | None, shape: Sequence[int]
) -> Variable:
    """y * scale + bias, their shape being `shape`."""
    group = Group(emit.layer, "normalization")
    for value, name in ((scale, "scale"), (bias, "bias")):
        if value is None:
            continue
        constant = _shaped(emit.given(value, f"its {name}"), shape)
        weight = emit.weight(constant, group, name, trains=True)
        y = times(emit, y, weight) if name == "scale" else plus(emit, y, weight)
    return y


def _shaped(constant: Constant, shape: Sequence[int]) -> Constant:
    shape = tuple(shape)
    if constant.shape == shape:
        return constant
    return constant.viewed(lambda array: array.reshape(shape), shape, f"reshape{shape}")


@OPS("InstanceNormalization")
def instance_normalization(emit: Emitter, x: ir.Value, scale: ir.Value, bias: ir.Value, *, epsilon: float) -> Tensor:
    """By image and channel."""
    source = emit.images(x)
    rank = source.variable.rank
    y = layers.normalized(emit, source.variable, range(1, rank), epsilon)
    channels = emit.fixed(source.shape[1:2])
    return emit.like(source, _affine(emit, y, scale, bias, (*channels, *[1] * (rank - 1))))


@OPS("GroupNormalization")
def group_normalization(
    emit: Emitter, x: ir.Value, scale: ir.Value, bias: ir.Value, *, epsilon: float, num_groups: int, stash_type: int
) -> Tensor:
    """By image and group of channels."""
    source = emit.images(x)
    v = source.variable
    channels, *rest = emit.fixed(v.shape)
    if channels % num_groups:
        raise Refusal(f"{channels} channels in {num_groups} groups")
    flat = int(np.prod(rest)) * channels // num_groups
    y = layers.normalized(emit, reshape(emit, v, (num_groups, flat)), [1], epsilon)
    return emit.like(source, _affine(emit, reshape(emit, y, v.shape), scale, bias, (channels, *[1] * len(rest))))


@OPS("LayerNormalization")
def layer_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value | None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Tensor:
    """Over the axes from `axis` on."""
    source = emit.tensor(x)
    axes = [emit.axis(source, a) for a in range(axis % source.rank, source.rank)]
    y = layers.normalized(emit, source.variable, axes, epsilon)
    sizes = emit.constant(scale)
    if sizes is None or len(sizes.shape) > len(axes):
        raise Refusal("a scale of more axes than are normalised, or one computed at run time")
    return emit.like(source, _affine(emit, y, scale, bias, sizes.shape))


@OPS("RMSNormalization")
def rms_normalization(
    emit: Emitter, x: ir.Value, scale: ir.Value, *, axis: int, epsilon: float, stash_type: int
) -> Tensor:
    """x / sqrt(mean of x * x + epsilon) * scale over the axes from `axis` on."""
    source = emit.tensor(x)
    axes = [emit.axis(source, a) for a in range(axis % source.rank, source.rank)]
    v = source.variable
    squares = reduce(emit, times(emit, v, v), "Mean", axes)
    y = divide(emit, v, unary(emit, "Sqrt", plus(emit, squares, epsilon)))
    return emit.like(source, _affine(emit, y, scale, None, emit.given(scale, "its scale").shape))


@OPS("MeanVarianceNormalization")
def mean_variance_normalization(emit: Emitter, x: ir.Value, *, axes: list[int]) -> Tensor:
    """(x - mean) / (sqrt(variance) + 1e-9)."""
    source = emit.tensor(x)
    centered, variance = layers.moments(emit, source.variable, [emit.axis(source, a) for a in axes])
    return emit.like(source, divide(emit, centered, plus(emit, unary(emit, "Sqrt", variance), 1e-9)))


@OPS("LpNormalization")
def lp_normalization(emit: Emitter, x: ir.Value, *, axis: int, p: int) -> Tensor:
    """x by its norm along an axis; 0 where that is 0."""
    source = emit.tensor(x)
    v = source.variable
    size = unary(emit, "Abs", v) if p == 1 else times(emit, v, v)
    norm = reduce(emit, size, "Sum", [emit.axis(source, axis)])
    norm = norm if p == 1 else unary(emit, "Sqrt", norm)
    return emit.like(source, divide(emit, v, maximum(emit, norm, number(1e-37))))


@OPS("LRN")
def lrn(emit: Emitter, x: ir.Value, *, alpha: float, beta: float, bias: float, size: int) -> Tensor:
    """x / (bias + alpha / size * sum of squares of the channels around) ** beta."""
    source = emit.images(x)
    result = layers.local_response_normalization(emit, source.variable, size, alpha, beta, bias)
    return emit.like(source, result)
