"""Convolutions in all directions."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hub.dnn import Shape
from hub.errors import Refusal
from importers.cntk.context import Context, Tensor
from importers.cntk.ops.geometry import Span, expanded, spans
from importers.cntk.table import function

__all__ = ["cut", "pads"]

NONE = Shape()


@function("Convolution")
def convolution(
    cntk: Context,
    w: Tensor,
    x: Tensor,
    *,
    kernelShape: Shape = NONE,
    strides: Shape = NONE,
    dilation: Shape = NONE,
    autoPadding: Sequence[bool] = (),
    lowerPad: Shape = NONE,
    upperPad: Shape = NONE,
    sharing: Sequence[bool] = (),
    groups: int = 1,
    transpose: bool = False,
    outputShape: Shape = NONE,
    sequential: bool = False,
) -> Tensor:
    """Over all axes of the input but the slowest, which is that of the channels; `transpose` is its gradient."""
    if not all(sharing):
        raise Refusal("its places do not share their weights")
    if sequential:
        raise Refusal("it runs over the steps of a sequence")
    if w.dynamic:
        raise Refusal("its kernel is computed")
    rank = cntk.rank(x)
    cntk.require(rank >= 2, f"an input of {rank} axes has no channels")
    if cntk.rank(w) == rank and not transpose:  # one kernel
        w = w.of(cntk.op("Unsqueeze", w, cntk.ints([0], "axes")))
    cntk.require(cntk.rank(w) == rank + 1, f"a kernel of {cntk.rank(w)} axes for an input of {rank}")
    cntk.require(groups > 0, f"{groups} groups")
    if transpose:
        return _deconvolution(cntk, w, x, strides, dilation, autoPadding, lowerPad, upperPad, groups, outputShape)
    kernel = cntk.sizes(w)[:0:-1]
    if kernelShape:
        cntk.require(list(kernelShape) == kernel[: len(kernelShape)], f"a kernel of {tuple(kernelShape)}, not {kernel}")
    sizes = cntk.shape(x)[::-1]
    auto = expanded(autoPadding, rank, rank, False)[-1] and 1 < kernel[-1] > expanded(strides, rank, rank, 1)[-1]
    padded = auto or expanded(lowerPad, rank, rank, 0)[-1] or expanded(upperPad, rank, rank, 0)[-1]
    _check_channels(cntk, sizes[-1], kernel[-1], groups, bool(padded))
    found = spans(
        cntk, sizes, kernel, [*expanded(strides, rank, rank, 1)[:-1], 1], dilation or [1], autoPadding, lowerPad or [0],
        upperPad or [0],
    )[:-1]  # fmt: skip
    if groups > 1:
        _check_groups(found, expanded(autoPadding, rank, rank, False))
    value, back = cntk.merged(x)
    value = cut(cntk, value, found)
    if value.dtype != w.value.dtype:
        w = w.of(cntk.cast(w, value))
    y = back(cntk.op("Conv", value, w, group=groups, **_attributes(found)))
    if any(outputShape) and [*outputShape] != cntk.shape(y)[::-1]:
        raise Refusal(f"it is to give the shape {tuple(outputShape)[::-1]}, and gives {tuple(cntk.shape(y))}")
    return y


def _check_channels(cntk: Context, channels: int | None, kernel: int, groups: int, padded: bool) -> None:
    if padded:
        raise Refusal("its channels are padded")
    if channels is not None and kernel * groups != channels:
        raise Refusal(f"it runs over its channels: {channels} by a kernel of {kernel} in {groups} groups")


def _check_groups(found: Sequence[Span], auto: Sequence[bool]) -> None:
    """With groups, CNTK's own numbers are others where the padding is not the same on both sides."""
    for s, automatic in zip(found, auto, strict=False):
        odd = ((s.kernel - 1) * s.dilation + 1) % 2
        if s.before != s.after and not (automatic and odd):
            raise Refusal("a convolution in groups whose padding is not the same on both sides", "pad its input")


def _attributes(found: Sequence[Span]) -> dict[str, list[int]]:
    """In ONNX's order, the slowest axis first."""
    turned = list(found)[::-1]
    return {
        "kernel_shape": [s.kernel for s in turned],
        "strides": [s.stride for s in turned],
        "dilations": [s.dilation for s in turned],
        "pads": pads(found),
    }


