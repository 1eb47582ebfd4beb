"""Pooling. Keras rounds sizes down, and averages over what is inside the image."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from importers.keras.layers import Context, layer
from importers.keras.ops.conv import Ints, padding_attributes, spread


def _pool(
    keras: Context,
    op_type: str,
    x: ir.Value,
    pool_size: Ints,
    strides: Ints | None,
    padding: str,
    data_format: str | None,
    **attributes: Any,
) -> ir.Value:
    n = len(keras.shape(x)) - 2
    size = spread(pool_size, n)
    step = size if strides is None else spread(strides, n)
    x = keras.first(x, data_format)
    pads = padding_attributes(keras, x, padding, size, step, [1] * n, op_type)
    y = keras.op(op_type, x, kernel_shape=size, strides=step, **pads, **attributes)
    return keras.last(y, data_format)


@layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "MaxPool1D", "MaxPool2D", "MaxPool3D")
def max_pooling(
    keras: Context,
    x: ir.Value,
    *,
    pool_size: Ints,
    strides: Ints | None = None,
    padding: str = "valid",
    data_format: str | None = "channels_last",
) -> ir.Value:
    return _pool(keras, "MaxPool", x, pool_size, strides, padding, data_format)


@layer("AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "AvgPool1D", "AvgPool2D", "AvgPool3D")
def average_pooling(
    keras: Context,
    x: ir.Value,
    *,
    pool_size: Ints,
    strides: Ints | None = None,
    padding: str = "valid",
    data_format: str | None = "channels_last",
) -> ir.Value:
    return _pool(keras, "AveragePool", x, pool_size, strides, padding, data_format, count_include_pad=0)


def _global(keras: Context, op_type: str, x: ir.Value, data_format: str | None, keepdims: bool) -> ir.Value:
    y = keras.op(op_type, keras.first(x, data_format))
    return keras.last(y, data_format) if keepdims else keras.op("Flatten", y)


@layer("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
@layer("GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D")
def global_average_pooling(
    keras: Context, x: ir.Value, *, data_format: str | None = "channels_last", keepdims: bool = False
) -> ir.Value:
    return _global(keras, "GlobalAveragePool", x, data_format, keepdims)


@layer("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
@layer("GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D")
def global_max_pooling(
    keras: Context, x: ir.Value, *, data_format: str | None = "channels_last", keepdims: bool = False
) -> ir.Value:
    return _global(keras, "GlobalMaxPool", x, data_format, keepdims)
