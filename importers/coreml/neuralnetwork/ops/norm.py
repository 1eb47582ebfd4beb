"""Normalizations, scales and biases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.weights import Array

__all__: list[str] = []


@layer("batchnorm")
def batch_norm(
    net: Context,
    x: ir.Value,
    *,
    channels: int,
    computeMeanVar: bool,
    instanceNormalization: bool,
    epsilon: float,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
) -> ir.Value:
    """By given statistics, or by those of each channel of the input."""
    net.at_least(x, 3)
    net.require(net.shape(x)[-3] in (None, channels), f"it has {channels} channels, its input {net.shape(x)[-3]}")
    net.require(channels > 0, "it has no channels")
    values = []
    for params, name, default in ((gamma, "gamma", 1), (beta, "beta", 0), (mean, "mean", 0), (variance, "variance", 1)):
        if net.weights.given(params):
            values.append(net.weight(params, (channels,), name))
        elif name in ("mean", "variance") and not computeMeanVar:
            net.require(False, f"it has no {name}")
        else:
            values.append(net.builder.constant(np.full(channels, default, np.float32), name))
    if instanceNormalization and not computeMeanVar:
        raise Refusal("it normalizes each instance by given statistics")
    if instanceNormalization:
        flat, back = net.as_rank(x, 4)
        return back(net.op("InstanceNormalization", flat, values[0], values[1], epsilon=epsilon))
    if computeMeanVar:
        raise Refusal("it normalizes by the statistics of the batch (computeMeanVar)")
    flat, back = net.as_rank(x, 4)
    return back(net.op("BatchNormalization", flat, *values, epsilon=epsilon))


@layer("mvn")
def mvn(net: Context, x: ir.Value, *, acrossChannels: bool, normalizeVariance: bool, epsilon: float) -> ir.Value:
    """(x - mean) / deviation, of each channel or of all."""
    net.at_least(x, 3)
    axes = net.ints([-3, -2, -1] if acrossChannels else [-2, -1], "axes")
    centered = net.op("Sub", x, net.op("ReduceMean", x, axes, keepdims=1))
    if not normalizeVariance:
        return centered
    variance = net.op("ReduceMean", net.op("Mul", centered, centered), axes, keepdims=1)
    return net.op("Div", centered, net.op("Sqrt", net.op("Add", variance, net.number(epsilon, "epsilon"))))


@layer("l2normalize")
def l2_normalize(net: Context, x: ir.Value, *, epsilon: float) -> ir.Value:
    """x / sqrt(sum of squares + epsilon), over channels, height and width."""
    net.at_least(x, 3)
    total = net.op("ReduceSumSquare", x, net.ints([-3, -2, -1], "axes"), keepdims=1)
    return net.op("Div", x, net.op("Sqrt", net.op("Add", total, net.number(epsilon, "epsilon"))))


@layer("lrn")
def lrn(net: Context, x: ir.Value, *, alpha: float, beta: float, localSize: int, k: float) -> ir.Value:
    """Across channels, for odd windows: which channels an even one takes Apple says nowhere."""
    net.require(localSize > 0, "its window is empty")
    net.at_least(x, 3)
    alone = net.shape(x)[-3] == 1
    if localSize % 2 == 0 and not alone:
        raise Refusal(f"which channels its window of {localSize} takes is not documented")
    flat, back = net.as_rank(x, 4)
    alpha, size = (alpha / localSize, 1) if alone else (alpha, localSize)
    return back(net.op("LRN", flat, size=size, alpha=alpha, beta=beta, bias=k))


@layer("layerNormalization")
def layer_norm(
    net: Context, x: ir.Value, *, normalizedShape: Sequence[int], eps: float, gamma: Any, beta: Any
) -> ir.Value:
    """Over the last axes."""
    shape = [int(size) for size in normalizedShape]
    net.require(0 < len(shape) <= net.rank(x), f"it normalizes {len(shape)} axes of {net.rank(x)}")
    scale = (
        net.weight(gamma, shape, "gamma")
        if net.weights.given(gamma)
        else net.number(np.broadcast_to(np.float32(1), shape), "gamma")
    )
    shift = net.weight(beta, shape, "beta") if net.weights.given(beta) else None
    return net.op("LayerNormalization", x, scale, shift, axis=-len(shape), epsilon=eps)


def _placed(net: Context, x: ir.Value, shape: Sequence[int], params: Any, name: str) -> ir.Value:
    """Weights of the shape [1], [C] or [C, H, W] where they stand."""
    own = [int(size) for size in shape]
    if not own:
        own = [1]
    spread: Callable[[Array], Array] | None = None
    if len(own) == 1 and own[0] != 1:
        net.at_least(x, 3)
        spread = lambda a: a.reshape(-1, 1, 1)  # noqa: E731
    elif len(own) not in (1, 3):
        raise Refusal(f"its {name} has the shape {own}")
    net.require(params is not None, f"its {name} is missing")
    return net.weight(params, own, name, spread)


@layer("scale")
def scale(
    net: Context,
    x: ir.Value,
    *,
    shapeScale: Sequence[int],
    scale: Any,
    hasBias: bool,
    shapeBias: Sequence[int],
    bias: Any,
) -> ir.Value:
    y = net.op("Mul", x, _placed(net, x, shapeScale, scale, "scale"))
    return net.op("Add", y, _placed(net, x, shapeBias, bias, "bias")) if hasBias else y


@layer("bias")
def bias(net: Context, x: ir.Value, *, shape: Sequence[int], bias: Any) -> ir.Value:
    return net.op("Add", x, _placed(net, x, shape, bias, "bias"))


@layer("loadConstant")
def load_constant(net: Context, *, shape: Sequence[int], data: Any) -> ir.Value:
    """Numbers of the shape [C, H, W], which stand at the last three axes."""
    net.require(len(shape) == 3 and data is not None, f"it has the shape {list(shape)}")
    ones = (1,) * (net.scope.rank - 3) if net.scope.rank else ()
    value = net.weight(data, [int(size) for size in shape], "data", lambda a: a.reshape(ones + a.shape))
    return net.op("Identity", value)


@layer("loadConstantND")
def load_constant_nd(net: Context, *, shape: Sequence[int], data: Any) -> ir.Value:
    net.require(data is not None and math.prod(shape) >= 0, "it has no data")
    return net.op("Identity", net.weight(data, [int(size) for size in shape], "data"))
