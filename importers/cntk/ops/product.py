"""Products of tensors: Times, with all the ranks that it takes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hub.errors import Refusal
from importers.cntk.context import Context, Tensor
from importers.cntk.table import function

__all__: list[str] = []


@function("Times")
def times(cntk: Context, w: Tensor, x: Tensor, *, outputRank: int = 1, inferInputRankToMap: int = -1) -> Tensor:
    """In NumPy's order x (..., K) by w (K, M): the last `outputRank` axes of w are M, the axes before them K."""
    if inferInputRankToMap < -1:
        raise Refusal("it adds up over the steps of a sequence", "sequence.reduce_sum of products says the same")
    rank = cntk.rank(w) - outputRank
    cntk.require(rank >= 0, f"output rank {outputRank} of a weight with {cntk.rank(w)} axes")
    if rank == 0:
        raise Refusal("it adds up over no axes")
    inner, outer = cntk.shape(w)[:rank], cntk.shape(w)[rank:]
    own = cntk.shape(x)
    cntk.require(len(own) >= rank, f"a product over {rank} axes of an input with {len(own)}")
    kept, summed = own[: len(own) - rank], own[len(own) - rank :]
    cntk.require(
        all(a == b or None in (a, b) for a, b in zip(summed, inner, strict=True)),
        f"its inputs do not fit: {own} by {cntk.shape(w)}, the last {outputRank} of them new",
    )
    return _product(cntk, x, kept, w, inner, outer)


def _product(
    cntk: Context,
    x: Tensor,
    kept: Sequence[int | None],
    w: Tensor,
    inner: Sequence[int | None],
    outer: Sequence[int | None],
) -> Tensor:
    """x (kept, inner) by w (inner, outer): one MatMul, with Reshape around it where a group has not one axis."""
    like, k = cntk.like(x, w), cntk.count(inner)
    simple = len(inner) == 1
    if w.dynamic == 0:
        rows = x.value if simple else cntk.reshape(x, _flat(cntk, x, kept, k))
        columns = w.value if simple and len(outer) == 1 else cntk.reshape(w, [_one(k), _one(cntk.count(outer))])
        y = cntk.op("MatMul", rows, columns)
        if len(outer) == 1:
            return like.of(y)
        return like.of(cntk.reshape(y, cntk.target(like, [*kept, *outer])))
    front = cntk.front(like)
    left, right = (_with_steps(cntk, value, like) for value in (x, w))
    rows = cntk.reshape(left, [*front, _one(cntk.count(kept)), _one(k)], "rows")
    columns = cntk.reshape(right, [*front, _one(k), _one(cntk.count(outer))], "columns")
    if x.dynamic == 0:
        rows = cntk.reshape(x, [_one(cntk.count(kept)), _one(k)], "rows")
    return like.of(cntk.reshape(cntk.op("MatMul", rows, columns), cntk.target(like, [*kept, *outer])))


def _with_steps(cntk: Context, x: Tensor, like: Tensor) -> ir.Value:
    """`x` with an axis of size 1 for the steps, where `like` has one and it has none."""
    if x.dynamic in (0, like.dynamic):
        return x.value
    return cntk.op("Unsqueeze", x, cntk.ints([1], "axes"))


def _one(size: int | None) -> int:
    return -1 if size is None else size


def _flat(cntk: Context, x: Tensor, kept: Sequence[int | None], k: int | None) -> list[int]:
    """The shape of `x` with its last axes as one."""
    return cntk.target(x, [*kept, k])


@function("TransposeTimes")
def transpose_times(cntk: Context, w: Tensor, x: Tensor, *, outputRank: int = 1) -> Tensor:
    """In NumPy's order x (..., K) by the transpose of w (M, K)."""
    if cntk.rank(w) == 1 and outputRank == 1:
        w = w.of(cntk.reshape(w, cntk.target(w, [1, cntk.sizes(w)[0]])))
    if cntk.rank(w) != 2 or outputRank != 1:
        raise Refusal(f"the transpose of {cntk.rank(w)} axes, {outputRank} of them new")
    turned = w.of(cntk.op("Transpose", w, perm=[*range(w.dynamic), w.dynamic + 1, w.dynamic]))
    found: Tensor = times(cntk, turned, x)
    return found


@function("CosDistance")
def cosine(cntk: Context, x: Tensor, y: Tensor) -> Tensor:
    """The product of two values over all static axes, by both their lengths."""
    like, (a, b) = cntk.aligned(x, y)
    axes = cntk.ints(list(range(like.dynamic, like.dynamic + cntk.rank(x))), "axes")
    dot = cntk.op("ReduceSum", cntk.op("Mul", a, b), axes, keepdims=0)
    lengths = cntk.op("Mul", cntk.op("ReduceL2", a, axes, keepdims=0), cntk.op("ReduceL2", b, axes, keepdims=0))
    return like.of(cntk.op("Div", dot, lengths))
