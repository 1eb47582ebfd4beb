"""Convolutions, and how MIL pads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import Mil
from importers.coreml.table import Ints, op

__all__ = ["padding"]

KINDS = ("valid", "same", "same_lower", "custom")


def padding(
    mil: Mil, x: ir.Value, kind: str, pad: Ints | None, kernel: Ints, strides: Ints, dilations: Ints
) -> dict[str, Any]:
    """The attributes that say a padding: numbers, or SAME where sizes are open.

    SAME pads so much that there are ceil(size / stride) windows; the odd one at the end, or with same_lower at the
    beginning.
    """
    mil.one_of(kind, *KINDS)
    count = len(kernel)
    if kind == "valid":
        return {}
    if kind == "custom":
        mil.require(pad is not None and len(pad) == 2 * count, f"a padding of {len(pad or ())} numbers")
        assert pad is not None
        mil.require(min(pad, default=0) >= 0, "a negative padding")
        return {"pads": [*pad[0::2], *pad[1::2]]} if any(pad) else {}
    sizes = mil.sizes(x)[-count:]
    if None in sizes:
        return {"auto_pad": "SAME_UPPER" if kind == "same" else "SAME_LOWER"}
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-int(size or 0) // s) - 1) * s + (k - 1) * d + 1 - int(size or 0), 0)
        small, large = total // 2, total - total // 2
        begins.append(small if kind == "same" else large)
        ends.append(large if kind == "same" else small)
    return {"pads": begins + ends} if any(begins + ends) else {}


def _spatial(mil: Mil, given: Ints | None, count: int, name: str) -> list[int]:
    """Strides or dilations, 1 where they are not given."""
    found = [1] * count if given is None else list(given)
    mil.require(len(found) == count and all(0 < n < 1 << 31 for n in found), f"its {name} are {found[:8]}")
    return found


@op("conv")
def conv(
    mil: Mil,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None = None,
    *,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> ir.Value:
    """Conv."""
    kernel = mil.fixed(weight)[2:]
    mil.require(len(kernel) == mil.rank(x) - 2 and len(kernel) > 0, "its weight does not fit its input")
    steps, apart = _spatial(mil, strides, len(kernel), "strides"), _spatial(mil, dilations, len(kernel), "dilations")
    around = padding(mil, x, pad_type, pad, kernel, steps, apart)
    weight, bias = mil.cast(weight, mil.dtype(x)), None if bias is None else mil.cast(bias, mil.dtype(x))
    return mil.op("Conv", x, weight, bias, kernel_shape=kernel, strides=steps, dilations=apart, group=groups, **around)


@op("conv_transpose")
def conv_transpose(
    mil: Mil,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None = None,
    *,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> ir.Value:
    """ConvTranspose, with pads that give the size that SAME, or the output_shape, asks for."""
    kernel = mil.fixed(weight)[2:]
    count = len(kernel)
    mil.require(count == mil.rank(x) - 2 and count > 0, "its weight does not fit its input")
    steps, apart = _spatial(mil, strides, count, "strides"), _spatial(mil, dilations, count, "dilations")
    pads, more = _taken_off(mil, x, pad_type, pad, kernel, steps, apart, output_shape)
    weight, bias = mil.cast(weight, mil.dtype(x)), None if bias is None else mil.cast(bias, mil.dtype(x))
    return mil.op(
        "ConvTranspose",
        x,
        weight,
        bias,
        kernel_shape=kernel,
        strides=steps,
        dilations=apart,
        group=groups,
        pads=pads if any(pads) else None,
        output_padding=more if any(more) else None,
    )


def _taken_off(
    mil: Mil,
    x: ir.Value,
    kind: str,
    pad: Ints | None,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    wanted: Ints | None,
) -> tuple[list[int], list[int]]:
    """What is cut off the whole result on both sides, and what is added at its end."""
    mil.one_of(kind, *KINDS)
    count = len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    begin, end = [0] * count, [0] * count
    if kind == "custom":
        mil.require(pad is not None and len(pad) == 2 * count, f"a padding of {len(pad or ())} numbers")
        assert pad is not None
        begin, end = list(pad[0::2]), list(pad[1::2])
    target: list[int] | None = None
    if wanted is not None:
        mil.require(len(wanted) >= count, f"an output_shape of {len(wanted)} numbers")
        target = list(wanted[len(wanted) - count :])
    if target is None and not kind.startswith("same"):
        return begin + end, [0] * count
    if target is None:
        beyond = [r - s for r, s in zip(reach, strides, strict=True)]
    else:
        sizes = mil.sizes(x)[2:]
        if None in sizes:
            raise Refusal("its output_shape is fixed, and sizes of its input are open")
        whole = [(int(n or 0) - 1) * s + r for n, s, r in zip(sizes, strides, reach, strict=True)]
        beyond = [w - t - b - e for w, t, b, e in zip(whole, target, begin, end, strict=True)]
    if kind.startswith("same"):
        small = [max(b, 0) // 2 for b in beyond]
        large = [max(b, 0) - s for b, s in zip(beyond, small, strict=True)]
        begin, end = (small, large) if kind == "same" else (large, small)
    elif any(b > 0 for b in beyond):
        raise Refusal("its output_shape is smaller than what its padding leaves")
    return begin + end, [max(-b, 0) for b in beyond]
