"""Number by number: arithmetic, comparisons, and functions of one number.

Some of CNTK's functions are kept from what has no result: its logarithm is -85.1 below 1e-37, its root of a
negative number is 0, and so is 1 / 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from importers.cntk.context import Context, Tensor
from importers.cntk.positive import nonzero
from importers.cntk.table import function

__all__: list[str] = []

SAME = {
    "Negate": "Neg", "Tanh": "Tanh", "Exp": "Exp", "Floor": "Floor", "Abs": "Abs", "Sin": "Sin", "Cos": "Cos",
    "Tan": "Tan", "Asin": "Asin", "Acos": "Acos", "Atan": "Atan", "Sinh": "Sinh", "Cosh": "Cosh", "Asinh": "Asinh",
    "Atanh": "Atanh", "Sigmoid": "Sigmoid", "StableSigmoid": "Sigmoid", "ReLU": "Relu", "ELU": "Elu",
}  # fmt: skip
"""CNTK's name of a function of one number -> ONNX's."""


@function(*SAME)
def unary(cntk: Context, x: Tensor) -> Tensor:
    return x.of(cntk.op(SAME[cntk.found.op], x))


@function("NoOp", "Pass", "StopGradient")
def same(cntk: Context, x: Tensor) -> Tensor:
    return x.of(cntk.op("Identity", x))


@function("Dropout")
def dropout(cntk: Context, x: Tensor, *, dropoutRate: float = 0.0) -> Tensor:
    """Nothing, at inference."""
    return x.of(cntk.op("Identity", x))


@function("Log")
def log(cntk: Context, x: Tensor) -> Tensor:
    """Below 1e-37 it is -85.1."""
    return x.of(log_of(cntk, x.value))


def log_of(cntk: Context, value: ir.Value) -> ir.Value:
    """CNTK's logarithm."""
    low = cntk.op("Less", value, cntk.constant(1e-37, "least", value))
    return cntk.op("Where", low, cntk.constant(-85.1, "lowest", value), cntk.op("Log", value))


@function("Sqrt")
def sqrt(cntk: Context, x: Tensor) -> Tensor:
    """Of a negative number it is 0."""
    return x.of(cntk.op("Sqrt", cntk.op("Relu", x)))


@function("Reciprocal")
def reciprocal(cntk: Context, x: Tensor) -> Tensor:
    """Of 0 it is 0."""
    y = cntk.op("Reciprocal", x)
    if nonzero(cntk.network, cntk.network.source(cntk.found.inputs[0])):
        return x.of(y)
    zero = cntk.constant(0, "zero", x)
    return x.of(cntk.op("Where", cntk.op("Equal", x, zero), zero, y))


ARITHMETIC = {"Plus": "Add", "Minus": "Sub", "ElementTimes": "Mul", "Pow": "Pow"}


@function(*ARITHMETIC)
def arithmetic(cntk: Context, x: Tensor, y: Tensor) -> Tensor:
    like, values = cntk.aligned(x, y)
    return like.of(cntk.op(ARITHMETIC[cntk.found.op], *values))


COMPARISONS = {
    "Equal": "Equal", "NotEqual": "Equal", "Less": "Less", "LessEqual": "LessOrEqual", "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
}  # fmt: skip


@function(*COMPARISONS)
def comparison(cntk: Context, x: Tensor, y: Tensor) -> Tensor:
    """1 where it holds, 0 elsewhere."""
    like, values = cntk.aligned(x, y)
    found = cntk.op(COMPARISONS[cntk.found.op], *values)
    if cntk.found.op == "NotEqual":
        found = cntk.op("Not", found)
    return like.of(cntk.cast(found, values[0]))


@function("LogPlus")
def log_plus(cntk: Context, x: Tensor, y: Tensor) -> Tensor:
    """The logarithm of the sum of two exponentials; with a 0 it is Softplus."""
    for one, other in ((x, y), (y, x)):
        numbers = cntk.numbers(other)
        if numbers is not None and numbers.shape == () and numbers == 0:
            return one.of(cntk.op("Softplus", one))
    like, (a, b) = cntk.aligned(x, y)
    # log(exp(a) + exp(b)) = max + log(1 + exp(min - max))
    high = cntk.op("Max", a, b)
    return like.of(cntk.op("Add", high, cntk.op("Softplus", cntk.op("Sub", cntk.op("Min", a, b), high))))


@function("Clip")
def clip(cntk: Context, x: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Between two numbers, or two for each place; the lower one holds where it is above the upper one."""
    like, values = cntk.aligned(x, least, most)
    lower, upper = cntk.numbers(least), cntk.numbers(most)
    if lower is None or upper is None or not np.all(lower <= upper):
        below, above = cntk.op("Less", values[0], values[1]), cntk.op("Greater", values[0], values[2])
        return like.of(cntk.op("Where", below, values[1], cntk.op("Where", above, values[2], values[0])))
    if all(value.shape is not None and len(value.shape) == 0 for value in values[1:]):
        return like.of(cntk.op("Clip", *values))
    return like.of(cntk.op("Min", cntk.op("Max", values[0], values[1]), values[2]))


@function("Select")
def select(cntk: Context, flag: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """The second input where the first is not 0, the third elsewhere."""
    like, values = cntk.aligned(flag, yes, no)
    return like.of(cntk.op("Where", _truth(cntk, values[0]), values[1], values[2]))


def _truth(cntk: Context, flag: ir.Value) -> ir.Value:
    """Numbers as truth values; those that a comparison gave, as it gave them."""
    node = flag.producer()
    if node is not None and node.op_type == "Cast":
        before = node.inputs[0]
        if before is not None and before.dtype == ir.DataType.BOOL:
            return before
    return cntk.op("Cast", flag, to=int(ir.DataType.BOOL))


@function("StraightThrough")
def straight_through(cntk: Context, x: Tensor) -> Tensor:
    """1 where the number is above 0, -1 elsewhere."""
    above = cntk.op("Greater", x, cntk.constant(0, "zero", x))
    return x.of(cntk.op("Where", above, cntk.constant(1, "one", x), cntk.constant(-1, "minus_one", x)))


@function("Cast")
def cast(cntk: Context, x: Tensor, *, newDataType: int) -> Tensor:
    types = {1: ir.DataType.FLOAT, 2: ir.DataType.DOUBLE, 4: ir.DataType.FLOAT16}
    cntk.require(newDataType in types, f"the type {newDataType}")
    return x.of(cntk.op("Cast", x, to=int(types[newDataType])))


@function("ConstantOp")
def constant_like(cntk: Context, x: Tensor, *, fillValue: float = 0.0) -> Tensor:
    """One number everywhere, in the shape of the input."""
    return x.of(cntk.op("Expand", cntk.constant(fillValue, "value", x), cntk.op("Shape", x)))
