"""Fully connected layers."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from importers.keras.layers import Context, layer
from importers.keras.ops.activation import activate


@layer("Dense")
def dense(keras: Context, x: ir.Value, *, units: int, activation: Any = None, use_bias: bool = True) -> ir.Value:
    """Works on the last axis; a Gemm for matrices, a MatMul and an Add for more axes."""
    rank = len(keras.shape(x))
    columns = keras.size(x, -1)
    kernel, *bias = keras.weights(kernel=(columns, units), bias=(units,) if use_bias else None)
    weight = keras.weight("kernel", kernel)
    added = keras.weight("bias", bias[0]) if bias else None
    if rank == 2:
        y = keras.op("Gemm", x, weight, added)
    else:
        y = keras.op("MatMul", x, weight)
        y = y if added is None else keras.op("Add", y, added)
    return activate(keras, y, activation)
