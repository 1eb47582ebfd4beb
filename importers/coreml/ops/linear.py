"""Products: matrices, weights, sums over indices, attention."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import Mil
from importers.coreml.table import Values, op

__all__: list[str] = []


@op("linear")
def linear(mil: Mil, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    """Gemm for a matrix; otherwise MatMul with the weight transposed, and Add."""
    kind = mil.result_type()
    x, weight, bias = mil.cast(x, kind), mil.cast(weight, kind), None if bias is None else mil.cast(bias, kind)
    if mil.rank(x) == 2 and mil.is_float(x):
        return mil.op("Gemm", x, weight, bias, transB=1)
    y = mil.op("MatMul", x, mil.turned(weight))
    return y if bias is None else mil.op("Add", y, bias)


@op("matmul")
def matmul(mil: Mil, x: ir.Value, y: ir.Value, *, transpose_x: bool = False, transpose_y: bool = False) -> ir.Value:
    """MatMul, with the last two axes of what is transposed the other way round."""
    kind = mil.result_type()
    x, y = mil.cast(x, kind), mil.cast(y, kind)
    x = mil.flip_last(x) if transpose_x and mil.rank(x) > 1 else x
    if transpose_y and mil.rank(y) > 1:
        y = mil.turned(y) if mil.rank(y) == 2 else mil.flip_last(y)
    return mil.op("MatMul", x, y)


@op("einsum")
def einsum(mil: Mil, values: Values, *, equation: str) -> ir.Value:
    """Einsum."""
    if len(equation) > 200:
        raise Refusal("its equation is too long")
    return mil.op("Einsum", *mil.alike(*values), equation=equation)


@op("scaled_dot_product_attention")
def attention(mil: Mil, query: ir.Value, key: ir.Value, value: ir.Value, attn_mask: ir.Value | None = None) -> ir.Value:
    """softmax(query key' / sqrt(size) + mask) value; where the mask is false, the score is minus infinity."""
    size = mil.sizes(query)[-1]
    if size is None:
        raise Refusal("the last size of its query is open")
    key, value = mil.cast(key, mil.dtype(query)), mil.cast(value, mil.dtype(query))
    scaled = mil.op("Mul", query, mil.scalar(1 / math.sqrt(size), query, "scale"))
    scores = mil.op("MatMul", scaled, mil.flip_last(key))
    if attn_mask is not None and mil.dtype(attn_mask) == ir.DataType.BOOL:
        scores = mil.op("Where", attn_mask, scores, mil.scalar(-np.inf, scores, "masked"))
    elif attn_mask is not None:
        scores = mil.op("Add", scores, mil.cast(attn_mask, mil.dtype(query)))
    return mil.op("MatMul", mil.op("Softmax", scores, axis=-1), value)
