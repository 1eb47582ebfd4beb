"""Sums, means and the like over axes, static and dynamic ones; and what is largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from hub.dnn import Axis
from hub.errors import Refusal
from importers.cntk.context import Context, Tensor
from importers.cntk.table import function

__all__: list[str] = []

OPERATORS = {
    "Sum": "ReduceSum", "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd",
    "LogSum": "ReduceLogSumExp", "Argmax": "ArgMax", "Argmin": "ArgMin",
}  # fmt: skip

ALL_STATIC, ALL = (1 << 31) - 2, (1 << 31) - 5
"""The indices that stand for all static axes, and for all axes."""


@function("ReduceElements")
def reduce(
    cntk: Context,
    x: Tensor,
    *,
    reductionOpName: str,
    axis: Axis | None = None,
    axisVec: Sequence[Axis] = (),
    reductionKeepDimensions: bool = True,
) -> Tensor:
    """Over static axes, over the batch, or over everything."""
    op = OPERATORS.get(reductionOpName)
    if op is None:
        raise Refusal(f"the reduction {reductionOpName[:40]!r} is not supported yet")
    axes = [axis] if axis is not None else list(axisVec)
    cntk.require(bool(axes), "it has no axes")
    if any(one.index == ALL for one in axes):
        return _over_everything(cntk, x, op, reductionKeepDimensions)
    rank, front = cntk.rank(x), x.dynamic
    places: list[int] = []
    for one in axes:
        if one.index == ALL_STATIC:
            places += range(front, front + rank)
        elif cntk.is_static(one):
            places.append(cntk.onnx(x, one))
        else:
            return _over_batch(cntk, x, op, axes)
    cntk.require(len(set(places)) == len(places), "it has an axis twice")
    return x.of(_reduced(cntk, x.value, op, sorted(places), reductionKeepDimensions))


def _reduced(cntk: Context, value: ir.Value, op: str, axes: Sequence[int], keep: bool) -> ir.Value:
    if op in ("ArgMax", "ArgMin"):
        if len(axes) != 1:
            raise Refusal("the place of the largest over several axes")
        return cntk.cast(cntk.op(op, value, axis=axes[0], keepdims=int(keep)), value)
    if not axes:
        return cntk.op("Identity", value)
    return cntk.op(op, value, cntk.ints(list(axes), "axes"), keepdims=int(keep))


def _over_everything(cntk: Context, x: Tensor, op: str, keep: bool) -> Tensor:
    count = x.dynamic + cntk.rank(x)
    if op in ("ArgMax", "ArgMin"):
        raise Refusal("the place of the largest over the batch")
    y = _reduced(cntk, x.value, op, range(count), False)
    if keep and cntk.rank(x):
        y = cntk.reshape(y, [1] * cntk.rank(x))
    return Tensor(y)


def _over_batch(cntk: Context, x: Tensor, op: str, axes: Sequence[Axis]) -> Tensor:
    """Over the batch: what is left has no dynamic axes, whether axes are to be kept or not."""
    names = {axis.name for axis in axes}
    if len(axes) != 1 or "defaultBatchAxis" not in names or not x.batch or x.sequence is not None:
        raise Refusal(f"a reduction over the dynamic axes {', '.join(sorted(names))[:80]}")
    return replace(x, value=_reduced(cntk, x.value, op, [0], False), batch=False)


@function("SumAll")
def sum_all(cntk: Context, x: Tensor) -> Tensor:
    """The sum of everything, over the batch as well."""
    return _over_everything(cntk, x, "ReduceSum", False)


@function("TopK")
def top_k(cntk: Context, x: Tensor, *, numItems: int, axis: Axis) -> list[Tensor]:
    """The largest numbers along the fastest axis, the largest first, and where they are."""
    place = cntk.onnx(x, axis)
    cntk.require(0 < numItems < 1 << 31, f"{numItems} items")
    if place != x.dynamic + cntk.rank(x) - 1:
        raise Refusal("it is not along the fastest axis; CNTK itself takes no notice of any other")
    values, places = cntk.builder.ops("TopK", x.value, cntk.ints([numItems], "k"), outputs=2, axis=place)
    return [x.of(values), x.of(cntk.cast(places, x))]
