"""Activations, as layers and as the `activation` of other layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from importers.keras.layers import Context, layer

__all__ = ["activate"]

ALIASES = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "ReLU": "relu",
    "Softmax": "softmax",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "leakyrelu": "leaky_relu",
    "relu_6": "relu6",
    "log_softmax": "log_softmax",
}

ONE_OP = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "selu": "Selu",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "exponential": "Exp",
    "mish": "Mish",
    "hard_silu": "HardSwish",
    "celu": "Celu",
}


def activate(keras: Context, x: ir.Value, activation: Any) -> ir.Value:
    """Apply an `activation` argument: a name, None, or a serialised activation layer.

    Raises:
        Refusal: it is not a known one.
    """
    config: dict[str, Any] = {}
    if isinstance(activation, dict):
        config = {k: v for k, v in activation.items() if k not in ("name", "trainable", "dtype")}
        activation = config.pop("class_name")
    name = ALIASES.get(str(activation), str(activation))
    if activation is None or name == "linear":
        return x
    if name in CONFIGURED:
        try:
            return CONFIGURED[name](keras, x, **config)
        except TypeError as error:
            raise Refusal(f"activation {name} with {config} is not supported") from error
    if name == "relu" and config:
        result: ir.Value = relu(keras, x, **config)
        return result
    if config:
        raise Refusal(f"activation {name} with {config} is not supported")
    if name in ONE_OP:
        return keras.op(ONE_OP[name], x)
    raise Refusal(f"activation {name!r} is not supported yet")


def _softmax(keras: Context, x: ir.Value, axis: int | list[int] | None = -1) -> ir.Value:
    result: ir.Value = softmax(keras, x, axis=axis)
    return result


def _log_softmax(keras: Context, x: ir.Value, axis: int = -1) -> ir.Value:
    return keras.op("LogSoftmax", x, axis=axis)


def _elu(keras: Context, x: ir.Value, alpha: float = 1.0) -> ir.Value:
    return keras.op("Elu", x, alpha=float(alpha))


def _leaky_relu(keras: Context, x: ir.Value, negative_slope: float = 0.2, alpha: float | None = None) -> ir.Value:
    return keras.op("LeakyRelu", x, alpha=float(negative_slope if alpha is None else alpha))


def _gelu(keras: Context, x: ir.Value, approximate: bool = False) -> ir.Value:
    return keras.op("Gelu", x, approximate="tanh" if approximate else "none")


def _hard_sigmoid(keras: Context, x: ir.Value) -> ir.Value:
    """Keras 3: relu6(x + 3) / 6; Keras 1 and 2: 0.2 x + 0.5 between 0 and 1."""
    return keras.op("HardSigmoid", x, alpha=1 / 6 if keras.version >= 3 else 0.2, beta=0.5)


def _silu(keras: Context, x: ir.Value) -> ir.Value:
    """x * sigmoid(x); ONNX has Swish since opset 24, ONNX Runtime does not run it."""
    return keras.op("Mul", x, keras.op("Sigmoid", x))


def _relu6(keras: Context, x: ir.Value) -> ir.Value:
    return clip(keras, x, 0.0, 6.0)


def _log_sigmoid(keras: Context, x: ir.Value) -> ir.Value:
    """log(sigmoid(x)) = -softplus(-x), which does not underflow."""
    return keras.op("Neg", keras.op("Softplus", keras.op("Neg", x)))


def _glu(keras: Context, x: ir.Value, axis: int = -1) -> ir.Value:
    """The first half of an axis times the sigmoid of the second."""
    half, gate = keras.builder.ops("Split", x, outputs=2, axis=axis, num_outputs=2)
    return keras.op("Mul", half, keras.op("Sigmoid", gate))


def _hard_tanh(keras: Context, x: ir.Value) -> ir.Value:
    return clip(keras, x, -1.0, 1.0)


def _hard_shrink(keras: Context, x: ir.Value, threshold: float = 0.5) -> ir.Value:
    return keras.op("Shrink", x, lambd=float(threshold), bias=0.0)


def _soft_shrink(keras: Context, x: ir.Value, threshold: float = 0.5) -> ir.Value:
    return keras.op("Shrink", x, lambd=float(threshold), bias=float(threshold))


def _tanh_shrink(keras: Context, x: ir.Value) -> ir.Value:
    return keras.op("Sub", x, keras.op("Tanh", x))


def _squareplus(keras: Context, x: ir.Value, b: float = 4) -> ir.Value:
    """(x + sqrt(x^2 + b)) / 2."""
    root = keras.op("Sqrt", keras.op("Add", keras.op("Mul", x, x), keras.constant(b, "b")))
    return keras.op("Mul", keras.op("Add", x, root), keras.constant(0.5, "half"))


def _sparse_plus(keras: Context, x: ir.Value) -> ir.Value:
    """0 up to -1, x from 1 on, ((x + 1) / 2)^2 between."""
    inside = clip(keras, x, -1.0, 1.0)
    half = keras.op("Mul", keras.op("Add", inside, keras.constant(1.0, "one")), keras.constant(0.5, "half"))
    above = keras.op("Relu", keras.op("Sub", x, keras.constant(1.0, "limit")))
    return keras.op("Add", keras.op("Mul", half, half), above)


CONFIGURED: dict[str, Callable[..., ir.Value]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "hard_sigmoid": _hard_sigmoid,
    "silu": _silu,
    "relu6": _relu6,
    "log_sigmoid": _log_sigmoid,
    "glu": _glu,
    "hard_tanh": _hard_tanh,
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "tanh_shrink": _tanh_shrink,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
}


def clip(keras: Context, x: ir.Value, low: float, high: float | None) -> ir.Value:
    """Limit to [low, high]; no upper limit if `high` is None."""
    return keras.op("Clip", x, keras.constant(low, "min"), None if high is None else keras.constant(high, "max"))


@layer("Activation")
def activation(keras: Context, x: ir.Value, *, activation: Any) -> ir.Value:
    return activate(keras, x, activation) if activation not in (None, "linear") else keras.op("Identity", x)


@layer("ReLU")
def relu(
    keras: Context,
    x: ir.Value,
    *,
    max_value: float | None = None,
    negative_slope: float | list[float] | None = 0.0,
    threshold: float | list[float] | None = 0.0,
) -> ir.Value:
    """x above the threshold, limited by max_value; negative_slope * (x - threshold) below it."""
    slope, limit = float(_one(negative_slope) or 0.0), float(_one(threshold) or 0.0)
    top = _one(max_value)
    if limit == 0.0 and slope == 0.0:
        return keras.op("Relu", x) if top is None else clip(keras, x, 0.0, float(top))
    if limit == 0.0 and top is None:
        return keras.op("LeakyRelu", x, alpha=slope)
    y = keras.op("ThresholdedRelu", x, alpha=limit) if limit else keras.op("Relu", x)
    if top is not None:
        y = clip(keras, y, 0.0, float(top))
    if slope == 0.0:
        return y
    below = keras.op("Relu", keras.op("Sub", keras.constant(limit, "threshold"), x))
    return keras.op("Sub", y, keras.op("Mul", below, keras.constant(slope, "slope")))


def _one(value: float | list[float] | None) -> float | None:
    """tf.keras 2 writes a number as an array of none or one."""
    if isinstance(value, list):
        (value,) = value
    return value


@layer("LeakyReLU")
def leaky_relu(
    keras: Context, x: ir.Value, *, negative_slope: float | None = None, alpha: float | None = None
) -> ir.Value:
    slope = negative_slope if negative_slope is not None else alpha
    return keras.op("LeakyRelu", x, alpha=float(0.3 if slope is None else slope))


@layer("ELU")
def elu(keras: Context, x: ir.Value, *, alpha: float = 1.0) -> ir.Value:
    return keras.op("Elu", x, alpha=float(alpha))


@layer("ThresholdedReLU")
def thresholded_relu(keras: Context, x: ir.Value, *, theta: float = 1.0) -> ir.Value:
    return keras.op("ThresholdedRelu", x, alpha=float(theta))


@layer("PReLU")
def prelu(keras: Context, x: ir.Value, *, shared_axes: list[int] | None = None) -> ir.Value:
    """The slopes have the shape of the input without its batch, 1 along the shared axes."""
    sizes = keras.shape(x)[1:]
    if keras.version == 1:  # which does not record the shared axes
        (alpha,) = keras.weights(alpha=[None] * len(sizes))
        found = alpha.shape.numpy()
        if any(a not in (1, size) for a, size in zip(found, sizes, strict=True)):
            raise InvalidModel(f"layer {keras.name!r}: weight alpha has the shape {found}, its input {tuple(sizes)}")
    else:
        shape = [1 if axis in (shared_axes or []) else size for axis, size in enumerate(sizes, 1)]
        (alpha,) = keras.weights(alpha=shape)
    return keras.op("PRelu", x, keras.weight("alpha", alpha))


@layer("Softmax")
def softmax(keras: Context, x: ir.Value, *, axis: int | list[int] | None = -1) -> ir.Value:
    if axis is None:
        raise Refusal("a softmax over all axes, the batch among them, is not supported")
    axes = [int(a) for a in axis] if isinstance(axis, list | tuple) else [int(axis)]
    if len(axes) == 1:
        return keras.op("Softmax", x, axis=axes[0])
    over = keras.ints(axes, "axes")
    largest = keras.op("ReduceMax", x, over, keepdims=1)
    powers = keras.op("Exp", keras.op("Sub", x, largest))
    return keras.op("Div", powers, keras.op("ReduceSum", powers, over, keepdims=1))
