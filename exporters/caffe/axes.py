"""Moves along axes: orders of rows, linear maps, permutations, reductions, in the fewest layers that are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob, Size
from exporters.caffe.primitives import concat, cut, merged, power, reshape, slices, unary
from exporters.constants import Array, Constant, elements
from hub.errors import Refusal

__all__ = ["along", "reduce", "restored", "select", "transpose"]

LONGEST_CONCAT = 32
"""Pieces up to which an order of rows is a Slice and a Concat; above it is a product with a 0/1 matrix."""


def select(emit: Emitter, x: Blob, axis: int, indices: Sequence[int], role: str | None = None) -> Blob:
    """x[indices] along `axis`: Slice and Concat of runs, a strided 1x1 convolution, or a 0/1 matrix."""
    size = emit.fixed(x.shape, axis)[0]
    if not indices:
        raise Refusal("a selection without elements")
    if list(indices) == list(range(size)):
        return x
    runs = _runs(indices)
    if len(runs) == 1:
        return cut(emit, x, axis, *runs[0], role)
    step = indices[1] - indices[0]
    if axis >= 2 and step > 1 and list(indices) == list(range(indices[0], size, step)) and x.rank == 4:
        return _strided(emit, x, axis, indices[0], step, len(indices), role)
    if len(runs) > LONGEST_CONCAT:
        matrix = np.zeros((len(indices), size), np.float32)
        matrix[np.arange(len(indices)), list(indices)] = 1
        return along(emit, x, axis, matrix, role)
    points = sorted({p for run in runs for p in run if 0 < p < size})
    pieces = slices(emit, x, axis, points, "slice")
    starts = [0, *points]
    ordered = []
    for start, stop in runs:
        first = starts.index(start)
        last = starts.index(stop) if stop < size else len(starts)
        ordered += pieces[first:last]
    return concat(emit, ordered, axis, role)


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _strided(emit: Emitter, x: Blob, axis: int, start: int, step: int, count: int, role: str | None) -> Blob:
    """x[..., start::step, ...]: a convolution by 1, channel by channel, with that stride."""
    x = cut(emit, x, axis, start, emit.fixed(x.shape, axis)[0], "start")
    channels = emit.fixed(x.shape)[0]
    parameters: dict[str, Any] = {"num_output": channels, "bias_term": False, "kernel_size": [1], "group": channels}
    parameters["stride"] = [step if i == axis else 1 for i in range(2, x.rank)]
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    ones = Constant.of(np.ones((channels, 1, *[1] * (x.rank - 2)), np.float32))
    return emit.layer("Convolution", [x], shape, role, [ones], convolution_param=parameters)


def along(emit: Emitter, x: Blob, axis: int, matrix: Array, role: str | None = None) -> Blob:
    """y[.., i, ..] = sum over j of matrix[i, j] x[.., j, ..] along `axis`.

    On the last axis it is an InnerProduct, on others a 1x1 convolution whose channels are that axis.
    """
    rows, columns = matrix.shape
    shape = (*x.shape[:axis], rows, *x.shape[axis + 1 :])
    weights = np.ascontiguousarray(matrix, np.float32)
    if axis == x.rank - 1 and axis > 0:
        parameters: dict[str, Any] = {"num_output": rows, "bias_term": False}
        if axis != 1:
            parameters["axis"] = axis
        return emit.layer("InnerProduct", [x], shape, role, [Constant.of(weights)], inner_product_param=parameters)
    if axis == 0:
        emit.fixed(x.shape, 0)
    inner = elements(emit.fixed(x.shape, axis + 1))
    image = reshape(emit, x, (merged(x.shape[:axis]), columns, inner, 1), "columns") if axis != 1 or x.rank != 4 else x
    kernel = Constant.of(weights.reshape(rows, columns, 1, 1))
    parameters = {"num_output": rows, "bias_term": False, "kernel_size": [1]}
    direct = image is x
    result = emit.layer(
        "Convolution",
        [image],
        (image.shape[0], rows, *image.shape[2:]),
        role if direct else "product",
        [kernel],
        convolution_param=parameters,
    )
    return result if direct else restored(emit, result, shape, role)


def restored(emit: Emitter, x: Blob, shape: Sequence[Size], role: str | None) -> Blob:
    """A reshape that ends a construction, under the name `role`."""
    return reshape(emit, x, shape, role if role is not None else "result")


def transpose(emit: Emitter, x: Blob, perm: Sequence[int], role: str | None = None) -> Blob:
    """Any permutation, as exchanges of neighbouring groups of axes.

    Exchange (C, A, B, I) -> (C, B, A, I): seen as an image of A rows and B * I columns, Im2col with a
    kernel of B columns that are I apart gives for each of the B taps an image of A rows and I columns.
    It copies and computes nothing. Axes of size 1, and axes that stay neighbours, cost nothing.
    """
    shape = tuple(x.shape[p] for p in perm)
    groups, target = _groups(x.shape, perm)
    if emit.dialect == "ssd" and target != sorted(target):
        return emit.layer("Permute", [x], shape, role, permute_param={"order": list(perm)})
    current = sorted(target)
    while current != target:
        place = next(i for i, group in enumerate(target) if current[i] != group)
        at = current.index(target[place])
        before, behind, rest = current[:place], current[place:at], current[at + 1 :]
        batch = groups[before[0]] if before and before[0] == 0 else 1
        channels = elements(emit.fixed([groups[g] for g in before if batch == 1 or g != 0], 0))
        (b,) = emit.fixed([groups[target[place]]], 0)
        a, i = (elements(emit.fixed([groups[g] for g in part], 0)) for part in (behind, rest))
        image = reshape(emit, x, (batch, channels, a, b * i), "rows")
        parameters: dict[str, Any] = {"kernel_h": 1, "kernel_w": b}
        if i > 1:
            parameters["dilation"] = [1, i]
        x = emit.layer("Im2col", [image], (batch, channels * b, a, i), "exchange", convolution_param=parameters)
        current = [*before, target[place], *behind, *rest]
    return restored(emit, x, shape, role)


def _groups(shape: Sequence[Size], perm: Sequence[int]) -> tuple[list[Size], list[int]]:
    """Axes that move together as one, without those of size 1: their sizes, and their order in the result.

    An open batch stays alone and is group 0; where it moves, it is refused later by its size.
    """
    moving = [axis for axis in perm if shape[axis] != 1]
    runs: list[list[int]] = []
    for axis in moving:
        last = runs[-1][-1] if runs else None
        between = [] if last is None else [s for s in shape[last + 1 : axis] if s != 1]
        together = last is not None and axis > last and not between and last != 0
        if together:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    ranked = sorted(runs)
    sizes: list[Size] = []
    for run in ranked:
        parts = [shape[axis] for axis in run]
        sizes.append(parts[0] if len(parts) == 1 else elements([p for p in parts if isinstance(p, int)]))
    if ranked and ranked[0] != [0]:  # there is no batch to keep in front
        return [1, *sizes], [0, *(ranked.index(run) + 1 for run in runs)]
    return sizes, [ranked.index(run) for run in runs]


def reduce(
    emit: Emitter, x: Blob, axes: Sequence[int], operation: str, shape: Sequence[Size], role: str | None = None
) -> Blob:
    """MEAN, SUM, ASUM, SUMSQ or MAX over `axes`, as a blob of `shape`.

    Axes at the end: a Reduction (MAX: a global Pooling). Others: seen as (outer, R, inner), a sum over R is a
    1x1 convolution from R channels to one, a maximum is a Pooling with a kernel of R rows and one column.
    """
    blocks = _blocks(x.shape, axes)
    if not blocks:
        if operation in ("ASUM", "SUMSQ"):
            x = unary(emit, x, "AbsVal", role) if operation == "ASUM" else power(emit, x, 2.0, role=role)
        return restored(emit, x, shape, role)
    for number, (start, stop) in enumerate(reversed(blocks)):
        x = _reduce_block(emit, x, start, stop, operation, role if number == len(blocks) - 1 else operation.lower())
        operation = {"ASUM": "SUM", "SUMSQ": "SUM"}.get(operation, operation)
    return reshape(emit, x, shape, f"{role}_shape" if role else "shape")


def _blocks(shape: Sequence[Size], axes: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of neighbouring axes; axes of size 1 count as whatever is beside them."""
    wanted = sorted(axis for axis in axes if shape[axis] != 1)
    blocks: list[tuple[int, int]] = []
    for axis in wanted:
        if blocks and all(size == 1 for size in shape[blocks[-1][1] : axis]):
            blocks[-1] = (blocks[-1][0], axis + 1)
        else:
            blocks.append((axis, axis + 1))
    return blocks


