"""Activations and functions of one number."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from importers.coreml.neuralnetwork.layers import Context, layer

__all__: list[str] = []

SQRT_HALF = float(np.sqrt(0.5))


def affine(net: Context, x: ir.Value, scale: float, shift: float) -> ir.Value:
    """scale * x + shift, without what changes nothing."""
    if scale != 1:
        x = net.op("Mul", x, net.number(scale, "scale"))
    return net.op("Add", x, net.number(shift, "shift")) if shift != 0 else x


def _by_channel(net: Context, x: ir.Value, params: Any, name: str) -> ir.Value:
    """A number, or one for each channel, the third axis from the end."""
    if net.weights.count(params) == 1:
        return net.weight(params, (1,), name)
    net.at_least(x, 3)
    return net.weight(params, (net.size(x, -3),), name, lambda a: a.reshape(-1, 1, 1))


@layer("activation")
def activation(
    net: Context,
    x: ir.Value,
    *,
    linear: Any,
    ReLU: Any,
    leakyReLU: Any,
    thresholdedReLU: Any,
    PReLU: Any,
    tanh: Any,
    scaledTanh: Any,
    sigmoid: Any,
    sigmoidHard: Any,
    ELU: Any,
    softsign: Any,
    softplus: Any,
    parametricSoftplus: Any,
) -> ir.Value:
    """The one of them that is set."""
    if linear is not None:
        return affine(net, x, linear.alpha, linear.beta)
    if leakyReLU is not None:
        return net.op("LeakyRelu", x, alpha=leakyReLU.alpha)
    if thresholdedReLU is not None:
        limit = net.number(thresholdedReLU.alpha, "alpha")
        return net.op("Where", net.op("GreaterOrEqual", x, limit), x, net.number(0, "zero"))
    if PReLU is not None:
        net.require(PReLU.HasField("alpha"), "it has no alpha")
        return net.op("PRelu", x, _by_channel(net, x, PReLU.alpha, "alpha"))
    if scaledTanh is not None:
        return affine(net, net.op("Tanh", affine(net, x, scaledTanh.beta, 0)), scaledTanh.alpha, 0)
    if sigmoidHard is not None:
        return net.op("HardSigmoid", x, alpha=sigmoidHard.alpha, beta=sigmoidHard.beta)
    if ELU is not None:
        return net.op("Elu", x, alpha=ELU.alpha)
    if parametricSoftplus is not None:
        alpha, beta = parametricSoftplus.alpha, parametricSoftplus.beta
        inner = net.op("Softplus", net.op("Mul", x, _by_channel(net, x, beta, "beta")))
        return net.op("Mul", inner, _by_channel(net, x, alpha, "alpha"))
    plain = {"Relu": ReLU, "Tanh": tanh, "Sigmoid": sigmoid, "Softsign": softsign, "Softplus": softplus}
    for op_type, params in plain.items():
        if params is not None:
            return net.op(op_type, x)
    raise InvalidModel("it does not say which activation it is")


@layer("unary")
def unary(
    net: Context, x: ir.Value, *, type: str, alpha: float, epsilon: float, shift: float, scale: float
) -> ir.Value:
    """A function of scale * x + shift."""
    if scale == 0:
        raise Refusal("it is scaled by 0, or does not say by what")
    x = affine(net, x, scale, shift)
    if type == "THRESHOLD":
        return net.op("Max", x, net.number(alpha, "alpha"))
    if type == "POWER":
        return net.op("Pow", x, net.number(alpha, "alpha"))
    if type in ("RSQRT", "INVERSE", "LOG"):
        x = affine(net, x, 1, epsilon)
    if type == "RSQRT":
        return net.op("Reciprocal", net.op("Sqrt", x))
    return net.op({"SQRT": "Sqrt", "INVERSE": "Reciprocal", "EXP": "Exp", "LOG": "Log", "ABS": "Abs"}[type], x)


@layer(
    "ceil", "floor", "sign", "round", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh",
    "acosh", "atanh", "erf",
)  # fmt: skip
def same_in_onnx(net: Context, x: ir.Value) -> ir.Value:
    """These have the names that they have in ONNX."""
    return net.op(net.kind.capitalize(), x)


@layer("exp2")
def exp2(net: Context, x: ir.Value) -> ir.Value:
    return net.op("Pow", net.number(2, "base"), x)


@layer("gelu")
def gelu(net: Context, x: ir.Value, *, mode: str) -> ir.Value:
    if mode == "SIGMOID_APPROXIMATION":
        return net.op("Mul", x, net.op("Sigmoid", affine(net, x, 1.702, 0)))
    return net.op("Gelu", x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@layer("clip")
def clip(net: Context, x: ir.Value, *, minVal: float, maxVal: float) -> ir.Value:
    return net.op("Clip", x, net.number(minVal, "min"), net.number(maxVal, "max"))


@layer("clampedReLU")
def clamped_relu(net: Context, x: ir.Value, *, alpha: float, beta: float) -> ir.Value:
    """min(x, beta) from 0 on, min(alpha * x, beta) below."""
    return net.op("Min", net.op("LeakyRelu", x, alpha=alpha), net.number(beta, "beta"))


@layer("softmax")
def softmax(net: Context, x: ir.Value) -> ir.Value:
    """Over the channels."""
    net.at_least(x, 3)
    vector = net.narrow(x)
    return net.op("Softmax", x, axis=-3) if vector is None else net.wide(net.op("Softmax", vector, axis=1))


@layer("softmaxND")
def softmax_nd(net: Context, x: ir.Value, *, axis: int) -> ir.Value:
    return net.op("Softmax", x, axis=net.axis(x, axis))
