"""Shape arithmetic, done once at conversion."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from exporters.codegen.program import ADD, MULTIPLY, Expression, call
from exporters.constants import Constant, attributes_of
from exporters.torch.values import Dims, size_expression

__all__ = ["fold_dims"]


def fold_dims(node: ir.Node, inputs: list[Constant | Dims | None]) -> Dims | None:
    """The output of a node that computes with sizes, if sizes are what it gives."""
    function = _DIMS.get(node.op_type)
    if function is None or node.domain not in ("", "ai.onnx"):
        return None
    folded: Dims | None = function(inputs, attributes_of(node))
    return folded


def _elements(value: Constant | Dims | None) -> list[int | Expression] | None:
    if isinstance(value, Dims):
        return value.elements
    if value is None or len(value.shape) > 1 or value.size > 64:
        return None
    if value.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    return [int(e) for e in value.numpy().reshape(-1)]


def _is_scalar(value: Constant | Dims | None) -> bool:
    return value.scalar if isinstance(value, Dims) else value is not None and value.shape == ()


def _ints(value: Constant | Dims | None) -> list[int] | None:
    elements = _elements(value)
    if elements is None or not all(isinstance(e, int) for e in elements):
        return None
    return [e for e in elements if isinstance(e, int)]


def _gather(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    data, index = _elements(inputs[0]), _ints(inputs[1])
    if data is None or index is None or _is_scalar(inputs[0]):
        return None
    return Dims([data[i] for i in index], _is_scalar(inputs[1]))


def _slice(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    data, start, end = _elements(inputs[0]), _ints(inputs[1]), _ints(inputs[2])
    step = _ints(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1]
    if data is None or not start or not end or not step or step[0] == 0:
        return None
    bounded = [None if abs(v) >= 1 << 30 else v for v in (start[0], end[0])]
    return Dims(data[slice(bounded[0], bounded[1], step[0])])


def _concat(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    elements: list[int | Expression] = []
    for value in inputs:
        part = _elements(value)
        if part is None:
            return None
        elements.extend(part)
    return Dims(elements)


def _unsqueeze(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    elements = _elements(inputs[0])
    return Dims(elements) if elements is not None and _is_scalar(inputs[0]) else None


def _squeeze(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    elements = _elements(inputs[0])
    return Dims(elements, True) if elements is not None and len(elements) == 1 else None


def _same(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    elements = _elements(inputs[0])
    if elements is None or attributes.get("to", 7) != int(ir.DataType.INT64):
        return None
    return Dims(elements, _is_scalar(inputs[0]))


def _arithmetic(symbol: str) -> Any:
    def fold(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
        a, b = _elements(inputs[0]), _elements(inputs[1])
        if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
            return None
        length = max(len(a), len(b))
        a, b = (a * length if len(a) == 1 else a), (b * length if len(b) == 1 else b)
        scalar = _is_scalar(inputs[0]) and _is_scalar(inputs[1])
        return Dims([_combine(symbol, p, q) for p, q in zip(a, b, strict=True)], scalar)

    return fold


def _combine(symbol: str, a: int | Expression, b: int | Expression) -> int | Expression:
    if isinstance(a, int) and isinstance(b, int):
        if symbol == "//":
            return int(a / b) if b else 0
        return a + b if symbol == "+" else a - b if symbol == "-" else a * b
    if (symbol in "+-" and b == 0) or (symbol in ("*", "//") and b == 1):
        return a
    if (symbol == "+" and a == 0) or (symbol == "*" and a == 1):
        return b
    precedence = ADD if symbol in "+-" else MULTIPLY
    return call("{} " + symbol + " {}", size_expression(a), size_expression(b), precedence=precedence)


def _product(inputs: list[Constant | Dims | None], attributes: dict[str, Any]) -> Dims | None:
    elements = _elements(inputs[0])
    if elements is None or (len(inputs) > 1 and inputs[1] is not None and _ints(inputs[1]) != [0]):
        return None
    result: int | Expression = 1
    for element in elements:
        result = _combine("*", result, element)
    return Dims([result], not attributes.get("keepdims", 1))


_DIMS = {
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Identity": _same,
    "Cast": _same,
    "Add": _arithmetic("+"),
    "Sub": _arithmetic("-"),
    "Mul": _arithmetic("*"),
    "Div": _arithmetic("//"),
    "ReduceProd": _product,
}
