"""Compressed constants, and what quantizes at run time.

A compressed constant is DequantizeLinear where that says exactly the same; otherwise it is expanded when it is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import InvalidModel, Refusal
from importers.coreml.constants import Array, Const, unpacked
from importers.coreml.context import Mil
from importers.coreml.table import Ints, op
from importers.coreml.types import FP16, NAMES, by_name, onnx_type

__all__: list[str] = []

QUANTIZED = ("int8", "uint8", "int4", "uint4")
"""The types that DequantizeLinear and Core ML share."""

SIGNED_4, UNSIGNED_1 = 25, 37


def _made(mil: Mil, dtype: int, shape: tuple[int, ...], load: Callable[[], Array], index: int = 0) -> Const:
    """A constant that is computed from others."""
    declared = mil.types[index]
    mil.require(declared is not None and declared.shape == shape, f"its result has the shape {shape}")
    name = mil.message.outputs[index].name if index < len(mil.message.outputs) else mil.name
    return Const(name, dtype, shape, load)


@op("constexpr_cast")
def constexpr_cast(mil: Mil, *, source_val: Const, output_dtype: str) -> Const:
    """A constant of another type."""
    to = by_name(output_dtype)
    kind = onnx_type(to).numpy()
    return _made(mil, to, source_val.shape, lambda: source_val.numpy().astype(kind))


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(
    mil: Mil, *, quantized_data: Const, zero_point: Const, scale: Const, axis: int
) -> Const:
    """DequantizeLinear with an axis."""
    rank = len(quantized_data.shape)
    along = mil.axis(axis, rank)
    for one in (zero_point, scale):
        mil.require(
            math.prod(one.shape) == 1 or one.shape == (quantized_data.shape[along],),
            f"a parameter of shape {one.shape}",
        )
    several = any(math.prod(one.shape) != 1 for one in (zero_point, scale))
    sizes = tuple(quantized_data.shape[along] if several and i == along else 1 for i in range(rank))

    def wide(one: Const) -> Const:
        """A parameter with all axes of the data; where one of the two has several numbers, both have them."""

        def load() -> Array:
            numbers = one.numpy().reshape(-1)
            return np.broadcast_to(numbers, (math.prod(sizes),)).reshape(sizes)

        return replace(one, shape=sizes, load=load)

    return _affine(mil, quantized_data, wide(scale), wide(zero_point))


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(mil: Mil, *, data: Const, scale: Const, offset: Const | None = None) -> Const:
    """DequantizeLinear, by blocks where only one axis has blocks; otherwise expanded."""
    _divides(mil, data.shape, scale.shape)
    mil.require(offset is None or offset.shape == scale.shape, "its offset is not of the shape of its scale")
    return _affine(mil, data, scale, offset)


def _divides(mil: Mil, shape: tuple[int, ...], part: tuple[int, ...]) -> None:
    fits = len(shape) == len(part) and all(p > 0 and s % p == 0 for s, p in zip(shape, part, strict=True))
    mil.require(fits, f"parameters of shape {part} for data of shape {shape}")


def _affine(mil: Mil, data: Const, scale: Const, offset: Const | None) -> Const:
    """scale * (data - offset), the parameters repeated over blocks."""
    load = lambda: _shift_scale(data.numpy(), scale, offset, data.shape)  # noqa: E731
    made = _made(mil, scale.dtype, data.shape, load)
    if NAMES[data.dtype] not in QUANTIZED or (offset is not None and offset.dtype != data.dtype):
        return made
    blocks = [axis for axis, (s, p) in enumerate(zip(data.shape, scale.shape, strict=True)) if p not in (1, s)]
    full = [axis for axis, (s, p) in enumerate(zip(data.shape, scale.shape, strict=True)) if p == s and s > 1]
    if blocks or len(full) > 1:
        # All axes but one have a parameter for each place, and that one for each block of it.
        axes = [axis for axis, (s, p) in enumerate(zip(data.shape, scale.shape, strict=True)) if p != s]
        if len(axes) != 1:
            return made
        attributes: dict[str, Any] = {"axis": axes[0], "block_size": data.shape[axes[0]] // scale.shape[axes[0]]}
        shape = scale.shape
    else:
        attributes = {"axis": full[0]} if full else {}
        shape = (data.shape[full[0]],) if full else ()

    def emit(builder: GraphBuilder) -> ir.Value:
        upcast = mil.walker.upcast
        with builder.layer(mil.name, mil.kind):
            parts = [builder.constant(data.tensor(upcast), "data")]
            for one, name in ((scale, "scale"), (offset, "zero_point")):
                if one is not None:
                    numbers, kind = one.numpy().reshape(shape), onnx_type(one.dtype, upcast)
                    parts.append(builder.constant(ir.Tensor(numbers.astype(kind.numpy()), dtype=kind), name))
            value = builder.op("DequantizeLinear", *parts, **attributes)
        builder.rename(value, made.name)
        return value

    return replace(made, emit=emit)


def _shift_scale(data: Array, scale: Const, offset: Const | None, shape: tuple[int, ...]) -> Array:
    kind = np.float32 if scale.dtype == FP16 else onnx_type(scale.dtype).numpy()
    numbers: Array = data.astype(kind)
    if offset is not None:
        numbers = numbers - _repeated(offset.numpy().astype(kind), shape)
    result: Array = numbers * _repeated(scale.numpy().astype(kind), shape)
    return result.astype(onnx_type(scale.dtype).numpy())


def _repeated(part: Array, shape: tuple[int, ...]) -> Array:
    """Each number as often as the shape asks for."""
    for axis, size in enumerate(shape):
        part = np.repeat(part, size // part.shape[axis], axis)
    return part


@op("constexpr_lut_to_dense")
def constexpr_lut_to_dense(
    mil: Mil, *, indices: Const, lut: Const, shape: Ints | None = None, vector_axis: int | None = None
) -> Const:
    """Expanded: each number is looked up in a table, or in the table of its block."""
    if shape is not None:
        bits = int(math.log2(max(math.prod(lut.shape), 1)))
        count = math.prod(shape)
        mil.require(1 <= bits <= 8 and math.prod(lut.shape) == 1 << bits, f"a table of {lut.shape}")
        mil.require(all(n >= 0 for n in shape) and math.prod(indices.shape) == -(-count * bits // 8), "too few indices")
        whole = tuple(shape)

        def load() -> Array:
            places = unpacked(indices.numpy().reshape(-1).view(np.uint8), bits, count)
            found: Array = lut.numpy().reshape(-1)[places]
            return found.reshape(whole)

        return _made(mil, lut.dtype, whole, load)
    whole, axis = _vectors(mil, indices.shape, lut, vector_axis)
    return _made(mil, lut.dtype, whole, lambda: _looked_up(indices.numpy(), lut.numpy(), axis, whole))


def _vectors(mil: Mil, shape: tuple[int, ...], lut: Const, vector_axis: int | None) -> tuple[tuple[int, ...], int]:
    """The shape of what is looked up, and the axis that vectors lie along."""
    mil.require(len(lut.shape) == len(shape) + 2, f"a table of {len(lut.shape)} axes for {len(shape)}")
    _divides(mil, shape, lut.shape[:-2])
    size = lut.shape[-1]
    mil.require(size == 1 or vector_axis is not None, "a table of vectors, and no vector_axis")
    axis = mil.axis(vector_axis if vector_axis is not None else 0, len(shape))
    return tuple(n * size if i == axis else n for i, n in enumerate(shape)), axis


def _looked_up(indices: Array, lut: Array, axis: int, shape: tuple[int, ...]) -> Array:
    if indices.size and int(indices.max()) >= lut.shape[-2]:
        raise InvalidModel(f"an index of {int(indices.max())} into a table of {lut.shape[-2]}")
    blocks = [n // part for n, part in zip(indices.shape, lut.shape, strict=False)]
    places = [
        (np.arange(n) // block).reshape([-1 if i == at else 1 for i in range(indices.ndim)])
        for at, (n, block) in enumerate(zip(indices.shape, blocks, strict=True))
    ]
    vectors: Array = lut[(*places, indices.astype(np.int64))]
    return np.moveaxis(vectors, -1, axis + 1).reshape(shape)


@op("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(mil: Mil, *, nonzero_data: Const, mask: Const, shape: Ints | None = None) -> Const:
    """Expanded: zeros where the mask has none."""
    whole = tuple(shape) if shape is not None else mask.shape

    def load() -> Array:
        bits = mask.numpy()
        if shape is not None:
            bits = unpacked(bits.reshape(-1).view(np.uint8), 1, math.prod(whole)).reshape(whole)
        return _dense(nonzero_data.numpy(), bits)

    if shape is not None:
        mil.require(math.prod(mask.shape) == -(-math.prod(whole) // 8), "its mask has another size")
    return _made(mil, nonzero_data.dtype, whole, load)


def _dense(numbers: Array, mask: Array) -> Array:
    result: Array = np.zeros(mask.shape, numbers.dtype)
    if np.count_nonzero(mask) != numbers.size:
        raise InvalidModel(f"a mask with {np.count_nonzero(mask)} ones for {numbers.size} numbers")
    result[mask != 0] = numbers.reshape(-1)
    return result


@op("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    mil: Mil, *, indices_mask: Const, indices_nonzero_data: Const, lut: Const, vector_axis: int | None = None
) -> list[Const]:
    """Expanded: numbers, and their mask, looked up where the mask has ones."""
    whole, axis = _vectors(mil, indices_mask.shape, lut, vector_axis)
    size = lut.shape[-1]

    def mask() -> Array:
        found: Array = np.repeat(indices_mask.numpy(), size, axis)
        return found

    def numbers() -> Array:
        dense = _looked_up(_dense(indices_nonzero_data.numpy(), indices_mask.numpy()), lut.numpy(), axis, whole)
        found: Array = dense[mask() != 0]
        return found

    count = size * math.prod(indices_nonzero_data.shape)
    return [_made(mil, UNSIGNED_1, whole, mask), _made(mil, lut.dtype, (count,), numbers, 1)]


@op("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    mil: Mil, *, data_mask: Const, nonzero_data: Const, scale: Const, offset: Const | None = None
) -> list[Const]:
    """Expanded: scaled and shifted where the mask has ones."""
    _divides(mil, data_mask.shape, scale.shape)
    mil.require(offset is None or offset.shape == scale.shape, "its offset is not of the shape of its scale")

    def numbers() -> Array:
        mask = data_mask.numpy()
        dense = _shift_scale(_dense(nonzero_data.numpy(), mask), scale, offset, data_mask.shape)
        found: Array = dense[mask != 0]
        return found

    return [
        _made(mil, UNSIGNED_1, data_mask.shape, data_mask.numpy),
        _made(mil, scale.dtype, nonzero_data.shape, numbers, 1),
    ]


# -- at run time -------------------------------------------------------------------------------------------------------


@op("quantize")
def quantize(
    mil: Mil,
    input: ir.Value,
    *,
    scale: Const,
    output_dtype: str,
    zero_point: Const | None = None,
    axis: int | None = None,
) -> ir.Value:
    """QuantizeLinear."""
    kind = onnx_type(by_name(output_dtype))
    step = _parameter(mil, scale, mil.dtype(input), "scale")
    if zero_point is None:
        zero = mil.builder.constant(np.zeros(scale.shape, kind.numpy()), "zero_point")
    else:
        zero = _parameter(mil, zero_point, kind, "zero_point")
    return mil.op("QuantizeLinear", input, step, zero, **_along(mil, input, scale, axis))


@op("dequantize")
def dequantize(
    mil: Mil, input: ir.Value, *, scale: Const, zero_point: Const | None = None, axis: int | None = None
) -> ir.Value:
    """DequantizeLinear."""
    step = _parameter(mil, scale, onnx_type(scale.dtype, mil.walker.upcast), "scale")
    zero = None if zero_point is None else _parameter(mil, zero_point, mil.dtype(input), "zero_point", scale.shape)
    return mil.op("DequantizeLinear", input, step, zero, **_along(mil, input, scale, axis))


def _parameter(mil: Mil, one: Const, kind: ir.DataType, name: str, shape: tuple[int, ...] | None = None) -> ir.Value:
    found = onnx_type(one.dtype, mil.walker.upcast)
    if found != kind and not (found.is_floating_point() and kind.is_floating_point()):
        raise Refusal(f"its {name} is of type {NAMES[one.dtype]}, for numbers of type {kind.name}")
    numbers: Array = one.numpy().astype(kind.numpy())
    return mil.builder.constant(numbers if shape is None else np.broadcast_to(numbers, shape), name)


def _along(mil: Mil, x: ir.Value, scale: Const, axis: int | None) -> dict[str, int]:
    if scale.shape == ():
        return {}
    mil.require(len(scale.shape) == 1 and axis is not None, f"a scale of shape {scale.shape}, and axis {axis}")
    return {"axis": mil.axis(axis or 0, mil.rank(x))}
