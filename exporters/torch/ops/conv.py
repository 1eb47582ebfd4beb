"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from exporters.codegen.program import Expression, Literal, Op, Use
from exporters.torch.ops.padding import pad_step, resolve, same_step, spatial
from exporters.torch.ops.table import OPS, arguments, simplest
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


def _kernel(emit: Emitter, w: ir.Value, kernel_shape: Sequence[int] | None) -> list[int]:
    shape = emit.shape(w)
    if kernel_shape is None and shape is not None and all(isinstance(d, int) for d in shape[2:]):
        kernel_shape = [d for d in shape[2:] if isinstance(d, int)]
    if kernel_shape is None:
        raise Refusal("the size of its kernel is not known")
    if not 1 <= len(kernel_shape) <= 3:
        raise Refusal(f"a convolution over {len(kernel_shape)} axes")
    return list(kernel_shape)


@OPS("Conv")
def conv(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None,
    *,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Expression:
    kernel = _kernel(emit, w, kernel_shape)
    n = len(kernel)
    stride, dilation = strides or [1] * n, dilations or [1] * n
    source = emit.tensor(x)
    padding = resolve(auto_pad, pads, spatial(emit, x), kernel, stride, dilation)
    if padding is None:
        source = same_step(emit, source, kernel, stride, dilation, auto_pad)
    elif any(begin != end for begin, end in padding):
        source = pad_step(emit, source, padding)
        padding = None
    options = [
        ("stride", simplest(stride), 1),
        ("padding", simplest(begin for begin, _ in padding or [(0, 0)] * n), 0),
        ("dilation", simplest(dilation), 1),
        ("groups", group, 1),
    ]
    weight, bias = emit.owned(w), emit.owned(b)
    if weight is None or (b is not None and bias is None):
        return functional(emit, f"F.conv{n}d", source, w, b, options)
    outputs, inputs = weight.shape[0], weight.shape[1] * group
    required = [("in_channels", inputs), ("out_channels", outputs), ("kernel_size", simplest(kernel))]
    role = "depthwise" if group > 1 and group == inputs else "pointwise" if set(kernel) == {1} else "conv"
    module = emit.module(
        f"nn.Conv{n}d",
        arguments(required, [*options, ("bias", b is not None, True)]),
        {"weight": weight, "bias": bias},
        role,
    )
    return emit.apply(module, source)


def functional(
    emit: Emitter,
    name: str,
    source: Expression,
    w: ir.Value,
    b: ir.Value | None,
    options: Sequence[tuple[str, Any, Any]],
) -> Op:
    """The function for weights that no module owns: computed, or shared by different layers."""
    weights = [_tensor(emit, v) for v in (w, b) if v is not None]
    given = [(key, value) for key, value, default in options if value != default]
    text = "".join([", {}"] * len(weights) + [f", {key}={{}}" for key, _ in given])
    literals = tuple(Literal(value, key) for key, value in given)
    return Op(f"{name}({{}}{text})", (source, *weights, *literals))


def _tensor(emit: Emitter, value: ir.Value) -> Expression:
    constant = emit.constant(value)
    return emit.tensor(value) if constant is None else emit.weight(value, constant, train=True)


@OPS("ConvTranspose")
def conv_transpose(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None,
    *,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Expression:
    kernel = _kernel(emit, w, kernel_shape)
    n = len(kernel)
    stride, dilation = strides or [1] * n, dilations or [1] * n
    extra = output_padding or [0] * n
    padding = _transpose_pads(emit, x, auto_pad, pads, output_shape, kernel, stride, dilation, extra)
    crop = None
    symmetric = all(begin == end >= 0 for begin, end in padding)
    if not symmetric or any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        crop = [(begin, end - e) for (begin, end), e in zip(padding, extra, strict=True)]
        if any(begin < 0 or end < 0 for begin, end in crop):
            raise Refusal("its output is larger than what the kernel reaches")
        padding, extra = [(0, 0)] * n, [0] * n
    options = [
        ("stride", simplest(stride), 1),
        ("padding", simplest(begin for begin, _ in padding), 0),
        ("output_padding", simplest(extra), 0),
        ("dilation", simplest(dilation), 1),
        ("groups", group, 1),
    ]
    weight, bias = emit.owned(w), emit.owned(b)
    result: Expression
    if weight is None or (b is not None and bias is None):
        result = functional(emit, f"F.conv_transpose{n}d", emit.tensor(x), w, b, options)
    else:
        required = [
            ("in_channels", weight.shape[0]),
            ("out_channels", weight.shape[1] * group),
            ("kernel_size", simplest(kernel)),
        ]
        module = emit.module(
            f"nn.ConvTranspose{n}d",
            arguments(required, [*options, ("bias", b is not None, True)]),
            {"weight": weight, "bias": bias},
        )
        result = emit.apply(module, emit.tensor(x))
    if crop is None or not any(begin or end for begin, end in crop):
        return result
    slices = ", ".join(f"{begin or ''}:{-end or ''}" for begin, end in crop)
    return Op(f"{{}}[:, :, {slices}]", (Use(emit.step(result)),))


def _transpose_pads(
    emit: Emitter,
    x: ir.Value,
    auto_pad: str,
    pads: list[int] | None,
    output_shape: list[int] | None,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    extra: list[int],
) -> list[tuple[int, int]]:
    n = len(kernel)
    if output_shape is None and auto_pad == "VALID":
        return [(0, 0)] * n
    if output_shape is None and auto_pad in ("NOTSET", ""):
        pads = pads or [0] * (2 * n)
        return list(zip(pads[:n], pads[n:], strict=True))
    sizes = spatial(emit, x) or [None] * n
    result = []
    for axis in range(n):
        reach = extra[axis] + (kernel[axis] - 1) * dilation[axis] + 1
        size = sizes[axis]
        if output_shape is None:
            total = reach - stride[axis]
        elif size is None:
            raise Refusal("output_shape of an input whose size is known only at run time")
        else:
            total = stride[axis] * (size - 1) + reach - output_shape[len(output_shape) - n + axis]
        half = total // 2
        result.append((half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half))
    return result