def _reduce_block(emit: Emitter, x: Blob, start: int, stop: int, operation: str, role: str | None) -> Blob:
    """One block of axes; they are 1 in the result."""
    count = elements(emit.fixed(x.shape[start:stop], 0))
    before, after = x.shape[:start], x.shape[stop:]
    shape = (*before, *[1] * (stop - start), *after)
    if operation in ("MEAN", "MAX") and x.rank == 4 and (start, stop) == (2, 4):
        kind = "MAX" if operation == "MAX" else "AVE"
        return emit.layer("Pooling", [x], shape, role, pooling_param={"pool": kind, "global_pooling": True})
    if start == 0:
        emit.fixed(x.shape, 0)
    batch: Size = x.shape[0] if start else 1
    inner = elements(emit.fixed(after, 0))
    if operation != "MAX" and inner == 1 and start:
        parameters: dict[str, Any] = {"axis": start}
        if operation != "SUM":
            parameters["operation"] = operation
        flat = emit.layer("Reduction", [x], before, role, reduction_param=parameters)
        return reshape(emit, flat, shape, "kept")
    if operation == "MAX":
        channels = elements(emit.fixed(before))
        image = reshape(emit, x, (batch, channels, count, inner), "rows")
        kernel = {"kernel_h": count, "kernel_w": 1}
        pooled = emit.layer(
            "Pooling",
            [image],
            (batch, channels, 1, inner),
            role,
            pooling_param={"pool": "MAX", **({"global_pooling": True} if inner == 1 else kernel)},
        )
        return reshape(emit, pooled, shape, "kept")
    if operation in ("ASUM", "SUMSQ"):
        x = unary(emit, x, "AbsVal", "abs") if operation == "ASUM" else power(emit, x, 2.0, role="square")
    image = reshape(emit, x, (merged(before), count, inner), "rows")
    weights = np.full((1, count), 1 / count if operation == "MEAN" else 1, np.float32)
    return reshape(emit, along(emit, image, 1, weights, role), shape, "kept")