def pads(found: Sequence[Span]) -> list[int]:
    """The pads of all axes as ONNX has them; what is negative has been cut off."""
    turned = list(found)[::-1]
    return [*(max(s.before, 0) for s in turned), *(max(s.after, 0) for s in turned)]


def cut(cntk: Context, value: ir.Value, found: Sequence[Span], first: int = 2) -> ir.Value:
    """`value` without what lies before the first window, where that begins inside."""
    starts = {first + axis: -s.before for axis, s in enumerate(list(found)[::-1]) if s.before < 0}
    if not starts:
        return value
    count = len(starts)
    ends = cntk.ints([(1 << 63) - 1] * count, "ends")
    return cntk.op("Slice", value, cntk.ints(list(starts.values()), "starts"), ends, cntk.ints(list(starts), "axes"))


def _deconvolution(
    cntk: Context,
    w: Tensor,
    x: Tensor,
    strides: Shape,
    dilation: Shape,
    auto: Sequence[bool],
    lower: Shape,
    upper: Shape,
    groups: int,
    target: Shape,
) -> Tensor:
    rank = cntk.rank(x)
    kernel, sizes = cntk.sizes(w)[:1:-1], cntk.shape(x)[:0:-1]
    channels = cntk.shape(x)[0]
    cntk.require(channels in (None, cntk.sizes(w)[0]), f"{channels} channels by a kernel for {cntk.sizes(w)[0]}")
    if any(expanded(values, rank, rank, 0)[-1] for values in (auto, lower, upper)):
        raise Refusal("its channels are padded")
    if any(size != 1 for size in dilation):
        raise Refusal("a transposed convolution with dilation")
    wanted = [*target][: rank - 1] if any(target) else [0] * (rank - 1)
    cntk.require(len(wanted) == rank - 1, f"an output of {tuple(target)}")
    found = []
    rows = zip(
        sizes, kernel, expanded(strides, rank, rank, 1), expanded(auto, rank, rank, False),
        expanded(lower, rank, rank, 0), expanded(upper, rank, rank, 0), wanted, strict=False,
    )  # fmt: skip
    for size, k, s, a, lo, hi, out in rows:
        cntk.require(
            0 < k < 1 << 31 and 0 < s < 1 << 31 and lo < 1 << 31 and hi < 1 << 31, f"a kernel of {k}, stride {s}"
        )
        found.append(_backward(cntk, size, k, s, a, lo, hi, out))
    turned = found[::-1]
    value, back = cntk.merged(x)
    if value.dtype != w.value.dtype:
        w = w.of(cntk.cast(w, value))
    more = [-s.after if 0 < -s.after < s.stride else 0 for s in turned]
    y = cntk.op(
        "ConvTranspose",
        value,
        w,
        group=groups,
        kernel_shape=[s.kernel for s in turned],
        strides=[s.stride for s in turned],
        pads=pads(found),
        output_padding=more if any(more) else None,
    )
    rest = [-s.after - m if s.after < 0 else 0 for s, m in zip(turned, more, strict=True)]
    before = [max(-s.before, 0) for s in turned]
    if any(rest) or any(before):
        y = cntk.op("Pad", y, cntk.ints([0, 0, *before, 0, 0, *rest], "pads"))
    return back(y)


def _backward(cntk: Context, size: int | None, k: int, s: int, auto: bool, lo: int, hi: int, out: int) -> Span:
    """One axis of a transposed convolution: the padding of the convolution that leads from its output back."""
    if not auto and not out:
        return Span(k, s, 1, lo, hi)
    if size is None:
        if out or s > 2:
            raise Refusal("sizes of its input are not known", "give sizes of the inputs with inputs=")
        return Span(k, s, 1, (k - 1) // 2, k - 1 - (k - 1) // 2)
    out = out or (size - 1) * s + 1
    extra = out - ((size - 1) * s + 1)
    before = lo
    if auto:
        cntk.require(extra >= 0, f"an output of {out} for an input of {size}")
        before = (k - 1) // 2 - extra // 2
    return Span(k, s, 1, before, (size - 1) * s + k - before - out)
