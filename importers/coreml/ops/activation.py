"""Activations."""

from __future__ import annotations

import onnx_ir as ir

from importers.coreml.constants import Array
from importers.coreml.context import Mil
from importers.coreml.table import op

__all__: list[str] = []


@op("relu6")
def relu6(mil: Mil, x: ir.Value) -> ir.Value:
    """Clip from 0 to 6."""
    return mil.op("Clip", x, mil.scalar(0, x, "zero"), mil.scalar(6, x, "six"))


@op("silu")
def silu(mil: Mil, x: ir.Value) -> ir.Value:
    """Mul with Sigmoid."""
    return mil.op("Mul", x, mil.op("Sigmoid", x))


@op("gelu")
def gelu(mil: Mil, x: ir.Value, *, mode: str = "EXACT") -> ir.Value:
    """Gelu, exact or with tanh; x * sigmoid(1.702 * x) for the approximation with a sigmoid."""
    mil.one_of(mode, "EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    if mode == "SIGMOID_APPROXIMATION":
        return mil.op("Mul", x, mil.op("Sigmoid", mil.op("Mul", x, mil.scalar(1.702, x, "slope"))))
    return mil.op("Gelu", x, approximate="tanh" if mode == "TANH_APPROXIMATION" else None)


@op("leaky_relu")
def leaky_relu(mil: Mil, x: ir.Value, *, alpha: float) -> ir.Value:
    """LeakyRelu."""
    return mil.op("LeakyRelu", x, alpha=alpha)


@op("elu")
def elu(mil: Mil, x: ir.Value, *, alpha: float) -> ir.Value:
    """Elu."""
    return mil.op("Elu", x, alpha=alpha)


@op("thresholded_relu")
def thresholded_relu(mil: Mil, x: ir.Value, *, alpha: float) -> ir.Value:
    """x where it is alpha or more, otherwise 0; ONNX's own asks for more than alpha."""
    above = mil.op("GreaterOrEqual", x, mil.scalar(alpha, x, "alpha"))
    return mil.op("Where", above, x, mil.scalar(0, x, "zero"))


@op("clamped_relu")
def clamped_relu(mil: Mil, x: ir.Value, *, alpha: float, beta: float) -> ir.Value:
    """The minimum of LeakyRelu and beta."""
    return mil.op("Min", mil.op("LeakyRelu", x, alpha=alpha), mil.scalar(beta, x, "beta"))


@op("linear_activation")
def linear_activation(mil: Mil, x: ir.Value, *, alpha: float, beta: float) -> ir.Value:
    """alpha * x + beta."""
    return mil.op("Add", mil.op("Mul", x, mil.scalar(alpha, x, "alpha")), mil.scalar(beta, x, "beta"))


@op("scaled_tanh")
def scaled_tanh(mil: Mil, x: ir.Value, *, alpha: float, beta: float) -> ir.Value:
    """alpha * tanh(beta * x)."""
    return mil.op("Mul", mil.op("Tanh", mil.op("Mul", x, mil.scalar(beta, x, "beta"))), mil.scalar(alpha, x, "alpha"))


@op("sigmoid_hard")
def sigmoid_hard(mil: Mil, x: ir.Value, *, alpha: float, beta: float) -> ir.Value:
    """HardSigmoid."""
    return mil.op("HardSigmoid", x, alpha=alpha, beta=beta)


@op("prelu")
def prelu(mil: Mil, x: ir.Value, *, alpha: Array) -> ir.Value:
    """PRelu, with a slope for each channel."""
    return mil.op("PRelu", x, _channels(mil, x, alpha, "alpha"))


@op("softplus_parametric")
def softplus_parametric(mil: Mil, x: ir.Value, *, alpha: Array, beta: Array) -> ir.Value:
    """alpha * softplus(beta * x), with an alpha and a beta for each channel."""
    inner = mil.op("Softplus", mil.op("Mul", x, _channels(mil, x, beta, "beta")))
    return mil.op("Mul", inner, _channels(mil, x, alpha, "alpha"))


def _channels(mil: Mil, x: ir.Value, numbers: Array, name: str) -> ir.Value:
    """Numbers for the channels of `x`, the second axis."""
    rank, channels = mil.rank(x), mil.sizes(x)[1] if mil.rank(x) > 1 else None
    mil.require(
        (rank >= 2 and channels in (None, numbers.size)) or numbers.size == 1, f"its {name} has {numbers.size} numbers"
    )
    return mil.array(numbers.reshape(-1, *[1] * (rank - 2)), x, name)


@op("softmax")
def softmax(mil: Mil, x: ir.Value, *, axis: int = -1) -> ir.Value:
    """Softmax."""
    return mil.op("Softmax", x, axis=axis)
