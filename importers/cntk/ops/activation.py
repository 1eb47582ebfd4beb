"""What normalizes numbers against each other: Softmax and its kin."""

from __future__ import annotations

from hub.errors import Refusal
from importers.cntk.context import Context, Tensor
from importers.cntk.table import function

__all__: list[str] = []

ALONE = {"Softmax": "Softmax", "LogSoftmax": "LogSoftmax", "Hardmax": "Hardmax"}


@function(*ALONE)
def softmax(cntk: Context, x: Tensor) -> Tensor:
    """Over all static axes at once."""
    op, rank = ALONE[cntk.found.op], cntk.rank(x)
    if rank == 1:
        return x.of(cntk.op(op, x, axis=-1))
    if x.dynamic == 0:
        raise Refusal("over several axes of a value without a batch")
    flat = cntk.op(op, cntk.reshape(x, [*cntk.front(x), -1]), axis=-1)
    return x.of(cntk.op("Reshape", flat, cntk.op("Shape", x)))
