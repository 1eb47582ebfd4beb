"""Layers with several inputs."""

from __future__ import annotations

import onnx_ir as ir

from hub.errors import Refusal
from importers.keras.layers import Context, layer

ELEMENTWISE = {
    "Add": "Add",
    "Multiply": "Mul",
    "Maximum": "Max",
    "Minimum": "Min",
    "Average": "Mean",
}


@layer(*ELEMENTWISE)
def merge(keras: Context, *inputs: ir.Value) -> ir.Value:
    """Element by element over any number of inputs.

    An input of lower rank is aligned at the batch, as Keras does, not at the last axis.
    """
    op_type = ELEMENTWISE[keras.layer.class_name]
    values = _same_rank(keras, inputs)
    if op_type in ("Max", "Min", "Mean"):
        return keras.op(op_type, *values)
    result = values[0]
    for value in values[1:]:
        result = keras.op(op_type, result, value)
    return result


@layer("Subtract")
def subtract(keras: Context, a: ir.Value, b: ir.Value) -> ir.Value:
    a, b = _same_rank(keras, (a, b))
    return keras.op("Sub", a, b)


@layer("Concatenate")
def concatenate(keras: Context, *inputs: ir.Value, axis: int = -1) -> ir.Value:
    return keras.op("Concat", *inputs, axis=int(axis))


@layer("CustomScaleLayer")
def custom_scale(keras: Context, x: ir.Value, residual: ir.Value, *, scale: float) -> ir.Value:
    """InceptionResNetV2: x + scale * residual."""
    return keras.op("Add", x, keras.op("Mul", residual, keras.constant(scale, "scale")))


def _same_rank(keras: Context, inputs: tuple[ir.Value, ...]) -> list[ir.Value]:
    ranks = {len(keras.shape(value)) for value in inputs}
    if len(ranks) > 1:
        raise Refusal(f"inputs of {' and '.join(map(str, sorted(ranks)))} axes are not supported yet")
    return list(inputs)
