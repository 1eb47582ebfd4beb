"""Pools: the largest, the mean or a norm of windows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.conv import explicit, pairs
from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var

MOST = 64
"""Entries of a window that Core ML has no pool for, each of which is a slice of the input."""


@dataclass(frozen=True)
class Window:
    """A window: `edges` are the pads that it says, `reach` those that its last position needs, begins then ends;
    `results` are how many positions it has."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    edges: list[int]
    reach: list[int]
    results: list[int | str]

    @property
    def native(self) -> bool:
        """Whether Core ML has a pool of this form."""
        return set(self.dilations) <= {1} and len(self.kernel) <= 3

    @property
    def size(self) -> int:
        return math.prod(self.kernel)


def window(
    emit: Emitter,
    x: ir.Value,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> Window:
    """The window of a pool of `x`; the size of the result, which ONNX knows, says how far it goes."""
    count = len(kernel)
    strides, dilations = strides or [1] * count, dilations or [1] * count
    sizes, results = emit.shape(x)[2:], list(emit.result()[2:])
    edges = explicit(auto_pad, pads, sizes, kernel, strides, dilations)
    reach = list(edges)
    for i, (size, result) in enumerate(zip(sizes, results, strict=True)):
        if not isinstance(size, int) or not isinstance(result, int):
            if ceil_mode:
                raise Refusal("a result rounded up from an open size", "fix the shapes of the inputs: shapes=")
            continue
        if ceil_mode and (result - 1) * strides[i] >= size + edges[i]:
            result -= 1  # a window that begins behind the input is none, whatever was inferred
        results[i] = result
        needed = (result - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size - edges[i]
        reach[count + i] = max(needed, 0) if ceil_mode else edges[count + i]
    return Window(list(kernel), strides, dilations, edges, reach, results)


def _native(emit: Emitter, op: str, x: Any, form: Window, **more: Any) -> Var:
    return emit(
        op, x=x, kernel_sizes=form.kernel, strides=form.strides, pad_type="custom", pad=pairs(form.reach), **more
    )


def _entries(emit: Emitter, x: Any, form: Window, filling: Any, sizes: tuple[int | str, ...]) -> list[Var]:
    """The entries of all windows: for each place in the window one strided slice of the padded input."""
    count = len(form.kernel)
    if form.size > MOST:
        raise Refusal(f"a window of {form.size} entries in a form that Core ML has no pool for")
    results = form.results
    if not all(isinstance(size, int) for size in (*sizes[2:], *results)):
        raise Refusal("such a window over an open size", "fix the shapes of the inputs: shapes=")
    data = x
    if any(form.reach):
        both = np.array([0, 0, 0, 0, *pairs(form.reach)], np.int32)
        data = emit("pad", x=x, pad=both, mode="constant", constant_val=filling)
    slices = []
    for place in itertools.product(*(range(k) for k in form.kernel)):
        begin = [p * d for p, d in zip(place, form.dilations, strict=True)]
        ends = [b + (int(r) - 1) * s + 1 for b, r, s in zip(begin, results, form.strides, strict=True)]
        slices.append(
            emit(
                "slice_by_index",
                x=data,
                begin=[0, 0, *begin],
                end=[0, 0, *ends],
                stride=[1, 1, *form.strides],
                begin_mask=[True, True] + [False] * count,
                end_mask=[True, True] + [False] * count,
            )
        )
    return slices


@OPS("MaxPool", since=8)
def max_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    storage_order: int,
    strides: list[int] | None,
) -> Var:
    form = window(emit, x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    data = emit.var(x) if emit.is_float(x) else emit.cast(emit.var(x), "fp32")
    if form.native:
        result = _native(emit, "max_pool", data, form)
    else:
        lowest = emit.number(x, -np.inf) if emit.is_float(x) else np.float32(-np.inf)
        result, *others = _entries(emit, data, form, lowest, emit.shape(x))
        for other in others:
            result = emit("maximum", x=result, y=other)
    return emit.cast(result, emit.mil(x))


@OPS("AveragePool")
def average_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    count_include_pad: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> Var:
    """Where Core ML divides by another number than ONNX: the sum of each window, divided by what ONNX counts."""
    form = window(emit, x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    data = emit.floats(x)
    padded = any(form.reach)
    if form.native and (not padded or not count_include_pad or form.reach == form.edges):
        return _native(emit, "avg_pool", data, form, exclude_padding_from_average=padded and not count_include_pad)
    counts = _counts(emit, x, form, bool(count_include_pad))
    if form.native:
        mean = _native(emit, "avg_pool", data, form, exclude_padding_from_average=False)
        factors = (form.size / counts).astype(np.float32)
        return emit("mul", x=mean, y=emit.cast(emit.var_of(factors), emit.mil(x)))
    total, *others = _entries(emit, data, form, emit.number(x, 0), emit.shape(x))
    for other in others:
        total = emit("add", x=total, y=other)
    return emit("real_div", x=total, y=emit.cast(emit.var_of(counts.astype(np.float32)), emit.mil(x)))


def _counts(emit: Emitter, x: ir.Value, form: Window, include: bool) -> Any:
    """How many entries ONNX counts in each window: those of the input and, with `include`, of its pads."""
    counts: Any = np.ones((1, 1))
    dims = len(form.kernel)
    for i in range(dims):
        size, result = emit.shape(x)[2 + i], form.results[i]
        if not isinstance(size, int) or not isinstance(result, int):
            raise Refusal("a mean over an open size that Core ML divides otherwise", "fix the shapes: shapes=")
        places = np.arange(result)[:, None] * form.strides[i] + np.arange(form.kernel[i]) * form.dilations[i]
        places = places - form.edges[i]
        low, high = (-form.edges[i], size + form.edges[dims + i]) if include else (0, size)
        along = ((places >= low) & (places < high)).sum(axis=1)
        counts = np.expand_dims(counts, -1) * along.reshape([1] * (2 + i) + [-1])
    return counts


@OPS("LpPool", since=11)
def lp_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    p: int,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Var:
    """(sum of |x| ** p) ** (1 / p): the mean of each window times its size"""
    form = window(emit, x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    size = emit("abs", x=emit.floats(x))
    powers = size if p == 1 else emit("square", x=size) if p == 2 else emit("pow", x=size, y=emit.number(x, p))
    if form.native:
        mean = _native(emit, "avg_pool", powers, form, exclude_padding_from_average=False)
        total = emit("mul", x=mean, y=emit.number(x, form.size))
    else:
        total, *others = _entries(emit, powers, form, emit.number(x, 0), emit.shape(x))
        for other in others:
            total = emit("add", x=total, y=other)
    if p == 1:
        return total
    return emit("sqrt", x=total) if p == 2 else emit("pow", x=total, y=emit.number(x, 1 / p))
