"""Several bottoms to one top, one bottom to several tops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import onnx_ir as ir

from importers.caffe.layers import Context, layer

__all__: list[str] = []


@layer("Eltwise", param="eltwise_param")
def eltwise(caffe: Context, *bottoms: ir.Value, operation: str = "SUM", coeff: Sequence[float] = ()) -> ir.Value:
    """PROD, MAX, or SUM with a factor for each bottom."""
    caffe.require(len(bottoms) >= 2, f"it has {len(bottoms)} bottoms, 2 are needed")
    caffe.require(len(coeff) in (0, len(bottoms)), f"{len(coeff)} coeff for {len(bottoms)} bottoms")
    caffe.require(not coeff or operation != "PROD", "coeff goes with SUM")
    same_shapes(caffe, bottoms)
    if operation == "MAX":
        return caffe.op("Max", *bottoms)
    if operation == "PROD":
        result = bottoms[0]
        for value in bottoms[1:]:
            result = caffe.op("Mul", result, value)
        return result
    terms = [
        value if factor == 1 else caffe.op("Mul", value, caffe.constant(factor, "coeff"))
        for value, factor in zip(bottoms, coeff or [1.0] * len(bottoms), strict=True)
    ]
    if len(terms) == 2 and coeff and coeff[1] == -1:
        return caffe.op("Sub", terms[0], bottoms[1])
    return caffe.op("Add", *terms) if len(terms) == 2 else caffe.op("Sum", *terms)


def same_shapes(caffe: Context, values: Sequence[ir.Value]) -> None:
    """InvalidModel unless all have one shape, as far as it is known."""
    first = caffe.shape(values[0])
    for value in values[1:]:
        own = caffe.shape(value)
        fits = len(own) == len(first) and all(a == b or None in (a, b) for a, b in zip(own, first, strict=True))
        caffe.require(fits, f"its bottoms have the shapes {_text(first)} and {_text(own)}")


def _text(shape: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "()"


@layer("Concat", param="concat_param")
def concat(caffe: Context, *bottoms: ir.Value, axis: int | None = None, concat_dim: int | None = None) -> ir.Value:
    caffe.require(bool(bottoms), "it has no bottom")
    caffe.require(axis is None or concat_dim is None, "axis and concat_dim are one too many")
    axis = caffe.axis(bottoms[0], 1 if axis is None and concat_dim is None else int(axis or concat_dim or 0))
    first = caffe.shape(bottoms[0])
    for value in bottoms[1:]:
        own = caffe.shape(value)
        fits = len(own) == len(first) and all(
            i == axis or a == b or None in (a, b) for i, (a, b) in enumerate(zip(own, first, strict=True))
        )
        caffe.require(fits, f"its bottoms have the shapes {_text(first)} and {_text(own)}")
    return bottoms[0] if len(bottoms) == 1 else caffe.op("Concat", *bottoms, axis=axis)


@layer("Slice", param="slice_param")
def slice_(
    caffe: Context,
    x: ir.Value,
    *,
    axis: int | None = None,
    slice_point: Sequence[int] = (),
    slice_dim: int | None = None,
) -> list[ir.Value]:
    caffe.require(axis is None or slice_dim is None, "axis and slice_dim are one too many")
    axis = caffe.axis(x, 1 if axis is None and slice_dim is None else int(axis or slice_dim or 0))
    size = caffe.size(x, axis)
    if slice_point:
        caffe.require(len(slice_point) == caffe.tops - 1, f"{len(slice_point)} slice_point for {caffe.tops} tops")
        ends = [0, *slice_point, size]
        sizes = [end - start for start, end in pairwise(ends)]
        caffe.require(min(sizes) > 0, f"slice_point {list(slice_point)} do not lie one after the other in {size}")
    else:
        caffe.require(size % caffe.tops == 0, f"{size} does not divide into {caffe.tops} tops")
        sizes = [size // caffe.tops] * caffe.tops
    if len(sizes) == 1:
        return [x]
    return list(caffe.builder.ops("Split", x, caffe.ints(sizes, "sizes"), outputs=len(sizes), axis=axis))


@layer("Split")
def split(caffe: Context, x: ir.Value) -> list[ir.Value]:
    """The same to every top."""
    return [x] * caffe.tops


@layer("BatchReindex")
def batch_reindex(caffe: Context, x: ir.Value, index: ir.Value) -> ir.Value:
    """Items by their numbers."""
    caffe.require(caffe.rank(index) == 1, "its second bottom has one axis")
    return caffe.op("Gather", x, caffe.op("Cast", index, to=ir.DataType.INT64.value), axis=0)


@layer("Filter")
def filter_(caffe: Context, *bottoms: ir.Value) -> list[ir.Value]:
    """The items for which the last bottom is not 0."""
    caffe.require(len(bottoms) >= 2, "it needs a bottom and a selector")
    *values, selector = bottoms
    caffe.require(all(size == 1 for size in caffe.shape(selector)[1:]), "the sizes of its selector are 1 but the first")
    flags = caffe.op("Cast", caffe.reshape(selector, [-1]), to=ir.DataType.BOOL.value)
    return [caffe.op("Compress", value, flags, axis=0) for value in values]


@layer("Axpy")
def axpy(caffe: Context, a: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """A fork's: a number for each channel times x, plus y."""
    caffe.require(caffe.rank(a) >= 2 and caffe.rank(x) == 4, "its bottoms are (N, C), (N, C, H, W), (N, C, H, W)")
    same_shapes(caffe, [x, y])
    if caffe.rank(a) == 2:
        a = caffe.reshape(a, [0, 0, 1, 1])
    return caffe.op("Add", caffe.op("Mul", a, x), y)
