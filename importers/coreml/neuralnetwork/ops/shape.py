"""Axes and sizes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer

__all__ = ["ranked"]


def _channels_last(net: Context, x: ir.Value) -> ir.Value:
    order = list(range(net.rank(x)))
    return net.op("Transpose", x, perm=[*order[:-3], order[-2], order[-1], order[-3]])


@layer("flatten")
def flatten(net: Context, x: ir.Value, *, mode: str) -> ir.Value:
    """Channels, height and width become channels."""
    net.at_least(x, 3)
    if mode == "CHANNEL_LAST":
        x = _channels_last(net, x)
    rank = net.rank(x)
    if rank == 4:
        return net.wide(net.op("Flatten", x, axis=1))
    return net.reshape(x, [*[0] * (rank - 3), -1, 1, 1])


@layer("reshape")
def reshape(net: Context, x: ir.Value, *, targetShape: Sequence[int], mode: str) -> ir.Value:
    """To [C, H, W], or to [sequence, C, H, W]."""
    target = [int(size) for size in targetShape]
    net.require(len(target) in (3, 4) and min(target) >= 1, f"its shape is {target}")
    rank = net.rank(x)
    if mode == "CHANNEL_LAST":
        net.at_least(x, 3)
        x = _channels_last(net, x)
        target = [*target[:-3], target[-2], target[-1], target[-3]]
    if rank == 5 and len(target) == 4:
        batch = net.shape(x)[1]
        if batch != 1:
            raise Refusal("it moves numbers between sequence and channels, with a batch that may be larger than 1")
        y = net.reshape(x, [target[0], 1, *target[1:]])
    elif len(target) == 4:
        y = net.reshape(x, [0, *target[1:]] if net.scope.rank == 4 else target)
    else:
        y = net.reshape(x, [*[0] * max(rank - 3, 0), *target])
    if mode == "CHANNEL_LAST":
        order = list(range(net.rank(y)))
        y = net.op("Transpose", y, perm=[*order[:-3], order[-1], order[-3], order[-2]])
    return y


@layer("permute")
def permute(net: Context, x: ir.Value, *, axis: Sequence[int]) -> ir.Value:
    """The axes [sequence, C, H, W] in another order."""
    order = [int(a) for a in axis]
    net.require(sorted(order) == [0, 1, 2, 3], f"its order is {order}")
    rank = net.rank(x)
    if rank == 5:
        places = [0, 2, 3, 4]
        perm = [places[order[0]], 1, *[places[a] for a in order[1:]]]
    elif rank == 4:
        perm = order
    else:
        net.require(rank == 3 and order[0] == 0, f"its input has {rank} axes")
        perm = [a - 1 for a in order[1:]]
    return x if perm == list(range(rank)) else net.op("Transpose", x, perm=perm)


@layer("transpose")
def transpose(net: Context, x: ir.Value, *, axes: Sequence[int]) -> ir.Value:
    rank = net.rank(x)
    order = [int(axis) % (1 << 64) for axis in axes]
    order = [axis - (1 << 64) + rank if axis >> 63 else axis for axis in order]
    net.require(sorted(order) == list(range(rank)), f"its order {order} is none of {rank} axes")
    return net.op("Transpose", x, perm=order)


@layer("concat")
def concat(net: Context, *inputs: ir.Value, sequenceConcat: bool) -> ir.Value:
    """Along the channels, or along the sequence, the first axis."""
    net.require(len(inputs) >= 1, "it has no input")
    net.at_least(inputs[0], 5 if sequenceConcat else 3)
    return net.op("Concat", *inputs, axis=0 if sequenceConcat else -3)


@layer("concatND")
def concat_nd(net: Context, *inputs: ir.Value, axis: int, interleave: bool) -> ir.Value:
    """One behind the other, or by turns."""
    net.require(len(inputs) >= 1, "it has no input")
    at = net.axis(inputs[0], axis)
    if not interleave:
        return net.op("Concat", *inputs, axis=at)
    stacked = net.op("Concat", *[net.unsqueeze(x, [at + 1]) for x in inputs], axis=at + 1)
    sizes = net.shape(inputs[0])
    known = [*[0] * at, -1]
    if None in sizes[at + 1 :]:
        raise Refusal("it interleaves inputs of sizes that are not known", "give sizes of the inputs with inputs=")
    return net.reshape(stacked, [*known, *[size for size in sizes[at + 1 :] if size is not None]])


@layer("stack")
def stack(net: Context, *inputs: ir.Value, axis: int) -> ir.Value:
    """Along a new axis."""
    net.require(len(inputs) >= 1, "it has no input")
    at = net.axis(inputs[0], axis, 1)
    return net.op("Concat", *[net.unsqueeze(x, [at]) for x in inputs], axis=at)


def _split(net: Context, x: ir.Value, axis: int, sizes: Sequence[int] | None, count: int) -> list[ir.Value]:
    net.require(len(net.message.output) == count, f"it has {len(net.message.output)} outputs, and {count} parts")
    if sizes is not None:
        return list(net.builder.ops("Split", x, net.ints(list(sizes), "sizes"), outputs=count, axis=axis))
    size = net.size(x, axis)
    net.require(0 < count <= size, f"{size} numbers are {count} parts")
    parts = [size // count + (i < size % count) for i in range(count)]
    return list(net.builder.ops("Split", x, net.ints(parts, "sizes"), outputs=count, axis=axis))


@layer("split")
def split(net: Context, x: ir.Value, *, nOutputs: int) -> list[ir.Value]:
    """The channels in equal parts."""
    net.at_least(x, 3)
    net.require(nOutputs > 0 and net.size(x, -3) % nOutputs == 0, f"it has no {nOutputs} equal parts")
    return _split(net, x, -3, None, nOutputs)


@layer("splitND")
def split_nd(net: Context, x: ir.Value, *, axis: int, numSplits: int, splitSizes: Sequence[int]) -> list[ir.Value]:
    """In parts of given sizes, or of almost the same size, the larger ones first."""
    at = net.axis(x, axis)
    if splitSizes:
        net.require(numSplits in (0, len(splitSizes)), f"it has {numSplits} parts and {len(splitSizes)} sizes")
        return _split(net, x, at, [int(size) for size in splitSizes], len(splitSizes))
    return _split(net, x, at, None, numSplits)


@layer("sequenceRepeat")
def sequence_repeat(net: Context, x: ir.Value, *, nRepetitions: int) -> ir.Value:
    """The sequence, the first axis, some times."""
    net.at_least(x, 5)
    net.require(nRepetitions >= 1, "it repeats nothing")
    return net.op("Tile", x, net.ints([nRepetitions, *[1] * (net.rank(x) - 1)], "repeats"))


@layer("reorganizeData")
def reorganize(net: Context, x: ir.Value, *, mode: str, blockSize: int) -> ir.Value:
    """Blocks of pixels become channels, and back."""
    net.require(blockSize >= 1, f"its blocks have the size {blockSize}")
    flat, back = net.as_rank(x, 4)
    if mode == "SPACE_TO_DEPTH":
        return back(net.op("SpaceToDepth", flat, blocksize=blockSize))
    return back(net.op("DepthToSpace", flat, blocksize=blockSize, mode="CRD" if mode == "PIXEL_SHUFFLE" else "DCR"))


@layer("getShape")
def get_shape(net: Context, x: ir.Value) -> ir.Value:
    return net.floats(net.op("Shape", x))


@layer("expandDims")
def expand_dims(net: Context, x: ir.Value, *, axes: Sequence[int]) -> ir.Value:
    net.require(len(axes) > 0, "it names no axes")
    return net.unsqueeze(x, [int(axis) for axis in axes])


@layer("squeeze")
def squeeze(net: Context, x: ir.Value, *, axes: Sequence[int], squeezeAll: bool) -> ir.Value:
    """A result without axes has one of size 1."""
    rank = net.rank(x)
    if squeezeAll:
        left = [size for size in net.shape(x) if size != 1]
        if len(left) <= 1:
            return net.reshape(x, [-1])
        if None in left:
            net.sizes(x)  # refuses
        chosen = [i for i, size in enumerate(net.shape(x)) if size == 1]
    else:
        chosen = [net.axis(x, a) for a in axes]
    if len(set(chosen)) == rank:
        return net.reshape(x, [1])
    return net.squeeze(x, sorted(set(chosen))) if chosen else net.op("Identity", x)


@layer("flattenTo2D")
def flatten_to_2d(net: Context, x: ir.Value, *, axis: int) -> ir.Value:
    rank = net.rank(x)
    net.require(-rank <= axis <= rank, f"axis {axis} of {rank}")
    return net.op("Flatten", x, axis=axis)


@layer("reshapeStatic")
def reshape_static(net: Context, x: ir.Value, *, targetShape: Sequence[int]) -> ir.Value:
    return net.reshape(x, _target(net, targetShape, -1))


@layer("rankPreservingReshape")
def rank_preserving_reshape(net: Context, x: ir.Value, *, targetShape: Sequence[int]) -> ir.Value:
    """0 keeps the size of the input."""
    net.require(len(targetShape) == net.rank(x), f"it has {len(targetShape)} sizes for {net.rank(x)} axes")
    return net.reshape(x, _target(net, targetShape, 0))


def _target(net: Context, sizes: Sequence[int], least: int) -> list[int]:
    target = [int(size) for size in sizes]
    positive = all(size > 0 or size == -1 or (size == 0 and least == 0) for size in target)
    net.require(positive and target.count(-1) <= 1 and len(target) > 0, f"its shape is {target}")
    return target


@layer("reshapeLike")
def reshape_like(net: Context, x: ir.Value, like: ir.Value) -> ir.Value:
    if None not in net.shape(like):
        return net.reshape(x, net.sizes(like))
    return net.op("Reshape", x, net.op("Shape", like))


@layer("reshapeDynamic")
def reshape_dynamic(net: Context, x: ir.Value, shape: ir.Value) -> ir.Value:
    y = net.op("Reshape", x, net.int64(shape))
    return ranked(net, y, shape)


def ranked(net: Context, y: ir.Value, shape: ir.Value) -> ir.Value:
    """The value, of which is known that it has as many axes as `shape` has numbers."""
    if y.shape is None and shape.shape is not None and len(shape.shape) == 1 and isinstance(shape.shape[0], int):
        y.shape = ir.Shape([None] * shape.shape[0])
    return y


@layer("tile")
def tile(net: Context, x: ir.Value, repeats: ir.Value | None = None, *, reps: Sequence[int]) -> ir.Value:
    """Fewer numbers than axes are those of the last ones."""
    rank = net.rank(x)
    if repeats is None:
        net.require(0 < len(reps) <= rank and min(reps) >= 1, f"its repetitions are {list(reps)} of {rank} axes")
        return net.op("Tile", x, net.ints([*[1] * (rank - len(reps)), *map(int, reps)], "repeats"))
    count = net.size(repeats, 0)
    net.require(count <= rank, f"it has {count} repetitions of {rank} axes")
    numbers = net.int64(repeats)
    if count < rank:
        numbers = net.op("Concat", net.ints([1] * (rank - count), "ones"), numbers, axis=0)
    return net.op("Tile", x, numbers)


def _expanded(net: Context, x: ir.Value, shape: ir.Value) -> ir.Value:
    return ranked(net, net.op("Expand", x, shape), shape)


@layer("broadcastToStatic")
def broadcast_to_static(net: Context, x: ir.Value, *, targetShape: Sequence[int]) -> ir.Value:
    return net.op("Expand", x, net.ints([int(size) for size in targetShape], "shape"))


@layer("broadcastToLike")
def broadcast_to_like(net: Context, x: ir.Value, like: ir.Value) -> ir.Value:
    return _expanded(net, x, net.op("Shape", like))


@layer("broadcastToDynamic")
def broadcast_to_dynamic(net: Context, x: ir.Value, shape: ir.Value) -> ir.Value:
    return _expanded(net, x, net.int64(shape))
