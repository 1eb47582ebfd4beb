"""Normalisation, rescaling, and the layers that do nothing at inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.keras.layers import Context, layer


@layer("BatchNormalization")
def batch_normalization(
    keras: Context,
    x: ir.Value,
    *,
    axis: int | list[int] = -1,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
) -> ir.Value:
    rank = len(keras.shape(x))
    if isinstance(axis, list | tuple):
        if len(axis) != 1:
            raise Refusal(f"batch normalization over the axes {axis} together is not supported")
        axis = axis[0]
    axis %= rank
    if axis == 0:
        raise Refusal("batch normalization of the batch axis is not supported")
    data_format = "channels_last" if axis == rank - 1 else "channels_first"
    between = [0, axis, *(a for a in range(1, rank) if a != axis)] if axis not in (1, rank - 1) else None
    x = keras.first(x, data_format) if between is None else keras.op("Transpose", x, perm=between)
    channels = keras.size(x, 1)
    tensors = keras.weights(
        gamma=(channels,) if scale else None,
        beta=(channels,) if center else None,
        moving_mean=(channels,),
        moving_variance=(channels,),
    )
    gamma = keras.weight("gamma", tensors.pop(0) if scale else np.ones(channels, np.float32))
    beta = keras.weight("beta", tensors.pop(0) if center else np.zeros(channels, np.float32))
    mean, variance = keras.weight("moving_mean", tensors[0]), keras.weight("moving_variance", tensors[1])
    y = keras.op("BatchNormalization", x, gamma, beta, mean, variance, epsilon=float(epsilon))
    if between is not None:
        return keras.op("Transpose", y, perm=[between.index(a) for a in range(rank)])
    return keras.last(y, data_format)


@layer("LayerNormalization")
def layer_normalization(
    keras: Context,
    x: ir.Value,
    *,
    axis: int | list[int] = -1,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    rms_scaling: bool = False,
) -> ir.Value:
    rank = len(keras.shape(x))
    axes = [int(a) % rank for a in (axis if isinstance(axis, list | tuple) else [axis])]
    if axes != sorted(set(axes)) or 0 in axes:
        raise Refusal(f"layer normalization over the axes {axes} of {rank} is not supported")
    shape = [keras.size(x, a) for a in axes]
    if rms_scaling:
        return _rms_scaled(keras, x, axes, shape, epsilon)
    tensors = keras.weights(gamma=shape if scale else None, beta=shape if center else None)
    gamma = keras.weight("gamma", tensors.pop(0) if scale else np.ones(shape, np.float32))
    beta = keras.weight("beta", tensors.pop(0)) if center else None
    turn = [*(a for a in range(rank) if a not in axes), *axes]
    if turn != list(range(rank)):
        x = keras.op("Transpose", x, perm=turn)
    y = keras.op("LayerNormalization", x, gamma, beta, axis=-len(axes), epsilon=float(epsilon))
    return keras.op("Transpose", y, perm=[turn.index(a) for a in range(rank)]) if turn != list(range(rank)) else y


def _rms_scaled(keras: Context, x: ir.Value, axes: list[int], shape: list[int], epsilon: float) -> ir.Value:
    """x / sqrt(variance + epsilon) * gamma: what Keras calls so divides by the deviation, with the mean left in."""
    (gamma,) = keras.weights(gamma=shape)
    rank = len(keras.shape(x))
    sizes = [dict(zip(axes, shape, strict=True)).get(axis, 1) for axis in range(rank)]
    over = keras.ints(axes, "axes")
    apart = keras.op("Sub", x, keras.op("ReduceMean", x, over, keepdims=1))
    variance = keras.op("ReduceMean", keras.op("Mul", apart, apart), over, keepdims=1)
    root = keras.op("Sqrt", keras.op("Add", variance, keras.constant(epsilon, "epsilon")))
    return keras.op("Mul", keras.op("Div", x, root), keras.weight("gamma", gamma, list(range(rank)), sizes))


@layer("RMSNormalization")
def rms_normalization(keras: Context, x: ir.Value, *, axis: int | list[int] = -1, epsilon: float = 1e-6) -> ir.Value:
    """x / sqrt(mean(x * x) + epsilon) * scale."""
    rank = len(keras.shape(x))
    axes = [int(a) % rank for a in (axis if isinstance(axis, list | tuple) else [axis])]
    if 0 in axes or axes != list(range(axes[0], rank)):
        raise Refusal(f"normalization over the axes {axes} of {rank}: Keras has its scale along the last ones")
    (scale,) = keras.weights(scale=[keras.size(x, a) for a in axes])
    return keras.op("RMSNormalization", x, keras.weight("scale", scale), axis=-len(axes), epsilon=float(epsilon))


@layer("Rescaling")
def rescaling(keras: Context, x: ir.Value, *, scale: Any, offset: Any = 0.0) -> ir.Value:
    """x * scale + offset; scale may be one number for each channel."""
    y = keras.op("Mul", x, keras.constant(scale, "scale"))
    return y if np.all(np.asarray(offset) == 0) else keras.op("Add", y, keras.constant(offset, "offset"))


@layer("Normalization")
def normalization(
    keras: Context,
    x: ir.Value,
    *,
    axis: int | list[int] | None = -1,
    mean: Any = None,
    variance: Any = None,
    invert: bool = False,
) -> ir.Value:
    """(x - mean) / max(sqrt(variance), 1e-7), with statistics from the configuration or the weights."""
    rank = len(keras.shape(x))
    axes = [] if axis is None else sorted(a % rank for a in (axis if isinstance(axis, list | tuple) else [axis]))
    shape = [keras.size(x, a) for a in axes]
    if mean is None:
        found = keras.weights(mean=shape, variance=shape, count=())
        mean, variance = found[0].numpy(), found[1].numpy()
    spread = [keras.size(x, a) if a in axes else 1 for a in range(rank)]
    mean = np.broadcast_to(np.asarray(mean, np.float32), shape).reshape(spread)
    variance = np.broadcast_to(np.asarray(variance, np.float32), shape).reshape(spread)
    deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))
    if invert:
        y = keras.op("Mul", x, keras.constant(deviation, "deviation"))
        return keras.op("Add", y, keras.constant(mean, "mean"))
    y = keras.op("Sub", x, keras.constant(mean, "mean"))
    return keras.op("Div", y, keras.constant(deviation, "deviation"))


@layer("LayerScale")
def layer_scale(keras: Context, x: ir.Value, *, init_values: float, projection_dim: int) -> ir.Value:
    """ConvNeXt's factor for each channel."""
    (gamma,) = keras.weights(gamma=(projection_dim,))
    return keras.op("Mul", x, keras.weight("gamma", gamma))


@layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout")
def dropout(
    keras: Context, x: ir.Value, *, rate: float | None = None, p: float | None = None, data_format: str | None = None
) -> ir.Value:
    """Kept, although it does nothing at inference: the network can be trained on."""
    if keras.layer.class_name != "Dropout":
        return keras.op("Identity", x)
    ratio = rate if rate is not None else p
    return keras.op("Dropout", x, keras.constant(0.5 if ratio is None else float(ratio), "ratio"))


@layer("StochasticDepth")
def stochastic_depth(keras: Context, x: ir.Value, *, drop_path_rate: float) -> ir.Value:
    return keras.op("Identity", x)


@layer("GaussianNoise", "GaussianDropout")
def noise(keras: Context, x: ir.Value, *, stddev: float | None = None, rate: float | None = None) -> ir.Value:
    return keras.op("Identity", x)


@layer("ActivityRegularization")
def activity_regularization(keras: Context, x: ir.Value, *, l1: float = 0.0, l2: float = 0.0) -> ir.Value:
    return keras.op("Identity", x)


@layer("Identity")
def identity(keras: Context, x: ir.Value) -> ir.Value:
    return keras.op("Identity", x)
