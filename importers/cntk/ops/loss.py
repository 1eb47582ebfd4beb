"""Losses: one number for the whole batch. Those that CNTK's Python makes are blocks of other functions."""

from __future__ import annotations

import onnx_ir as ir

from hub.errors import Refusal
from importers.cntk.context import Context, Tensor
from importers.cntk.ops.elementwise import log_of
from importers.cntk.table import function

__all__: list[str] = []

HINT = "give the outputs before the loss with outputs="


def _total(cntk: Context, value: ir.Value) -> Tensor:
    """The sum of everything, the batch as well."""
    return Tensor(cntk.op("ReduceSum", value, keepdims=0))


@function("SquaredError")
def squared_error(cntk: Context, x: Tensor, y: Tensor) -> Tensor:
    _, values = cntk.aligned(x, y)
    difference = cntk.op("Sub", *values)
    return _total(cntk, cntk.op("Mul", difference, difference))


@function("CrossEntropyWithSoftmax")
def cross_entropy(cntk: Context, x: Tensor, label: Tensor) -> Tensor:
    if cntk.rank(x) != 1:
        raise Refusal("its input has several axes", HINT)
    _, values = cntk.aligned(x.of(cntk.op("LogSoftmax", x, axis=-1)), label)
    return Tensor(cntk.op("Neg", _total(cntk, cntk.op("Mul", *values))))


@function("ClassificationError")
def classification_error(cntk: Context, x: Tensor, label: Tensor) -> Tensor:
    """How often the places of the largest numbers differ."""
    if cntk.rank(x) != 1:
        raise Refusal("its input has several axes", HINT)
    _, values = cntk.aligned(x, label)
    places = [cntk.op("ArgMax", value, axis=-1, keepdims=0) for value in values]
    same = cntk.op("Equal", *places)
    return _total(cntk, cntk.cast(cntk.op("Not", same), x))


@function("Logistic")
def logistic(cntk: Context, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """The sum of -log(x * y + (1 - x) * (1 - y))."""
    if weight is not None:
        raise Refusal("its numbers are weighted", HINT)
    _, (a, b) = cntk.aligned(x, y)
    one = cntk.constant(1, "one", x)
    both = cntk.op("Mul", cntk.op("Sub", one, a), cntk.op("Sub", one, b))
    return Tensor(cntk.op("Neg", _total(cntk, log_of(cntk, cntk.op("Add", cntk.op("Mul", a, b), both)))))
