"""Convolutions. Keras kernels are (spatial..., in / groups, out), ONNX's (out, in / groups, spatial...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from hub.tensors import ViewTensor
from importers.keras.layers import Context, layer
from importers.keras.ops.activation import activate

__all__ = ["padding_attributes"]

Ints = int | Sequence[int]


def spread(value: Ints, rank: int, least: int = 1) -> list[int]:
    """One number for all axes, or one for each; none below `least`."""
    values = [value] * rank if isinstance(value, int) else list(value)
    if len(values) != rank or any(type(v) is not int or v < least for v in values):
        raise InvalidModel(f"{str(value)[:40]} is not {rank} sizes of {least} or more")
    return values


def padding_attributes(
    keras: Context,
    x: ir.Value,
    padding: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    op_type: str = "Conv",
) -> dict[str, Any]:
    """The `pads` of a channels-first `x`; TensorFlow's SAME puts the odd one at the end.

    With an unknown size and a stride, SAME depends on the size: `auto_pad` says so.
    """
    if padding == "valid":
        return {}
    if padding == "causal":
        return {"pads": [(kernel[0] - 1) * dilations[0], 0]}
    if padding != "same":
        raise Refusal(f"padding {padding!r} is not supported")
    if keras.theano:
        # Half of the kernel before the image, whatever its size, and as much behind as gives ceil(in / stride).
        if op_type != "Conv":
            raise Refusal("pooling with padding 'same' as Theano does it is not supported yet")
        sizes = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        return {"pads": [k // 2 for k in sizes] + [k - 1 - k // 2 for k in sizes]}
    begins, ends = [], []
    for size, k, s, d in zip(keras.shape(x)[2:], kernel, strides, dilations, strict=True):
        if size is None and s > 1:
            return {"auto_pad": "SAME_UPPER"}
        total = (k - 1) * d if size is None else max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return {"pads": begins + ends} if any(begins + ends) else {}


def convolve(
    keras: Context,
    x: ir.Value,
    kernel: ir.Value,
    bias: ir.Value | None,
    *,
    padding: str,
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> ir.Value:
    """A channels-first convolution with the attributes that differ from the defaults."""
    assert kernel.shape is not None
    size = list(kernel.shape.numpy())[2:]
    return keras.op(
        "Conv",
        x,
        kernel,
        bias,
        kernel_shape=size,
        strides=list(strides) if any(s != 1 for s in strides) else None,
        dilations=list(dilations) if any(d != 1 for d in dilations) else None,
        group=group if group != 1 else None,
        **padding_attributes(keras, x, padding, size, strides, dilations),
    )


def _optional(keras: Context, name: str, tensors: list[ViewTensor]) -> ir.Value | None:
    """The bias, if there is one left in `tensors`."""
    return keras.weight(name, tensors[0]) if tensors else None


@layer("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
def conv(
    keras: Context,
    x: ir.Value,
    *,
    filters: int,
    kernel_size: Ints,
    strides: Ints = 1,
    padding: str = "valid",
    data_format: str | None = "channels_last",
    dilation_rate: Ints = 1,
    groups: int = 1,
    activation: Any = None,
    use_bias: bool = True,
    rank: int | None = None,
) -> ir.Value:
    n = len(keras.shape(x)) - 2
    size = spread(kernel_size, n)
    x = keras.first(x, data_format)
    channels = keras.size(x, 1)
    kernel, *bias = keras.weights(kernel=(*size, channels // groups, filters), bias=(filters,) if use_bias else None)
    y = convolve(
        keras,
        x,
        keras.weight("kernel", kernel, [n + 1, n, *range(n)]),
        _optional(keras, "bias", bias),
        padding=padding,
        strides=spread(strides, n),
        dilations=spread(dilation_rate, n),
        group=groups,
    )
    # Softmax and the like work on Keras's last axis.
    return activate(keras, keras.last(y, data_format), activation)


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(
    keras: Context,
    x: ir.Value,
    *,
    kernel_size: Ints,
    strides: Ints = 1,
    padding: str = "valid",
    depth_multiplier: int = 1,
    data_format: str | None = "channels_last",
    dilation_rate: Ints = 1,
    activation: Any = None,
    use_bias: bool = True,
    filters: int | None = None,
    rank: int | None = None,
) -> ir.Value:
    """Each input channel by its own `depth_multiplier` kernels: a convolution of as many groups."""
    n = len(keras.shape(x)) - 2
    size = spread(kernel_size, n)
    x = keras.first(x, data_format)
    channels = keras.size(x, 1)
    out = channels * depth_multiplier
    kernel, *bias = keras.weights(
        depthwise_kernel=(*size, channels, depth_multiplier), bias=(out,) if use_bias else None
    )
    y = convolve(
        keras,
        x,
        _depthwise(keras, "depthwise_kernel", kernel, n),
        _optional(keras, "bias", bias),
        padding=padding,
        strides=spread(strides, n),
        dilations=spread(dilation_rate, n),
        group=channels,
    )
    return activate(keras, keras.last(y, data_format), activation)


def _depthwise(keras: Context, name: str, kernel: ViewTensor, n: int) -> ir.Value:
    """(spatial..., in, multiplier) as (in * multiplier, 1, spatial...)."""
    *size, channels, multiplier = kernel.shape.numpy()
    turned = kernel.transformed(kernel.array.transpose([n, n + 1, *range(n)]), (channels * multiplier, 1, *size))
    return keras.weight(name, turned)


@layer("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def separable_conv(
    keras: Context,
    x: ir.Value,
    *,
    filters: int,
    kernel_size: Ints,
    strides: Ints = 1,
    padding: str = "valid",
    data_format: str | None = "channels_last",
    dilation_rate: Ints = 1,
    depth_multiplier: int = 1,
    activation: Any = None,
    use_bias: bool = True,
    rank: int | None = None,
) -> ir.Value:
    """A depthwise convolution, then a pointwise one with the bias and the activation."""
    n = len(keras.shape(x)) - 2
    size = spread(kernel_size, n)
    x = keras.first(x, data_format)
    channels = keras.size(x, 1)
    middle = channels * depth_multiplier
    depthwise, pointwise, *bias = keras.weights(
        depthwise_kernel=(*size, channels, depth_multiplier),
        pointwise_kernel=(*[1] * n, middle, filters),
        bias=(filters,) if use_bias else None,
    )
    y = convolve(
        keras,
        x,
        _depthwise(keras, "depthwise_kernel", depthwise, n),
        None,
        padding=padding,
        strides=spread(strides, n),
        dilations=spread(dilation_rate, n),
        group=channels,
    )
    y = convolve(
        keras,
        y,
        keras.weight("pointwise_kernel", pointwise, [n + 1, n, *range(n)]),
        _optional(keras, "bias", bias),
        padding="valid",
        strides=[1] * n,
        dilations=[1] * n,
        group=1,
    )
    return activate(keras, keras.last(y, data_format), activation)


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Deconvolution2D")
def conv_transpose(
    keras: Context,
    x: ir.Value,
    *,
    filters: int,
    kernel_size: Ints,
    strides: Ints = 1,
    padding: str = "valid",
    output_padding: Ints | None = None,
    data_format: str | None = "channels_last",
    dilation_rate: Ints = 1,
    activation: Any = None,
    use_bias: bool = True,
    groups: int = 1,
    rank: int | None = None,
) -> ir.Value:
    """The gradient of a convolution; SAME gives in * stride.

    With `output_padding` the sizes are (in - 1) * stride + (kernel % 2 if SAME, else kernel) + output_padding,
    where a dilated kernel counts as large as it is spread.
    """
    n = len(keras.shape(x)) - 2
    size, step, dilations = spread(kernel_size, n), spread(strides, n), spread(dilation_rate, n)
    if groups != 1:
        raise Refusal("a transposed convolution in groups is not supported yet")
    if padding not in ("valid", "same"):
        raise Refusal(f"padding {padding!r} is not supported")
    x = keras.first(x, data_format)
    channels = keras.size(x, 1)
    kernel, *bias = keras.weights(kernel=(*size, filters, channels), bias=(filters,) if use_bias else None)
    added = [None] * n if output_padding is None else spread(output_padding, n, 0)
    begins, ends, extra = [0] * n, [0] * n, [0] * n
    for axis, (k, s, d, more) in enumerate(zip(size, step, dilations, added, strict=True)):
        k = (k - 1) * d + 1
        if padding == "same":
            cut = k - s if more is None else k - k % 2 - more
        else:
            cut = min(k - s, 0) if more is None else -more
        begins[axis], ends[axis], extra[axis] = max(cut, 0) // 2, (max(cut, 0) + 1) // 2, max(-cut, 0)
    y = keras.op(
        "ConvTranspose",
        x,
        keras.weight("kernel", kernel, [n + 1, n, *range(n)]),
        _optional(keras, "bias", bias),
        kernel_shape=size,
        strides=step if any(s != 1 for s in step) else None,
        dilations=dilations if any(d != 1 for d in dilations) else None,
        pads=begins + ends if any(begins + ends) else None,
        output_padding=extra if any(extra) else None,
    )
    return activate(keras, keras.last(y, data_format), activation)
