"""Functions of several numbers: arithmetic, comparison, logic."""

from __future__ import annotations

import onnx_ir as ir

from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.ops.activation import affine

__all__: list[str] = []


def _several(net: Context, op_type: str, inputs: tuple[ir.Value, ...]) -> ir.Value:
    """An operation of two, over all of them."""
    net.require(len(inputs) >= 1, "it has no input")
    result = inputs[0]
    for other in inputs[1:]:
        result = net.op(op_type, result, other)
    return result


@layer("add")
def add(net: Context, *inputs: ir.Value, alpha: float) -> ir.Value:
    """The sum of the inputs; of a single one and a number."""
    return affine(net, inputs[0], 1, alpha) if len(inputs) == 1 else _several(net, "Add", inputs)


@layer("multiply")
def multiply(net: Context, *inputs: ir.Value, alpha: float) -> ir.Value:
    """The product of the inputs; of a single one and a number."""
    return affine(net, inputs[0], alpha, 0) if len(inputs) == 1 else _several(net, "Mul", inputs)


@layer("average")
def average(net: Context, *inputs: ir.Value) -> ir.Value:
    return affine(net, _several(net, "Add", inputs), 1 / max(len(inputs), 1), 0)


@layer("max", "maxBroadcastable")
def maximum(net: Context, *inputs: ir.Value) -> ir.Value:
    net.require(len(inputs) >= 1, "it has no input")
    return net.op("Max", *inputs)


@layer("min", "minBroadcastable")
def minimum(net: Context, *inputs: ir.Value) -> ir.Value:
    net.require(len(inputs) >= 1, "it has no input")
    return net.op("Min", *inputs)


@layer("addBroadcastable")
def add_broadcastable(net: Context, *inputs: ir.Value) -> ir.Value:
    return _several(net, "Add", inputs)


@layer("multiplyBroadcastable")
def multiply_broadcastable(net: Context, *inputs: ir.Value) -> ir.Value:
    return _several(net, "Mul", inputs)


@layer("subtractBroadcastable")
def subtract(net: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    return net.op("Sub", a, b)


@layer("divideBroadcastable")
def divide(net: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    return net.op("Div", a, b)


@layer("floorDivBroadcastable")
def floor_divide(net: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    return net.op("Floor", net.op("Div", a, b))


@layer("modBroadcastable")
def modulo(net: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    """What is left with the sign of the divisor, as in Python."""
    left = net.op("Mod", a, b, fmod=1)
    zero = net.number(0, "zero")
    wrong = net.op("And", net.op("Not", net.op("Equal", left, zero)), net.op("Less", net.op("Mul", left, b), zero))
    return net.op("Where", wrong, net.op("Add", left, b), left)


@layer("powBroadcastable")
def power(net: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    return net.op("Pow", a, b)


COMPARISONS = {
    "equal": "Equal",
    "lessThan": "Less",
    "lessEqual": "LessOrEqual",
    "greaterThan": "Greater",
    "greaterEqual": "GreaterOrEqual",
}


@layer("equal", "notEqual", "lessThan", "lessEqual", "greaterThan", "greaterEqual")
def compare(net: Context, a: ir.Value, b: ir.Value | None = None, *, alpha: float) -> ir.Value:
    """1 or 0; a single input is compared with a number."""
    other = net.number(alpha, "alpha") if b is None else b
    if net.kind == "notEqual":
        return net.floats(net.op("Not", net.op("Equal", a, other)))
    return net.floats(net.op(COMPARISONS[net.kind], a, other))


@layer("logicalAnd", "logicalOr", "logicalXor")
def logical(net: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    return net.floats(net.op(net.kind.removeprefix("logical"), net.bool(a), net.bool(b)))


@layer("logicalNot")
def logical_not(net: Context, x: ir.Value) -> ir.Value:
    return net.floats(net.op("Not", net.bool(x)))


@layer("whereBroadcastable")
def where(net: Context, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return net.op("Where", net.bool(condition), a, b)


@layer("dot")
def dot(net: Context, a: ir.Value, b: ir.Value, *, cosineSimilarity: bool) -> ir.Value:
    """The product of two vectors along the channels, of vectors of length 1 if so said."""
    net.at_least(a, 3)
    axes = net.ints([-3], "axes")
    product = net.op("ReduceSum", net.op("Mul", a, b), axes, keepdims=1)
    if not cosineSimilarity:
        return product
    lengths = net.op("Mul", net.op("ReduceL2", a, axes, keepdims=1), net.op("ReduceL2", b, axes, keepdims=1))
    return net.op("Div", product, lengths)


@layer("copy")
def copy(net: Context, x: ir.Value) -> ir.Value:
    return net.op("Identity", x)
