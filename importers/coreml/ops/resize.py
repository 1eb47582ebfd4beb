"""Images in other sizes.

Core ML says where on the grid 0, 1, ..., size - 1 each new pixel is taken from. For as many of these grids as ONNX has,
it is Resize; a grid that ONNX does not have is a product with a matrix, and what is nearest on a grid with steps that
are no integers is Gather, since ONNX Runtime computes the places in float32.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import OPEN, Mil, Size
from importers.coreml.table import op

__all__ = ["GRIDS", "grid"]

GRIDS = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")

RESIZE = {"DEFAULT": "asymmetric", "STRICT_ALIGN_CORNERS": "align_corners", "ALIGN_CORNERS": "align_corners",
          "UNALIGN_CORNERS": "half_pixel"}  # fmt: skip


def grid(mode: str, size: int, count: int) -> npt.NDArray[np.float64]:
    """Where `count` pixels are taken from, of `size`."""
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0
        places = i * ((size - 1) / (count - 1)) if count > 1 else np.full(count, alone)
    elif mode == "DEFAULT":
        places = i * size / count
    elif mode == "OFFSET_CORNERS":
        places = (i + 0.5) * max(1, size - 1) / count
    else:
        places = (i + 0.5) * size / count - 0.5
    return np.clip(places, 0, size - 1)


def _linear(mil: Mil, x: ir.Value, sizes: list[Size], mode: str) -> ir.Value:
    """The last two axes, linearly between pixels."""
    old = [mil.size(x, axis) for axis in (-2, -1)]
    known = all(isinstance(size, int) for size in (*old, *sizes))
    more = all(isinstance(size, int) and size > 1 for size in sizes)
    if mode in RESIZE and (more or mode != "ALIGN_CORNERS"):  # a single pixel is the first one in ONNX
        return _resize(mil, x, sizes, "linear", RESIZE[mode])
    if not known:
        raise Refusal(f"sizes are open, and its grid {mode} is not one of ONNX", OPEN)
    rows, columns = (
        _matrix(mode, int(before), int(after))
        for before, after in zip(old, sizes, strict=True)
        if isinstance(before, int) and isinstance(after, int)
    )
    y = mil.op("MatMul", mil.array(rows, x, "rows"), x)
    return mil.op("MatMul", y, mil.array(columns.T, x, "columns"))


def _matrix(mode: str, size: int, count: int) -> npt.NDArray[np.float64]:
    if size * count > 1 << 24:
        raise Refusal(f"a grid {mode} from {size} to {count} pixels, which ONNX does not have")
    places = grid(mode, size, count)
    low = np.floor(places).astype(int)
    part = places - low
    matrix = np.zeros((count, size))
    matrix[np.arange(count), low] += 1 - part
    matrix[np.arange(count), np.minimum(low + 1, size - 1)] += part
    return matrix


def _resize(mil: Mil, x: ir.Value, sizes: list[Size], mode: str, transformation: str) -> ir.Value:
    """Resize of an image with four axes, which others are brought to."""
    rank = mil.rank(x)
    outer = [mil.size(x, axis) for axis in range(rank - 2)]
    old = [mil.size(x, axis) for axis in (rank - 2, rank - 1)]
    y = x
    if rank != 4:
        channels: Size = outer[-1] if outer else 1
        batch = mil.product(outer[:-1]) if len(outer) > 1 else 1
        y = mil.reshape(x, [batch, channels, *old])
        front = [batch, channels]
    else:
        front = outer
    nearest = "floor" if mode == "nearest" else None
    target = mil.shape_of([*front, *sizes])
    y = mil.op(
        "Resize",
        y,
        None,
        None,
        target,
        mode=mode,
        coordinate_transformation_mode=transformation,
        nearest_mode=nearest,
    )
    return y if rank == 4 else mil.reshape(y, [*outer, *sizes])


def _nearest(mil: Mil, x: ir.Value, sizes: list[Size], centers: bool) -> ir.Value:
    """The last two axes, the nearest pixel: floor(i * before / after), or with `centers` floor((i + 0.5) * ...)."""
    rank = mil.rank(x)
    old = [mil.size(x, axis) for axis in (rank - 2, rank - 1)]
    known = [(a, b) for a, b in zip(old, sizes, strict=True) if isinstance(a, int) and isinstance(b, int)]
    if len(known) == 2 and all(b % a == 0 for a, b in known):
        return _resize(mil, x, sizes, "nearest", "asymmetric")  # in whole steps both are the same
    for axis, before, after in zip((rank - 2, rank - 1), old, sizes, strict=True):
        if isinstance(before, int) and isinstance(after, int):
            mil.require(0 < after < 1 << 24, f"a size of {after}")
            i = np.arange(after)
            exact = (2 * i + 1) * before // (2 * after) if centers else i * before // after
            places = mil.builder.constant(exact, "places")
        else:
            places = _places(mil, before, after, centers)
        x = mil.op("Gather", x, places, axis=axis)
    return x


def _places(mil: Mil, before: Size, after: Size, centers: bool) -> ir.Value:
    """The same places, computed in integers."""
    zero, one = (mil.builder.constant(np.array(n, np.int64), "number") for n in (0, 1))
    old, new = (mil.ints([size], "size") if isinstance(size, int) else size for size in (before, after))
    places = mil.op("Range", zero, mil.squeeze(new, 0), one)
    if centers:
        two = mil.ints([2], "two")
        places, new = mil.op("Add", mil.op("Mul", places, two), mil.ints([1], "one")), mil.op("Mul", new, two)
    return mil.op("Div", mil.op("Mul", places, old), new)


def _scaled(mil: Mil, x: ir.Value, height: float, width: float) -> list[Size]:
    """floor(size * factor) for the last two axes."""
    found: list[Size] = []
    for axis, factor in ((mil.rank(x) - 2, height), (mil.rank(x) - 1, width)):
        mil.require(math.isfinite(factor) and 0 < factor < 1 << 24, f"a factor of {factor}")
        size = mil.size(x, axis)
        if isinstance(size, int):
            found.append(math.floor(size * factor))
        elif factor == int(factor):
            found.append(mil.times(size, int(factor)))
        else:
            product = mil.op(
                "Mul", mil.cast(size, ir.DataType.DOUBLE), mil.builder.constant(np.array([factor]), "factor")
            )
            found.append(mil.cast(mil.op("Floor", product), ir.DataType.INT64))
    return found


@op("upsample_nearest_neighbor")
def upsample_nearest_neighbor(
    mil: Mil, x: ir.Value, *, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0
) -> ir.Value:
    """Resize, nearest; Gather where a factor is no integer."""
    return _nearest(mil, x, _scaled(mil, x, scale_factor_height, scale_factor_width), False)


@op("resize_nearest_neighbor")
def resize_nearest_neighbor(mil: Mil, x: ir.Value, *, target_size_height: int, target_size_width: int) -> ir.Value:
    """Resize, nearest; Gather, from the centers of pixels, where a size is no multiple."""
    return _nearest(mil, x, [target_size_height, target_size_width], True)


@op("upsample_bilinear")
def upsample_bilinear(
    mil: Mil,
    x: ir.Value,
    *,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> ir.Value:
    """Resize, linear."""
    if half_pixel_centers is None:
        half_pixel_centers = not align_corners
    if align_corners and half_pixel_centers:
        raise Refusal("it aligns corners and has half pixel centers, both")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel_centers else "DEFAULT"
    return _linear(mil, x, _scaled(mil, x, scale_factor_height, scale_factor_width), mode)


@op("resize_bilinear")
def resize_bilinear(
    mil: Mil,
    x: ir.Value,
    *,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> ir.Value:
    """Resize, linear; products with matrices for a grid that ONNX does not have."""
    return _linear(mil, x, [target_size_height, target_size_width], mil.one_of(sampling_mode, *GRIDS))


@op("resize")
def resize(
    mil: Mil,
    x: ir.Value,
    shape: ir.Value,
    *,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> ir.Value:
    """Resize of one or two axes; the nearest pixel on the default grid alone, from the centers of pixels."""
    mil.one_of(interpolation_mode, "LINEAR", "NEAREST_NEIGHBOR")
    mil.one_of(sampling_mode, *GRIDS)
    if resized_dims not in (1, 2):
        raise Refusal(f"it resizes {resized_dims} axes")
    rank = mil.rank(x)
    (count,) = mil.fixed(shape)
    mil.require(resized_dims <= count <= rank and resized_dims <= rank, f"a shape of {count} sizes for {rank} axes")
    if rank < 2:
        raise Refusal("its input has one axis")
    sizes: list[Size] = [mil.size(x, rank - 2), mil.size(x, rank - 1)]
    known = mil.known(shape)
    for axis in range(2 - resized_dims, 2):
        place = count - 2 + axis
        if known is not None:
            sizes[axis] = int(known.reshape(-1)[place]) or sizes[axis]
        else:
            wanted = mil.slice(mil.int64(shape), 0, place, place + 1)
            old = sizes[axis]
            own = mil.ints([old], "size") if isinstance(old, int) else old
            sizes[axis] = mil.op("Where", mil.op("Equal", wanted, mil.ints([0], "zero")), own, wanted)
    if interpolation_mode == "LINEAR":
        return _linear(mil, x, sizes, sampling_mode)
    if sampling_mode != "DEFAULT":
        raise Refusal(f"what the nearest pixel is on the grid {sampling_mode} is not documented")
    return _nearest(mil, x, sizes, True)
