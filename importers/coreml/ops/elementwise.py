"""What is done to each number: functions of one and of two, comparisons, logic, casts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from importers.coreml.context import Mil
from importers.coreml.table import op
from importers.coreml.types import by_name, onnx_type

__all__: list[str] = []

UNARY = {
    "abs": "Abs", "acos": "Acos", "asin": "Asin", "atan": "Atan", "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos",
    "cosh": "Cosh", "erf": "Erf", "exp": "Exp", "floor": "Floor", "identity": "Identity", "logical_not": "Not",
    "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign", "sin": "Sin", "sinh": "Sinh",
    "softplus": "Softplus", "softsign": "Softsign", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip

BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min", "pow": "Pow", "equal": "Equal",
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less", "less_equal": "LessOrEqual",
    "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor",
}  # fmt: skip


@op(*UNARY)
def unary(mil: Mil, x: ir.Value) -> ir.Value:
    """The operator of ONNX."""
    return mil.op(UNARY[mil.kind], x)


@op(*BINARY)
def binary(mil: Mil, x: ir.Value, y: ir.Value) -> ir.Value:
    """The operator of ONNX; numbers of different types as the wider of them."""
    return mil.op(BINARY[mil.kind], *mil.alike(x, y))


@op("not_equal")
def not_equal(mil: Mil, x: ir.Value, y: ir.Value) -> ir.Value:
    """Not, of Equal."""
    return mil.op("Not", mil.op("Equal", *mil.alike(x, y)))


@op("real_div")
def real_div(mil: Mil, x: ir.Value, y: ir.Value) -> ir.Value:
    """Div; of integers as floats, unless the result is an integer, which is rounded towards zero."""
    if not mil.is_float(x) and not mil.is_float(y) and mil.result_type() in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        x, y = (mil.cast(value, ir.DataType.FLOAT) for value in (x, y))
    return mil.op("Div", *mil.alike(x, y))


@op("floor_div")
def floor_div(mil: Mil, x: ir.Value, y: ir.Value) -> ir.Value:
    """Floor of Div; for integers, from whose quotient ONNX cuts off the rest, (x - x mod y) / y."""
    x, y = mil.alike(x, y)
    if mil.is_float(x):
        return mil.op("Floor", mil.op("Div", x, y))
    return mil.op("Div", mil.op("Sub", x, mil.op("Mod", x, y)), y)


@op("mod")
def mod(mil: Mil, x: ir.Value, y: ir.Value) -> ir.Value:
    """Mod for integers; x - floor(x / y) * y for floats. The result has the sign of y."""
    x, y = mil.alike(x, y)
    if not mil.is_float(x):
        return mil.op("Mod", x, y)
    return mil.op("Sub", x, mil.op("Mul", mil.op("Floor", mil.op("Div", x, y)), y))


@op("log")
def log(mil: Mil, x: ir.Value, *, epsilon: float = 1e-45) -> ir.Value:
    """Log of x + epsilon."""
    return mil.op("Log", _raised(mil, x, epsilon))


@op("inverse")
def inverse(mil: Mil, x: ir.Value, *, epsilon: float = 1e-4) -> ir.Value:
    """Reciprocal of x + epsilon."""
    return mil.op("Reciprocal", _raised(mil, x, epsilon))


@op("rsqrt")
def rsqrt(mil: Mil, x: ir.Value, *, epsilon: float = 1e-12) -> ir.Value:
    """Reciprocal of Sqrt of x + epsilon."""
    return mil.op("Reciprocal", mil.op("Sqrt", _raised(mil, x, epsilon)))


def _raised(mil: Mil, x: ir.Value, epsilon: float) -> ir.Value:
    """`x + epsilon`, unless that is nothing in the type of `x`."""
    with np.errstate(over="ignore"):
        number = mil.scalar(epsilon, x, "epsilon")
    assert number.const_value is not None
    return mil.op("Add", x, number) if number.const_value.numpy() != 0 else x


@op("square")
def square(mil: Mil, x: ir.Value) -> ir.Value:
    """Mul with itself."""
    return mil.op("Mul", x, x)


@op("exp2")
def exp2(mil: Mil, x: ir.Value) -> ir.Value:
    """Pow of 2."""
    return mil.op("Pow", mil.scalar(2, x, "two"), x)


@op("clip")
def clip(mil: Mil, x: ir.Value, *, alpha: float, beta: float) -> ir.Value:
    """Clip."""
    return mil.op("Clip", x, mil.scalar(alpha, x, "alpha"), mil.scalar(beta, x, "beta"))


@op("threshold")
def threshold(mil: Mil, x: ir.Value, *, alpha: float) -> ir.Value:
    """Max with alpha."""
    return mil.op("Max", x, mil.scalar(alpha, x, "alpha"))


@op("cast")
def cast(mil: Mil, x: ir.Value, *, dtype: str) -> ir.Value:
    """Cast."""
    return mil.op("Cast", x, to=int(onnx_type(by_name(dtype), mil.walker.upcast)))


@op("select")
def select(mil: Mil, cond: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Where."""
    return mil.op("Where", mil.cast(cond, ir.DataType.BOOL), *mil.alike(a, b))
