"""Shapes: what moves numbers without changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


@OPS("Identity")
def identity(emit: Emitter, x: ir.Value) -> Var:
    return emit("identity", x=x)


@OPS("Dropout", since=12)
def dropout(
    emit: Emitter, x: ir.Value, ratio: ir.Value | None, training_mode: ir.Value | None, *, seed: int | None
) -> Var:
    if training_mode is not None:
        mode = emit.array(training_mode)
        if mode is None or mode.any():
            raise Refusal("training mode")
    return emit("identity", x=x)


@OPS("Reshape", since=5)
def reshape(emit: Emitter, x: ir.Value, shape: ir.Value, *, allowzero: int) -> Var:
    given, known = emit.array(shape), emit.result_shape()
    if known is not None and sum(not isinstance(size, int) for size in known) <= 1 and 0 not in known:
        return emit.reshape(x, known)
    if given is None:
        return emit("reshape", x=x, shape=shape)
    sizes = [int(size) for size in given.reshape(-1)]
    if allowzero and 0 in sizes:
        raise Refusal("a tensor without elements")
    if 0 not in sizes:
        return emit("reshape", x=x, shape=np.array(sizes, np.int32))
    whole = emit.sizes(x)
    parts: list[Any] = []
    for i, size in enumerate(sizes):
        own = emit("slice_by_index", x=whole, begin=[i], end=[i + 1])
        parts.append(own if size == 0 else np.array([size], np.int32))
    return emit("reshape", x=x, shape=emit("concat", values=parts, axis=0))


@OPS("Flatten")
def flatten(emit: Emitter, x: ir.Value, *, axis: int) -> Var:
    known = emit.result_shape()
    if known is not None and sum(not isinstance(size, int) for size in known) <= 1:
        return emit.reshape(x, known)
    return emit("flatten2d", x=x, axis=axis % (emit.rank(x) + 1) if axis < 0 else axis)


@OPS("Squeeze", since=13)
def squeeze(emit: Emitter, x: ir.Value, axes: ir.Value | None) -> Var:
    along = None if axes is None else emit.ints(axes, "axes")
    if along is None and any(not isinstance(size, int) for size in emit.shape(x)):
        raise Refusal("open sizes, of which any may be 1")
    if along == [] or (along is None and 1 not in emit.shape(x)):
        return emit("identity", x=x)
    return emit("squeeze", x=x, axes=along)


@OPS("Unsqueeze", since=13)
def unsqueeze(emit: Emitter, x: ir.Value, axes: ir.Value) -> Var:
    along = emit.ints(axes, "axes")
    rank = emit.rank(x) + len(along)
    if emit.rank(x) == 0:
        return emit("reshape", x=x, shape=[1] * rank) if rank else emit("identity", x=x)
    return emit("expand_dims", x=x, axes=sorted(a % rank for a in along)) if along else emit("identity", x=x)


@OPS("Transpose")
def transpose(emit: Emitter, x: ir.Value, *, perm: list[int] | None) -> Var:
    order = perm if perm is not None else list(range(emit.rank(x)))[::-1]
    return emit("transpose", x=x, perm=order) if order else emit("identity", x=x)


@OPS("Concat")
def concat(emit: Emitter, *values: ir.Value, axis: int) -> Var:
    filled = [v for v in values if emit.shape(v)[axis] != 0]
    if len(filled) < 2:
        return emit("identity", x=(filled or list(values))[0])
    return emit("concat", values=filled, axis=axis)


@OPS("Split", since=13, outputs=1 << 16)
def split(emit: Emitter, x: ir.Value, sizes: ir.Value | None, *, axis: int, num_outputs: int | None) -> Any:
    assert emit.node is not None
    count, whole = len(emit.node.outputs), emit.shape(x)[axis]
    if not isinstance(whole, int):
        raise Refusal("a split of an open size")
    each = -(-whole // count)
    parts = [min(each, max(whole - i * each, 0)) for i in range(count)] if sizes is None else emit.ints(sizes, "sizes")
    if 0 in parts:
        raise Refusal("a part without elements")
    made = [emit("identity", x=x)] if count == 1 else emit("split", x=x, split_sizes=parts, axis=axis)
    return list(made)


@OPS("Slice", since=10)
def slice_(
    emit: Emitter,
    x: ir.Value,
    starts: ir.Value,
    ends: ir.Value,
    axes: ir.Value | None,
    steps: ir.Value | None,
) -> Var:
    """By begin, end and stride; a negative step begins at the far end and may go past the first entry."""
    rank, shape = emit.rank(x), emit.shape(x)
    if emit.array(starts) is None or emit.array(ends) is None:
        return _open_slice(emit, x, starts, ends, axes, steps)
    begins, stops = emit.ints(starts, "starts"), emit.ints(ends, "ends")
    along = [a % rank for a in emit.ints(axes, "axes")] if axes is not None else list(range(len(begins)))
    strides = emit.ints(steps, "steps") if steps is not None else [1] * len(begins)
    begin, end, stride = [0] * rank, [0] * rank, [1] * rank
    begin_mask, end_mask = [True] * rank, [True] * rank
    for axis, start, stop, step in zip(along, begins, stops, strides, strict=True):
        size = shape[axis]
        stride[axis] = step
        if isinstance(size, int):
            places = range(size)[slice(*_limits(start, stop, step, size))]
            if not len(places):
                raise Refusal("a slice without elements")
            begin[axis], begin_mask[axis] = places[0], False
            last = places[-1] + (1 if step > 0 else -1)
            end[axis], end_mask[axis] = max(last, 0), last < 0
            continue
        if step < 0 or not -(2**31) < start < 2**31:
            raise Refusal("a slice of an open size by a negative step")
        begin[axis], begin_mask[axis] = start, start == 0
        endless = stop >= 2**31 - 1
        end[axis], end_mask[axis] = (0 if endless else stop), endless
        if (not endless and stop >= 0) or (start > 0 and not endless):
            emit.note("a slice of an open size is right where the size is not smaller than the slice")
    return emit(
        "slice_by_index", x=x, begin=begin, end=end, stride=stride, begin_mask=begin_mask, end_mask=end_mask
    )  # fmt: skip


def _limits(start: int, stop: int, step: int, size: int) -> tuple[int | None, int | None, int]:
    """As ONNX limits them: for negative steps an end before the first entry is beyond it."""
    if step > 0:
        return start, stop, step
    beyond = stop < -size
    return start, None if beyond else stop, step


def _open_slice(
    emit: Emitter,
    x: ir.Value,
    starts: ir.Value,
    ends: ir.Value,
    axes: ir.Value | None,
    steps: ir.Value | None,
) -> Var:
    """With limits that are computed, along all axes from the first on, by steps of 1."""
    count = emit.shape(starts)[0]
    along = emit.ints(axes, "axes") if axes is not None else list(range(count if isinstance(count, int) else 0))
    if steps is not None and set(emit.ints(steps, "steps")) != {1}:
        raise Refusal("a slice with computed limits and steps")
    if not emit.program:
        raise Refusal("limits that are computed at run time", "make them constants, or write an .mlpackage")
    rank = emit.rank(x)
    along = [a % rank for a in along]
    if not isinstance(count, int) or count != len(along):
        raise Refusal("an unknown number of limits")
    sizes = emit.sizes(x)
    limits = []
    for value in (starts, ends):
        parts: list[Any] = [emit("slice_by_index", x=sizes, begin=[i], end=[i + 1]) for i in range(rank)]
        if value is starts:
            parts = [np.array([0], np.int32) for _ in range(rank)]
        for i, axis in enumerate(along):
            own = emit("slice_by_index", x=value, begin=[i], end=[i + 1])
            size = emit("slice_by_index", x=sizes, begin=[axis], end=[axis + 1])
            turned = emit.select(cond=emit("less", x=own, y=np.int32(0)), a=emit("add", x=own, y=size), b=own)
            parts[axis] = emit("maximum", x=emit("minimum", x=turned, y=size), y=np.int32(0))
        limits.append(emit("concat", values=parts, axis=0) if rank > 1 else parts[0])
    return emit("slice_by_index", x=x, begin=limits[0], end=limits[1])


@OPS("Expand")
def expand(emit: Emitter, x: ir.Value, shape: ir.Value) -> Var:
    """Repetition along the axes of size 1."""
    given, own = emit.array(shape), emit.shape(x)
    if given is None:
        raise Refusal("a shape that is computed at run time", "fix the shapes of the inputs: shapes=, batch=")
    wanted = [int(n) for n in given.reshape(-1)]
    if 0 in wanted:
        raise Refusal("a tensor without elements")
    rank = max(len(wanted), len(own))
    padded = [1] * (rank - len(own)) + list(own)
    target = [1] * (rank - len(wanted)) + wanted
    var = emit.var(x)
    if rank > len(own):
        var = emit("expand_dims", x=var, axes=list(range(rank - len(own))))
    reps = [n if size == 1 else 1 for size, n in zip(padded, target, strict=True)]
    return tiled(emit, var, reps, emit.mil(x))


def tiled(emit: Emitter, var: Var, reps: list[int], kind: str) -> Var:
    """Repeated along the axes."""
    if all(n == 1 for n in reps):
        return emit("identity", x=var)
    if kind == "bool":
        return emit.cast(emit("tile", x=emit.cast(var, "int32"), reps=np.array(reps, np.int32)), "bool")
    return emit("tile", x=var, reps=np.array(reps, np.int32))


@OPS("Tile", since=6)
def tile(emit: Emitter, x: ir.Value, repeats: ir.Value) -> Var:
    reps = emit.ints(repeats, "repeats")
    if 0 in reps:
        raise Refusal("a tensor without elements")
    return tiled(emit, emit.var(x), reps, emit.mil(x))


@OPS("Shape")
def shape(emit: Emitter, x: ir.Value, *, start: int, end: int | None) -> Var:
    rank = emit.rank(x)
    first, last, _ = slice(start, end).indices(rank)
    whole = emit.sizes(x)
    if (first, last) == (0, rank):
        return whole
    if last <= first:
        raise Refusal("a list without elements")
    return emit("slice_by_index", x=whole, begin=[first], end=[last])


@OPS("Size")
def size(emit: Emitter, x: ir.Value) -> Var:
    return emit("reduce_prod", x=emit.sizes(x), axes=[0], keep_dims=False)


@OPS("DepthToSpace")
def depth_to_space(emit: Emitter, x: ir.Value, *, blocksize: int, mode: str) -> Var:
    if mode == "CRD":
        return emit("pixel_shuffle", x=emit.floats(x), upscale_factor=blocksize)
    return emit("depth_to_space", x=emit.floats(x), block_size=blocksize)


@OPS("SpaceToDepth")
def space_to_depth(emit: Emitter, x: ir.Value, *, blocksize: int) -> Var:
    return emit("space_to_depth", x=emit.floats(x), block_size=blocksize)


@OPS("Pad", since=18)
def pad(emit: Emitter, x: ir.Value, pads: ir.Value, value: ir.Value | None, axes: ir.Value | None, *, mode: str) -> Var:
    rank, given = emit.rank(x), emit.ints(pads, "pads")
    along = [a % rank for a in emit.ints(axes, "axes")] if axes is not None else list(range(rank))
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(along):
        before[axis], after[axis] = given[i], given[i + len(along)]
    var = emit.var(x)
    if min(before + after, default=0) < 0:
        var = _cropped(emit, x, before, after)
        before, after = [max(n, 0) for n in before], [max(n, 0) for n in after]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "wrap"}
    if mode == "wrap":
        return _wrapped(emit, var, x, before, after)
    if mode not in modes:
        raise Refusal(f"mode {mode!r}")
    if not any(before + after):
        return emit("identity", x=var)
    if value is not None and mode == "constant" and emit.array(value) is None:
        zeros = _by_constant(emit, var, before, after, 0.0, emit.mil(x))
        inside = np.pad(np.ones(emit.static(x), np.bool_), list(zip(before, after, strict=True)))
        return emit.select(cond=inside, a=zeros, b=emit("reshape", x=value, shape=[1]))
    number = 0.0 if value is None else emit.scalar(value, "the value")
    return padded(emit, var, before, after, modes[mode], number, emit.mil(x))


def padded(emit: Emitter, var: Var, before: list[int], after: list[int], mode: str, number: float, kind: str) -> Var:
    """Core ML reflects and repeats along the last two axes only: others go there and back, two by two."""
    if mode == "constant":
        return _by_constant(emit, var, before, after, number, kind)
    rank = len(before)
    todo = [axis for axis in range(rank) if before[axis] or after[axis]]
    if kind != "fp32" and kind != "fp16":
        raise Refusal(f"of {kind}")
    while todo:
        now, todo = todo[-2:], todo[:-2]
        order = [axis for axis in range(rank) if axis not in now] + now
        moved = order != list(range(rank))
        turned = emit("transpose", x=var, perm=order) if moved else var
        pairs = [n for axis in now for n in (before[axis], after[axis])]
        turned = emit("pad", x=turned, pad=np.array(pairs, np.int32), mode=mode)
        var = emit("transpose", x=turned, perm=[order.index(axis) for axis in range(rank)]) if moved else turned
    return var


def _by_constant(emit: Emitter, var: Var, before: list[int], after: list[int], number: float, kind: str) -> Var:
    pairs = np.array([n for pair in zip(before, after, strict=True) for n in pair], np.int32)
    if kind in ("fp32", "fp16"):
        value = np.float32(number) if kind == "fp32" else np.float16(number)
        return emit("pad", x=var, pad=pairs, mode="constant", constant_val=value)
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        sizes = [int(n) if str(n).isdigit() else None for n in var.shape]
        if not left and not right:
            continue
        if None in sizes:
            raise Refusal(f"open sizes of {kind}")
        parts = [var]
        for count, at in ((left, 0), (right, 2)):
            if count:
                filling = [count if i == axis else n for i, n in enumerate(sizes)]
                dtype = np.bool_ if kind == "bool" else np.int32
                parts.insert(at, np.full([n for n in filling if n is not None], number, dtype))
        var = emit("concat", values=parts, axis=axis)
    return var


def _cropped(emit: Emitter, x: ir.Value, before: list[int], after: list[int]) -> Var:
    """Without what negative pads take away."""
    rank = len(before)
    begin = [max(-n, 0) for n in before]
    end = [min(n, 0) for n in after]
    return emit(
        "slice_by_index", x=x, begin=begin, end=end, begin_mask=[n == 0 for n in begin], end_mask=[n == 0 for n in end],
        stride=[1] * rank,
    )  # fmt: skip


def _wrapped(emit: Emitter, var: Var, x: ir.Value, before: list[int], after: list[int]) -> Var:
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        if left or right:
            whole = emit.shape(x)[axis]
            if not isinstance(whole, int):
                raise Refusal("a pad that wraps along an open size")
            if max(left, right) > whole:
                raise Refusal("a pad that wraps more than once")
            places = [i % whole for i in range(-left, whole + right)]
            var = emit("gather", x=var, indices=np.array(places, np.int32), axis=axis)
    return var
