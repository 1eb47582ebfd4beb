"""Where the windows of convolutions and poolings lie (ConvolveGeometry in CNTK's sources).

All vectors run as CNTK's do, the fastest axis first. With automatic padding the windows of an axis stand around
its middle: neither SAME_UPPER nor SAME_LOWER of ONNX, and with strides a window may begin inside of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from hub.errors import Refusal
from importers.cntk.context import OPEN, Context

__all__ = ["Span", "expanded", "span", "spans"]

T = TypeVar("T")


@dataclass(frozen=True)
class Span:
    """One axis: kernel, stride, and the padding before and after; a negative one cuts off."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int


def expanded(values: Sequence[T], rank: int, filters: int, default: T) -> list[T]:
    """A vector as long as the input has axes: the last value for what the filter has more, then the default."""
    if not values:
        return [default] * rank
    result = list(values)
    result += [result[-1]] * (filters - len(result))
    return (result + [default] * (rank - len(result)))[:rank]


def span(
    size: int | None, kernel: int, stride: int, dilation: int, auto: bool, lower: int, upper: int, ceil: bool = False
) -> Span:
    """One axis of a convolution or a pooling over `size` places, or over a number that is not known."""
    reach = (kernel - 1) * dilation + 1
    if not auto:
        if ceil and size is not None:
            outputs = -(-(size + lower + upper - reach) // stride) + 1
            upper = max((outputs - 1) * stride + reach - size - lower, upper)
        elif ceil and stride > 1:
            raise Refusal("sizes of its input are not known, which its last window depends on", OPEN)
        return Span(kernel, stride, dilation, lower, upper)
    if stride <= 2 and not ceil:
        return Span(kernel, stride, dilation, (reach - 1) // 2, reach - 1 - (reach - 1) // 2)
    if size is None:
        raise Refusal(f"sizes of its input are not known, which its padding with stride {stride} depends on", OPEN)
    if ceil and (size - 1) % stride:
        raise Refusal("automatic padding and a window beyond its end, where CNTK itself reads what is not its own")
    outputs = (size - 1) // stride + 1
    extra = size - ((outputs - 1) * stride + 1)
    before = (reach - 1) // 2 - extra // 2
    return Span(kernel, stride, dilation, before, max((outputs - 1) * stride + reach - size - before, 0))


def spans(
    cntk: Context,
    sizes: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    auto: Sequence[bool],
    lower: Sequence[int],
    upper: Sequence[int],
    ceil: bool = False,
) -> list[Span]:
    """All axes of an input of these sizes, in CNTK's order."""
    rank, filters = len(sizes), len(kernel)
    cntk.require(filters <= rank, f"a window of {filters} axes over an input of {rank}")
    whole = expanded(kernel, rank, filters, 1)
    rows = zip(
        sizes,
        whole,
        expanded(strides, rank, filters, 1),
        expanded(dilation, rank, filters, 1),
        expanded(auto, rank, filters, False),
        expanded(lower, rank, filters, 0),
        expanded(upper, rank, filters, 0),
        strict=True,
    )
    found = []
    for size, k, s, d, a, lo, hi in rows:
        cntk.require(0 < k < 1 << 31 and 0 < s < 1 << 31 and 0 < d < 1 << 31, f"a window of {k}, stride {s}")
        cntk.require(0 <= lo < 1 << 31 and 0 <= hi < 1 << 31 and isinstance(a, bool), f"a padding of {lo} and {hi}")
        found.append(span(size, k, s, d, a, lo, hi, ceil))
    return found
