"""Slices by place and by size, and writing into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from importers.coreml.context import FAR, Mil
from importers.coreml.table import Bools, Ints, op

__all__: list[str] = []


def _mask(mil: Mil, given: Bools | None, count: int) -> list[bool]:
    found = [False] * count if given is None else list(given)
    mil.require(len(found) == count, f"a mask of {len(found)} for {count} axes")
    return found


def _bounds(
    mil: Mil,
    x: ir.Value,
    begin: ir.Value,
    end: ir.Value,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[list[ir.Value], list[int]]:
    """What Slice takes, and the axes that are squeezed out, of which one place is taken."""
    rank = mil.rank(x)
    steps = [1] * rank if stride is None else list(stride)
    mil.require(len(steps) == rank and 0 not in steps, f"strides {steps[:8]} for {rank} axes")
    first, last, single = (_mask(mil, mask, rank) for mask in (begin_mask, end_mask, squeeze_mask))
    steps = [1 if one else step for one, step in zip(single, steps, strict=True)]
    begins = _masked(mil, begin, first, [0 if step > 0 else FAR for step in steps])
    ends = _masked(mil, end, last, [FAR if step > 0 else -FAR - 1 for step in steps])
    if any(single):
        ends = _behind(mil, begins, ends, single)
    fixed = [mil.ints(v, "bound") if isinstance(v, list) else v for v in (begins, ends)]
    squeezed = [axis for axis in range(rank) if single[axis]]
    return [*fixed, mil.ints(list(range(rank)), "axes"), mil.ints(steps, "steps")], squeezed


def _masked(mil: Mil, given: ir.Value, mask: Sequence[bool], instead: Sequence[int]) -> list[int] | ir.Value:
    """Bounds, with others instead where they are masked."""
    known = mil.known(given)
    if known is not None:
        mil.require(known.size == len(mask), f"{known.size} bounds for {len(mask)} axes")
        return [other if m else int(n) for n, m, other in zip(known.reshape(-1), mask, instead, strict=True)]
    if not any(mask):
        return mil.int64(given)
    mask_value = mil.builder.constant(np.array(mask), "mask")
    return mil.op("Where", mask_value, mil.ints(list(instead), "whole"), mil.int64(given))


def _behind(
    mil: Mil, begins: list[int] | ir.Value, ends: list[int] | ir.Value, single: Sequence[bool]
) -> list[int] | ir.Value:
    """The ends, one behind the beginning where a single place is taken; there is none behind -1, the last."""
    if isinstance(begins, list):
        after: list[int] | ir.Value = [FAR if begin == -1 else begin + 1 for begin in begins]
    else:
        is_last = mil.op("Equal", begins, mil.ints([-1], "last"))
        after = mil.op("Where", is_last, mil.ints([FAR], "far"), mil.op("Add", begins, mil.ints([1], "one")))
    if isinstance(after, list) and isinstance(ends, list):
        return [a if one else e for a, e, one in zip(after, ends, single, strict=True)]
    values = [mil.ints(v, "bound") if isinstance(v, list) else v for v in (after, ends)]
    return mil.op("Where", mil.builder.constant(np.array(single), "squeezed"), *values)


@op("slice_by_index")
def slice_by_index(
    mil: Mil,
    x: ir.Value,
    begin: ir.Value,
    end: ir.Value,
    *,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> ir.Value:
    """Slice, and Squeeze of the axes of which one place is taken."""
    bounds, squeezed = _bounds(mil, x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    y = mil.op("Slice", x, *bounds)
    return mil.squeeze(y, *squeezed) if squeezed else y


@op("slice_by_size")
def slice_by_size(mil: Mil, x: ir.Value, begin: ir.Value, size: ir.Value) -> ir.Value:
    """Slice; a size of -1 goes on to the end of the axis."""
    rank = mil.rank(x)
    axes, known = mil.ints(list(range(rank)), "axes"), (mil.known(begin), mil.known(size))
    if known[0] is not None and known[1] is not None:
        pairs = list(zip(known[0].reshape(-1).tolist(), known[1].reshape(-1).tolist(), strict=True))
        # A beginning counted from the end, and a size that reaches it: the end would be 0, which is the first place.
        ends = [FAR if n == -1 or (b < 0 and b + n >= 0) else b + n for b, n in pairs]
        return mil.op("Slice", x, mil.ints([b for b, _ in pairs], "begins"), mil.ints(ends, "ends"), axes)
    first, count = mil.int64(begin), mil.int64(size)
    total = mil.op("Add", first, count)
    zero, far = mil.ints([0], "zero"), mil.ints([FAR], "far")
    wraps = mil.op("And", mil.op("Less", first, zero), mil.op("GreaterOrEqual", total, zero))
    whole = mil.op("Or", mil.op("Equal", count, mil.ints([-1], "rest")), wraps)
    return mil.op("Slice", x, first, mil.op("Where", whole, far, total), axes)


@op("slice_update")
def slice_update(
    mil: Mil,
    x: ir.Value,
    update: ir.Value,
    begin: ir.Value,
    end: ir.Value,
    *,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> ir.Value:
    """ScatterElements at the places that the slice of a counted tensor has."""
    bounds, _ = _bounds(mil, x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    sizes = [mil.size(x, axis) for axis in range(mil.rank(x))]
    count = mil.product(sizes)
    scalar = (
        mil.builder.constant(np.array(count, np.int64), "count") if isinstance(count, int) else mil.squeeze(count, 0)
    )
    zero, one = (mil.builder.constant(np.array(n, np.int64), "number") for n in (0, 1))
    places = mil.op("Slice", mil.reshape(mil.op("Range", zero, scalar, one), sizes), *bounds)
    flat = [mil.reshape(value, [-1]) for value in (x, places, mil.cast(update, mil.dtype(x)))]
    return mil.reshape(mil.op("ScatterElements", *flat, axis=0), sizes)
