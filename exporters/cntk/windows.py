"""CNTK's functions on images: windows that lie inside of their input, and normalization by channel.

CNTK pads nothing here: its automatic padding is none of ONNX's, and its explicit one throws for some sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporters.cntk.emit import Emitter
from exporters.cntk.net import Variable, number
from exporters.codegen.names import Code
from hub.dnn import Shape

__all__ = ["batch_normalization", "convolution", "pooling"]


def pooling(emit: Emitter, x: Variable, kind: int, window: Sequence[int], strides: Sequence[int]) -> Variable:
    """Max (0) or average (1) over windows that lie inside."""
    count = len(window)
    sizes = emit.fixed(x.shape[-count:])
    outputs = [(n - k) // s + 1 for n, k, s in zip(sizes, window, strides, strict=True)]
    attributes: dict[str, Any] = {
        "poolingType": kind,
        "poolingWindowShape": Shape(reversed(window)),
        "strides": Shape(reversed(strides)),
        "autoPadding": [False],
        "lowerPad": Shape((0,)),
        "upperPad": Shape((0,)),
        "ceilOutDim": False,
        "includePad": False,
    }
    shape = (*x.shape[:-count], *outputs)
    name = Code("C.AVG_POOLING" if kind else "C.MAX_POOLING")
    return emit.call(
        "C.pooling",
        [x, name, tuple(window), tuple(strides), [False]],
        lambda: emit.function("Pooling", [x], shape, **attributes),
    )


def convolution(
    emit: Emitter,
    x: Variable,
    kernel: Variable,
    strides: Sequence[int],
    groups: int = 1,
    output: Sequence[int] = (),
) -> Variable:
    """A convolution without padding, or with `output`, the sizes of its result, a transposed one."""
    count = len(strides)
    sizes, window = emit.fixed(x.shape[1:]), emit.fixed(kernel.shape[2:])
    if output:
        shape = (kernel.shape[1], *output)
    else:
        outputs = [(n - k) // s + 1 for n, k, s in zip(sizes, window, strides, strict=True)]
        shape = (kernel.shape[0], *outputs)
    attributes: dict[str, Any] = {
        "strides": Shape((*reversed(strides), strides[0])),
        "sharing": [True] * (count + 1),
        "autoPadding": [False] * (count + 1),
        "lowerPad": Shape([0] * (count + 1)),
        "upperPad": Shape([0] * (count + 1)),
        "dilation": Shape([1] * (count + 1)),
        "groups": groups,
        "kernelShape": Shape(reversed(emit.fixed(kernel.shape[1:]))),
        "maxTempMemSizeInSamples": 0,
        "outputShape": Shape(reversed(emit.fixed(shape))) if output else Shape((0,)),
        "sequential": False,
        "transpose": bool(output),
    }
    keywords: dict[str, Any] = {"strides": tuple(strides), "auto_padding": [False]}
    if output:
        keywords["output_shape"] = shape
    elif groups != 1:
        keywords["groups"] = groups
    return emit.call(
        "C.convolution_transpose" if output else "C.convolution",
        [kernel, x],
        lambda: emit.function("Convolution", [kernel, x], shape, **attributes),
        keywords,
    )


def batch_normalization(emit: Emitter, inputs: Sequence[Variable], epsilon: float) -> Variable:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias; inputs x, scale, bias, mean, variance."""
    x = inputs[0]
    count = number(0.0)
    attributes: dict[str, Any] = {
        "spatial": x.rank > 1,
        "epsilon": float(epsilon),
        "normalizationTimeConstant": 5000.0,
        "blendTimeConstant": 0.0,
        "useCuDNNEngine": False,
        "disableRegularization": False,
    }
    return emit.function("BatchNormalization", [*inputs, count], x.shape, **attributes)
