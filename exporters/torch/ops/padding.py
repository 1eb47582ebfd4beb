"""Pads of convolutions and pools: what PyTorch takes as they are, and the step for what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from exporters.codegen.program import Argument, Expression, Literal, Member, Op, Use
from exporters.torch.ops.table import simplest
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter

__all__ = ["pad_step", "resolve", "same_step", "spatial", "torch_pads"]


def spatial(emit: Emitter, x: ir.Value) -> list[int | None]:
    """The spatial sizes of an N, C, ... tensor, None where they are not known."""
    shape = emit.shape(x)
    return [] if shape is None else [d if isinstance(d, int) else None for d in shape[2:]]


def resolve(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]] | None:
    """(begin, end) for every spatial axis, or None when they depend on sizes known at run time."""
    count = len(kernel)
    if auto_pad in ("NOTSET", ""):
        pads = pads or [0] * (2 * count)
        return list(zip(pads[:count], pads[count:], strict=True))
    if auto_pad == "VALID":
        return [(0, 0)] * count
    result = []
    sizes = list(sizes) or [None] * count
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        if size is None and s != 1:
            return None
        extent = (k - 1) * d + 1
        total = extent - 1 if size is None else max((-(-size // s) - 1) * s + extent - size, 0)
        small = total // 2
        result.append((small, total - small) if auto_pad == "SAME_UPPER" else (total - small, small))
    return result


def torch_pads(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """In the order of PyTorch: the last axis first."""
    return tuple(value for pair in reversed(list(pads)) for value in pair)


def pad_step(emit: Emitter, x: Expression, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Expression:
    """A step that pads the spatial axes: a submodule for zeros, `F.pad` for another value."""
    widths = torch_pads(pads)
    if value == 0.0 and 1 <= len(pads) <= 3:
        argument = Argument("padding", simplest(widths) if len(pads) > 1 else widths, positional=True)
        member = Member("module", f"nn.ZeroPad{len(pads)}d", emit.hint() + ".pad", [argument])
        return Use(emit.step(emit.apply(member, x), "pad"))
    return Use(
        emit.step(Op("F.pad({}, {}, value={})", (x, Literal(widths, "padding"), Literal(float(value), "value"))), "pad")
    )


def same_step(
    emit: Emitter,
    x: Expression,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    auto_pad: str,
    value: float = 0.0,
) -> Expression:
    """A step that pads as SAME does, for sizes known at run time."""
    if auto_pad != "SAME_UPPER":
        raise Refusal("SAME_LOWER padding of a size that is known only at run time")
    arguments = (
        x,
        Literal(tuple(kernel), "kernel_size"),
        Literal(tuple(strides), "stride"),
        Literal(tuple(dilations), "dilation"),
        Literal(float(value), "value"),
    )
    return Use(emit.step(Op("pad_same({}, {}, {}, {}, {})", arguments, helper="pad_same"), "pad"))
