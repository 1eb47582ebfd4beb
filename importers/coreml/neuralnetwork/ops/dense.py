"""Products with matrices, and embeddings."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.weights import Array

__all__: list[str] = []


def _transposed(matrix: Array) -> Array:
    return matrix.T


@layer("innerProduct")
def inner_product(
    net: Context,
    x: ir.Value,
    *,
    inputChannels: int,
    outputChannels: int,
    hasBias: bool,
    weights: Any,
    bias: Any,
    int8DynamicQuantize: bool,
) -> ir.Value:
    """Over the last axis; over the last three, which stay, if there are four or five axes."""
    net.require(inputChannels > 0 and outputChannels > 0, "it has no channels")
    net.require(weights is not None and (bias is not None or not hasBias), "weights of it are missing")
    if int8DynamicQuantize:
        net.scope.warn("inputs that Core ML rounds to 8 bits (int8DynamicQuantize) are not rounded")
    rank = net.rank(x)
    last = net.shape(x)[-3:] if rank >= 4 else net.shape(x)[-1:]
    product = None if None in last else math.prod(size for size in last if size is not None)
    net.require(product in (None, inputChannels), f"it has {inputChannels} inputs, and is given {product}")
    vector = net.weight(bias, (outputChannels,), "bias") if hasBias else None
    if rank in (2, 4):
        flat = x if rank == 2 else net.narrow(x) or net.op("Flatten", x, axis=1)
        matrix = net.weight(weights, (outputChannels, inputChannels), "weight")
        y = net.op("Gemm", flat, matrix, vector, transB=1)
        return net.wide(y) if rank == 4 else y
    matrix = net.weight(weights, (outputChannels, inputChannels), "weight", _transposed)
    if rank == 5:
        x = net.reshape(x, [0, 0, inputChannels])
    y = net.op("MatMul", x, matrix)
    y = y if vector is None else net.op("Add", y, vector)
    return net.unsqueeze(y, [3, 4]) if rank == 5 else y


@layer("batchedMatmul")
def matmul(
    net: Context,
    a: ir.Value,
    b: ir.Value | None = None,
    *,
    transposeA: bool,
    transposeB: bool,
    weightMatrixFirstDimension: int,
    weightMatrixSecondDimension: int,
    hasBias: bool,
    weights: Any,
    bias: Any,
    int8DynamicQuantize: bool,
) -> ir.Value:
    """Of two inputs, or of one and of weights. A vector is a row as the first one, a column as the second one."""
    if b is None:
        sizes = (weightMatrixFirstDimension, weightMatrixSecondDimension)
        net.require(min(sizes) > 0 and weights is not None, "it has no weights")
        net.require(net.shape(a)[-1] in (None, sizes[0]), f"it has {sizes[0]} inputs, and is given {net.shape(a)[-1]}")
        net.require(not (transposeA or transposeB), "it transposes, and has weights of its own")
        if int8DynamicQuantize:
            net.scope.warn("inputs that Core ML rounds to 8 bits (int8DynamicQuantize) are not rounded")
        y = net.op("MatMul", a, net.weight(weights, sizes[::-1], "weight", _transposed))
        if hasBias:
            net.require(bias is not None, "it has no bias")
            y = net.op("Add", y, net.weight(bias, (sizes[1],), "bias"))
        return y
    if net.rank(a) == 1:
        a = net.unsqueeze(a, [0])
    elif transposeA:
        a = _last_two_swapped(net, a)
    if net.rank(b) == 1:
        b = net.unsqueeze(b, [1])
    elif transposeB:
        b = _last_two_swapped(net, b)
    return net.op("MatMul", a, b)


def _last_two_swapped(net: Context, x: ir.Value) -> ir.Value:
    order = list(range(net.rank(x)))
    order[-2:] = order[:-3:-1]
    return net.op("Transpose", x, perm=order)


@layer("embedding")
def embedding(
    net: Context, x: ir.Value, *, inputDim: int, outputChannels: int, hasBias: bool, weights: Any, bias: Any
) -> ir.Value:
    """Numbers of rows become the rows, as channels; behind a first axis, or two of five."""
    net.require(inputDim > 0 and outputChannels > 0 and weights is not None, "it has no weights")
    rank = net.rank(x)
    ones = net.shape(x)[2 if rank == 5 else 1 :]
    net.require(all(size in (None, 1) for size in ones), f"its input has the shape {net.shape(x)}, numbers of rows")
    table = net.weight(weights, (outputChannels, inputDim), "weight", _transposed)
    rows = net.reshape(net.int64(x), [0, -1] if rank == 5 else [-1])
    y = net.op("Gather", table, rows, axis=0)
    if hasBias:
        net.require(bias is not None, "it has no bias")
        y = net.op("Add", y, net.weight(bias, (outputChannels,), "bias"))
    new = list(range(net.rank(y), rank))
    return net.unsqueeze(y, new) if new else y


@layer("embeddingND")
def embedding_nd(
    net: Context, x: ir.Value, *, vocabSize: int, embeddingSize: int, hasBias: bool, weights: Any, bias: Any
) -> ir.Value:
    """The last axis, of size 1, becomes the row."""
    net.require(vocabSize > 0 and embeddingSize > 0 and weights is not None, "it has no weights")
    net.require(net.rank(x) >= 2 and net.shape(x)[-1] in (None, 1), "the last axis of its input is not of size 1")
    table = net.weight(weights, (embeddingSize, vocabSize), "weight", _transposed)
    y = net.op("Gather", table, net.squeeze(net.int64(x), [-1]), axis=0)
    if hasBias:
        net.require(bias is not None, "it has no bias")
        y = net.op("Add", y, net.weight(bias, (embeddingSize,), "bias"))
    return y
