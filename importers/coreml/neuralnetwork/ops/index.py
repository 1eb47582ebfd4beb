"""Numbers by their places: gather, scatter, the largest, sorting."""

from __future__ import annotations

import onnx_ir as ir

from importers.coreml.neuralnetwork.layers import Context, layer

__all__: list[str] = []

REDUCTIONS = {
    "SCATTER_UPDATE": None, "SCATTER_ADD": "add", "SCATTER_SUB": "add", "SCATTER_MUL": "mul", "SCATTER_DIV": "mul",
    "SCATTER_MAX": "max", "SCATTER_MIN": "min",
}  # fmt: skip


def _updates(net: Context, mode: str, updates: ir.Value) -> ir.Value:
    """What is added or multiplied, where the mode subtracts or divides."""
    if mode == "SCATTER_SUB":
        return net.op("Neg", updates)
    return net.op("Reciprocal", updates) if mode == "SCATTER_DIV" else updates


@layer("gather")
def gather(net: Context, x: ir.Value, indices: ir.Value, *, axis: int) -> ir.Value:
    return net.op("Gather", x, net.int64(indices), axis=net.axis(x, axis))


@layer("gatherND")
def gather_nd(net: Context, x: ir.Value, indices: ir.Value) -> ir.Value:
    return net.op("GatherND", x, net.int64(indices))


@layer("gatherAlongAxis")
def gather_along_axis(net: Context, x: ir.Value, indices: ir.Value, *, axis: int) -> ir.Value:
    return net.op("GatherElements", x, net.int64(indices), axis=net.axis(x, axis))


@layer("scatter")
def scatter(net: Context, x: ir.Value, indices: ir.Value, updates: ir.Value, *, axis: int, mode: str) -> ir.Value:
    """Slices along an axis: those axes of the updates that are the indices' come first."""
    rank, count, at = net.rank(x), net.rank(indices), net.axis(x, axis)
    net.require(net.rank(updates) == rank - 1 + count, f"its updates have {net.rank(updates)} axes")
    to_front = [at, *[i for i in range(rank) if i != at]]
    own = [*range(at, at + count), *range(at), *range(at + count, rank - 1 + count)]
    front = x if at == 0 else net.op("Transpose", x, perm=to_front)
    changes = updates if at == 0 else net.op("Transpose", updates, perm=own)
    places = net.unsqueeze(net.int64(indices), [-1])
    y = net.op("ScatterND", front, places, _updates(net, mode, changes), reduction=REDUCTIONS[mode])
    back = [to_front.index(i) for i in range(rank)]
    return y if at == 0 else net.op("Transpose", y, perm=back)


@layer("scatterND")
def scatter_nd(net: Context, x: ir.Value, indices: ir.Value, updates: ir.Value, *, mode: str) -> ir.Value:
    return net.op("ScatterND", x, net.int64(indices), _updates(net, mode, updates), reduction=REDUCTIONS[mode])


@layer("scatterAlongAxis")
def scatter_along_axis(
    net: Context, x: ir.Value, indices: ir.Value, updates: ir.Value, *, axis: int, mode: str
) -> ir.Value:
    return net.op(
        "ScatterElements",
        x,
        net.int64(indices),
        _updates(net, mode, updates),
        axis=net.axis(x, axis),
        reduction=REDUCTIONS[mode],
    )


@layer("topK")
def top_k(
    net: Context, x: ir.Value, count: ir.Value | None = None, *, axis: int, K: int, useBottomK: bool
) -> list[ir.Value]:
    """Values and places of the largest or smallest; how many may be a second input."""
    at = net.axis(x, axis)
    number = net.ints([K], "count") if count is None else net.reshape(net.int64(count), [1])
    net.require(count is not None or K >= 1, "it takes none")
    values, places = net.builder.ops("TopK", x, number, outputs=2, axis=at, largest=0 if useBottomK else None)
    return [values, net.floats(places)]


@layer("argSort")
def sorted_places(net: Context, x: ir.Value, *, axis: int, descending: bool) -> ir.Value:
    at = net.axis(x, axis)
    count = net.op("Shape", x, start=at, end=at + 1)
    _, places = net.builder.ops("TopK", x, count, outputs=2, axis=at, largest=None if descending else 0)
    return net.floats(places)


@layer("oneHot")
def one_hot(
    net: Context,
    x: ir.Value,
    size: ir.Value | None = None,
    *,
    oneHotVectorSize: int,
    axis: int,
    onValue: float,
    offValue: float,
) -> ir.Value:
    """How many there are may be a second input."""
    depth = net.ints([oneHotVectorSize], "depth") if size is None else net.reshape(net.int64(size), [1])
    values = net.number([offValue, onValue], "values")
    return net.op("OneHot", net.int64(x), depth, values, axis=net.axis(x, axis, 1))


@layer("whereNonZero")
def where_nonzero(net: Context, x: ir.Value) -> ir.Value:
    """The places, one a row."""
    return net.floats(net.op("Transpose", net.op("NonZero", x), perm=[1, 0]))


@layer("reverse")
def reverse(net: Context, x: ir.Value, *, reverseDim: list[bool]) -> ir.Value:
    net.require(len(reverseDim) == net.rank(x), f"it has {len(reverseDim)} flags for {net.rank(x)} axes")
    axes = [axis for axis, flag in enumerate(reverseDim) if flag]
    if not axes:
        return net.op("Identity", x)
    ends = net.ints([-(1 << 62)] * len(axes), "ends")
    return net.op("Slice", x, net.ints([-1] * len(axes), "starts"), ends, net.ints(axes), net.ints([-1] * len(axes)))


@layer("reverseSeq")
def reverse_sequence(net: Context, x: ir.Value, lengths: ir.Value, *, batchAxis: int, sequenceAxis: int) -> ir.Value:
    """ReverseSequence of ONNX has its two axes first."""
    batch, time, rank = net.axis(x, batchAxis), net.axis(x, sequenceAxis), net.rank(x)
    net.require(batch != time, "the axes of batch and sequence are the same")
    order = [time, batch, *[i for i in range(rank) if i not in (batch, time)]]
    counts = net.op("Max", net.int64(lengths), net.ints(1, "one"))  # 0 and 1 reverse nothing, and ONNX wants 1
    y = net.op("ReverseSequence", net.op("Transpose", x, perm=order), counts, batch_axis=1, time_axis=0)
    return net.op("Transpose", y, perm=[order.index(i) for i in range(rank)])


@layer("matrixBandPart")
def band_part(net: Context, x: ir.Value, *, numLower: int, numUpper: int) -> ir.Value:
    """A negative number keeps all on that side."""
    net.at_least(x, 2)
    if numLower >= 0:
        x = net.op("Trilu", x, net.ints(-numLower, "k"), upper=1)
    return net.op("Trilu", x, net.ints(numUpper, "k"), upper=0) if numUpper >= 0 else net.op("Identity", x)


@layer("upperTriangular", "lowerTriangular")
def triangular(net: Context, x: ir.Value, *, k: int) -> ir.Value:
    net.at_least(x, 2)
    return net.op("Trilu", x, net.ints(k, "k"), upper=1 if net.kind == "upperTriangular" else 0)
