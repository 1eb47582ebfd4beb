"""Where numbers are, not what they are: shapes, slices, orders of axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import select, transpose
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob, Size
from exporters.caffe.ops.conv import crop
from exporters.caffe.ops.merge import spread
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import concat, cut, filled, power, reshape, slices, tile
from exporters.constants import Constant, elements
from hub.errors import Refusal


@OPS("Identity")
def identity(emit: Emitter, x: ir.Value) -> Blob:
    """Nothing."""
    return emit.blob(x)


@OPS("Cast", since=13)
def cast(emit: Emitter, x: ir.Value, *, round_mode: str | None = None, saturate: int, to: int) -> Blob:
    """Nothing between numbers that Caffe holds as float32; [|x| > 0] to truth values."""
    source, target = x.dtype, ir.DataType(to)
    if source == target or (target in _HELD and (source == ir.DataType.BOOL or source in _INTEGERS)):
        return emit.blob(x)
    if target == ir.DataType.BOOL:
        magnitude = emit.layer("AbsVal", [emit.blob(x)], emit.shape(x), "magnitude")
        return emit.layer("Threshold", [magnitude], magnitude.shape)
    raise Refusal(f"a cast from {source.name if source else '?'} to {target.name}")


_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64})
_HELD = _INTEGERS | {ir.DataType.FLOAT}


@OPS("Reshape", since=14)
def reshape_(emit: Emitter, x: ir.Value, shape: ir.Value, *, allowzero: int) -> Blob:
    """Reshape, or Flatten where it is one."""
    return reshape(emit, emit.blob(x), emit.result(), "")


@OPS("Flatten")
def flatten(emit: Emitter, x: ir.Value, *, axis: int) -> Blob:
    """Flatten from axis 1 on, else Reshape."""
    return reshape(emit, emit.blob(x), emit.result(), "")


@OPS("Squeeze", since=13)
def squeeze(emit: Emitter, x: ir.Value, axes: ir.Value | None) -> Blob:
    """Reshape."""
    return reshape(emit, emit.blob(x), emit.result(), "")


@OPS("Unsqueeze", since=13)
def unsqueeze(emit: Emitter, x: ir.Value, axes: ir.Value) -> Blob:
    """Reshape."""
    return reshape(emit, emit.blob(x), emit.result(), "")


@OPS("Expand")
def expand(emit: Emitter, x: ir.Value, shape: ir.Value) -> Blob:
    """Tile, axis by axis."""
    return spread(emit, emit.blob(x), emit.result())


@OPS("Tile")
def tile_(emit: Emitter, x: ir.Value, repeats: ir.Value) -> Blob:
    """Tile, axis by axis."""
    result = emit.blob(x)
    for axis, count in enumerate(emit.ints(repeats, "the number of repeats")):
        result = tile(emit, result, axis, count, f"tile_{axis}")
    return result


@OPS("Transpose")
def transpose_(emit: Emitter, x: ir.Value, *, perm: list[int] | None) -> Blob:
    """Im2col, which exchanges neighbouring axes by copying; Reshape where only axes of size 1 move."""
    source = emit.blob(x)
    return transpose(emit, source, perm or tuple(reversed(range(source.rank))), "")


@OPS("Concat")
def concat_(emit: Emitter, *xs: ir.Value, axis: int) -> Blob:
    """Concat."""
    result = emit.result()
    return concat(emit, [emit.blob(x) for x in xs], axis % len(result))


@OPS("Split", since=18, outputs=1 << 30)
def split(emit: Emitter, x: ir.Value, sizes: ir.Value | None, *, axis: int, num_outputs: int | None) -> list[Blob]:
    """Slice."""
    assert emit.node is not None
    source = emit.blob(x)
    axis %= source.rank
    parts = [emit.fixed(emit.shape(out), axis)[0] for out in emit.node.outputs]
    if 0 in parts:
        raise Refusal("a part without elements")
    points = list(np.cumsum(parts)[:-1])
    return slices(emit, source, axis, [int(p) for p in points])


@OPS("Slice", since=10)
def slice_(
    emit: Emitter, x: ir.Value, starts: ir.Value, ends: ir.Value, axes: ir.Value | None, steps: ir.Value | None
) -> Blob:
    """Slice; with a step a convolution by 1 with that stride, or Slice and Concat, or a 0/1 matrix."""
    source = emit.blob(x)
    begins, stops = emit.ints(starts, "where it starts"), emit.ints(ends, "where it ends")
    which = emit.ints(axes, "its axes") if axes is not None else list(range(len(begins)))
    strides = emit.ints(steps, "its steps") if steps is not None else [1] * len(begins)
    for number, (axis, begin, stop, stride) in enumerate(zip(which, begins, stops, strides, strict=True)):
        axis %= source.rank
        size = source.shape[axis]
        if not isinstance(size, int) and begin == 0 and stride == 1 and stop >= 1 << 30:
            continue
        size = emit.fixed(source.shape, axis)[0] if axis else emit.fixed(source.shape[:1], 0)[0]
        role = None if number == len(which) - 1 else f"slice_{number}"
        source = select(emit, source, axis, range(size)[_clipped(begin, stop, stride, size)], role)
    return source


def _clipped(begin: int, stop: int, stride: int, size: int) -> slice:
    """ONNX's bounds as Python's: a negative step may end before the first element."""
    if stride > 0:
        return slice(begin, stop, stride)
    begin = min(begin + size if begin < 0 else begin, size - 1)
    stop = stop + size if stop < 0 else stop
    return slice(begin, stop if stop >= 0 else None, stride) if begin >= 0 else slice(0, 0)


@OPS("Gather")
def gather(emit: Emitter, data: ir.Value, indices: ir.Value, *, axis: int) -> Blob:
    """Constant indices: Slice and Concat, or a 0/1 matrix. A constant table and computed indices: Embed."""
    chosen, table = emit.array(indices), emit.constant(data)
    if chosen is not None:
        source = emit.blob(data)
        axis %= source.rank
        size = emit.fixed(source.shape, axis)[0] if axis else emit.fixed(source.shape[:1], 0)[0]
        flat = [int(i) + size if i < 0 else int(i) for i in chosen.reshape(-1)]
        if any(not 0 <= i < size for i in flat):
            raise Refusal("an index outside of its axis")
        return reshape(emit, select(emit, source, axis, flat, ""), emit.result(), "shape")
    if table is None or axis % len(table.shape) != 0:
        raise Refusal("indices that are computed, of something that is computed")
    weight = emit.weight(data, "its table")
    rows, width = weight.shape[0], elements(weight.shape[1:])
    if rows > 1 << 24:
        raise Refusal("indices above 2 ** 24, which float32 does not hold")
    flat_table = weight.viewed(lambda a: a.reshape(rows, width), (rows, width), "rows")
    source = emit.blob(indices)
    emit.note("Caffe does not check the indices of a table: they must be 0 to its last row")
    parameters = {"num_output": width, "input_dim": rows, "bias_term": False}
    found = emit.layer("Embed", [source], (*source.shape, width), "", [flat_table], embed_param=parameters)
    return reshape(emit, found, emit.result(), "shape")


@OPS("DepthToSpace")
def depth_to_space(emit: Emitter, x: ir.Value, *, blocksize: int, mode: str) -> Blob:
    """Deconvolution with kernel and stride `blocksize` and one 1 for every channel; grouped in CRD mode."""
    source = emit.blob(x)
    channels = emit.fixed(source.shape)[0]
    out, b = channels // blocksize**2, blocksize
    result = emit.result()
    parameters = {"num_output": out, "bias_term": False, "kernel_size": [b], "stride": [b]}
    if mode == "CRD":  # (C, b, b): the b^2 channels of one output are neighbours
        kernel = np.tile(np.eye(b * b, dtype=np.float32).reshape(b * b, 1, b, b), (out, 1, 1, 1))
        parameters |= {"group": out}
    else:  # (b, b, C)
        kernel = np.einsum("tij,co->tcoij", np.eye(b * b).reshape(b * b, b, b), np.eye(out))
        kernel = kernel.reshape(channels, out, b, b).astype(np.float32)
    return emit.layer("Deconvolution", [source], result, None, [Constant.of(kernel)], convolution_param=parameters)


@OPS("SpaceToDepth")
def space_to_depth(emit: Emitter, x: ir.Value, *, blocksize: int, mode: str = "DCR") -> Blob:
    """Convolution with kernel and stride `blocksize` and one 1 for every output channel."""
    source = emit.blob(x)
    channels, b = emit.fixed(source.shape)[0], blocksize
    order = "tcoij" if mode == "DCR" else "ctoij"
    kernel = np.einsum(f"tij,co->{order}", np.eye(b * b).reshape(b * b, b, b), np.eye(channels))
    kernel = kernel.reshape(channels * b * b, channels, b, b).astype(np.float32)
    parameters = {"num_output": channels * b * b, "bias_term": False, "kernel_size": [b], "stride": [b]}
    return emit.layer("Convolution", [source], emit.result(), None, [Constant.of(kernel)], convolution_param=parameters)


@OPS("Pad", since=11)
def pad(
    emit: Emitter, x: ir.Value, pads: ir.Value, value: ir.Value | None, axes: ir.Value | None, *, mode: str
) -> Blob:
    """Zeros: a convolution by 1 with pads; another constant: of x - v, plus v; other modes: Slice and Concat."""
    source = emit.blob(x)
    widths = emit.ints(pads, "its padding")
    which = [a % source.rank for a in (emit.ints(axes, "its axes") if axes is not None else range(source.rank))]
    ends = dict(zip(which, zip(widths[: len(which)], widths[len(which) :], strict=True), strict=True))
    for axis, (begin, end) in sorted(ends.items()):
        if begin < 0 or end < 0:  # what is cut off goes first
            size = emit.fixed(source.shape[: axis + 1], axis)[0]
            source = cut(emit, source, axis, max(0, -begin), size - max(0, -end), f"cut_{axis}")
    ends = {axis: (max(0, b), max(0, e)) for axis, (b, e) in ends.items() if b > 0 or e > 0}
    if not ends:
        return source
    if mode != "constant":
        for axis, (begin, end) in sorted(ends.items()):
            size = emit.fixed(source.shape, axis)[0] if axis else emit.fixed(source.shape[:1], 0)[0]
            rows = np.pad(np.arange(size), (begin, end), mode=mode)  # type: ignore[call-overload]
            source = select(emit, source, axis, [int(i) for i in rows], f"{mode}_{axis}")
        return source
    fill = 0.0 if value is None else emit.scalar(value, "its value")
    return _pad_constant(emit, source, ends, fill)


def _pad_constant(emit: Emitter, x: Blob, ends: dict[int, tuple[int, int]], fill: float) -> Blob:
    spatial = x.rank in (3, 4, 5) and all(axis >= 2 for axis in ends)
    if spatial and abs(fill) <= 16:  # a larger one would round what it is taken from and put back to
        shifted = power(emit, x, shift=-fill, role="shifted") if fill else x
        result = _pad_zeros(emit, shifted, ends, "zeros" if fill else "")
        return power(emit, result, shift=fill) if fill else result
    for axis, (begin, end) in sorted(ends.items()):
        size = emit.fixed(x.shape[axis : axis + 1], 0)[0]

        def block(width: int, name: str, x: Blob = x, axis: int = axis, size: int = size) -> list[Blob]:
            if not width:
                return []
            like = select(emit, x, axis, [i % size for i in range(width)], f"{name}_like_{axis}")
            return [filled(emit, like, fill, f"{name}_{axis}")]

        x = concat(emit, [*block(begin, "before"), x, *block(end, "behind")], axis, f"padded_{axis}")
    return x


def _pad_zeros(emit: Emitter, x: Blob, ends: dict[int, tuple[int, int]], role: str) -> Blob:
    """A convolution by 1, channel by channel, padded by the larger end; then what is too much is cut off."""
    axes = range(2, x.rank)
    pads = [max(ends.get(axis, (0, 0))) for axis in axes]
    sizes = emit.fixed(x.shape, 2)
    channels = emit.fixed(x.shape)[0]
    parameters = {"num_output": channels, "bias_term": False, "kernel_size": [1], "group": channels, "pad": pads}
    if len(set(pads)) == 1:
        parameters["pad"] = pads[:1]
    ones = Constant.of(np.ones((channels, 1, *[1] * len(pads)), np.float32))
    full = [n + 2 * p for n, p in zip(sizes, pads, strict=True)]
    shape: tuple[Size, ...] = (*x.shape[:2], *full)
    result = emit.layer("Convolution", [x], shape, role, [ones], convolution_param=parameters)
    starts = [p - ends.get(axis, (0, 0))[0] for p, axis in zip(pads, axes, strict=True)]
    outputs = [n + sum(ends.get(axis, (0, 0))) for n, axis in zip(sizes, axes, strict=True)]
    return crop(emit, result, starts, outputs)
