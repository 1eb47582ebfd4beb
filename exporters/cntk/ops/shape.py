"""Operators that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.cntk.emit import Emitter
from exporters.cntk.functions import (
    reshape,
    select,
    splice,
    times,
    transpose,
)
from exporters.cntk.net import Group, Size, Tensor, Variable
from exporters.cntk.ops.table import OPS
from exporters.constants import Constant
from hub.errors import Refusal

__all__: list[str] = []


def _spread(sizes: Sequence[Size]) -> list[int]:
    return [size for size in sizes if isinstance(size, int)]


def _batch_in(source: Tensor, shape: Sequence[Size], emit: Emitter) -> int:
    """Where the batch of `source` is in a shape of the same elements: as many lie before and behind it."""
    assert source.at is not None
    before = np.prod(emit.fixed(source.shape[: source.at]), dtype=np.int64)
    behind = np.prod(emit.fixed(source.shape[source.at + 1 :]), dtype=np.int64)
    for at, size in enumerate(shape):
        others = [*shape[:at], *shape[at + 1 :]]
        if (size == source.size or not isinstance(size, int)) and all(isinstance(n, int) for n in others):
            front = np.prod(_spread(shape[:at]), dtype=np.int64)
            if front == before and np.prod(_spread(shape[at + 1 :]), dtype=np.int64) == behind:
                return at
    raise Refusal(
        f"it makes {list(shape)} of {list(source.shape)}, which mixes the batch with other axes",
        "CNTK computes sample by sample",
    )


def _reshaped(emit: Emitter, x: ir.Value) -> Tensor:
    source, shape = emit.tensor(x), emit.result()
    if source.at is None:
        return Tensor(reshape(emit, source.variable, emit.fixed(shape)), None)
    at = _batch_in(source, shape, emit)
    return Tensor(reshape(emit, source.variable, [*shape[:at], *shape[at + 1 :]]), at, source.size)


@OPS("Reshape")
def reshape_(emit: Emitter, x: ir.Value, shape: ir.Value, *, allowzero: int) -> Tensor:
    """C.reshape of each sample."""
    return _reshaped(emit, x)


@OPS("Flatten")
def flatten(emit: Emitter, x: ir.Value, *, axis: int) -> Tensor:
    """C.reshape of each sample."""
    return _reshaped(emit, x)


@OPS("Squeeze")
def squeeze(emit: Emitter, x: ir.Value, axes: ir.Value | None) -> Tensor:
    """C.reshape of each sample."""
    return _reshaped(emit, x)


@OPS("Unsqueeze")
def unsqueeze(emit: Emitter, x: ir.Value, axes: ir.Value) -> Tensor:
    """C.reshape of each sample."""
    source = emit.tensor(x)
    if source.at is None:
        return _reshaped(emit, x)
    rank = len(emit.result())
    new = {a % rank for a in emit.ints(axes, "its axes")}
    old = [axis for axis in range(rank) if axis not in new]
    at = old[source.at]
    shape: list[Size] = [1 if axis in new else source.shape[old.index(axis)] for axis in range(rank)]
    return Tensor(reshape(emit, source.variable, [n for i, n in enumerate(shape) if i != at]), at, source.size)


@OPS("Transpose")
def transpose_(emit: Emitter, x: ir.Value, *, perm: list[int] | None) -> Tensor:
    """C.transpose; where the batch alone moves, nothing."""
    source = emit.tensor(x)
    order = perm or list(reversed(range(source.rank)))
    inner = [emit.axis(source, axis) for axis in order if axis != source.at]
    at = None if source.at is None else order.index(source.at)
    return Tensor(transpose(emit, source.variable, inner), at, source.size)


@OPS("Expand")
def expand(emit: Emitter, x: ir.Value, shape: ir.Value) -> Tensor:
    """Copies along axes of size 1, by C.splice."""
    source, target = emit.tensor(x), emit.result()
    v = source.variable
    if source.at is None:
        sizes = emit.fixed(target)
    else:
        at = source.at + len(target) - source.rank
        if target[at] != source.size and source.size != 1:
            raise Refusal("it works along the batch", "CNTK computes sample by sample")
        sizes = emit.fixed([*target[:at], *target[at + 1 :]])
        source = Tensor(v, at, source.size)
    v = reshape(emit, v, (*[1] * (len(sizes) - v.rank), *v.shape))
    return Tensor(
        _repeated(emit, v, [n if m == 1 else 1 for n, m in zip(sizes, v.shape, strict=True)]), source.at, source.size
    )


def _repeated(emit: Emitter, v: Variable, times_: Sequence[int]) -> Variable:
    """Copies one behind the other, by axis."""
    for axis, count in enumerate(times_):
        if count > 1 and v.shape[axis] == 1 and count > 8:
            ones = Constant.of(np.ones([count if a == axis else 1 for a in range(v.rank)], np.float32))
            v = times(emit, v, emit.weight(ones, Group(emit.layer, "copies"), f"ones{axis}", trains=False))
        elif count > 1:
            v = splice(emit, [v] * count, axis)
        elif count == 0:
            raise Refusal("a tensor without elements")
    return v


@OPS("Tile")
def tile(emit: Emitter, x: ir.Value, repeats: ir.Value) -> Tensor:
    """Copies along axes, by C.splice."""
    source = emit.tensor(x)
    counts = emit.ints(repeats, "its repeats")
    if source.at is not None and counts[source.at] != 1:
        raise Refusal("it works along the batch", "CNTK computes sample by sample")
    inner = [n for axis, n in enumerate(counts) if axis != source.at]
    return emit.like(source, _repeated(emit, source.variable, inner))


@OPS("DepthToSpace")
def depth_to_space(emit: Emitter, x: ir.Value, *, blocksize: int, mode: str) -> Tensor:
    """C.reshape, C.transpose, C.reshape."""
    source = emit.images(x, 2)
    c, h, w = emit.fixed(source.variable.shape)
    b, inner = blocksize, c // blocksize**2
    if mode == "DCR":
        v = reshape(emit, source.variable, (b, b, inner, h, w))
        v = transpose(emit, v, (2, 3, 0, 4, 1))
    else:
        v = reshape(emit, source.variable, (inner, b, b, h, w))
        v = transpose(emit, v, (0, 3, 1, 4, 2))
    return emit.like(source, reshape(emit, v, (inner, h * b, w * b)))


@OPS("SpaceToDepth")
def space_to_depth(emit: Emitter, x: ir.Value, *, blocksize: int) -> Tensor:
    """C.reshape, C.transpose, C.reshape."""
    source = emit.images(x, 2)
    c, h, w = emit.fixed(source.variable.shape)
    b = blocksize
    v = transpose(emit, reshape(emit, source.variable, (c, h // b, b, w // b, b)), (2, 4, 0, 1, 3))
    return emit.like(source, reshape(emit, v, (c * b * b, h // b, w // b)))


@OPS("Trilu")
def trilu(emit: Emitter, x: ir.Value, k: ir.Value | None, *, upper: int) -> Tensor:
    """C.element_select by a constant."""
    source = emit.tensor(x)
    rows, columns = emit.fixed(source.variable.shape[-2:]) if source.variable.rank > 1 else (0, 0)
    if source.at is not None and source.at > source.rank - 3:
        raise Refusal("it works along the batch", "CNTK computes sample by sample")
    diagonal = 0 if k is None else int(emit.scalar(k, "its diagonal"))
    keep = np.triu(np.ones((rows, columns), np.float32), diagonal)
    keep = keep if upper else np.tril(np.ones((rows, columns), np.float32), diagonal)
    mask = emit.weight(Constant.of(keep), Group(emit.layer, "triangle"), "mask", trains=False)
    return emit.like(source, select(emit, mask, source.variable, 0.0))
