"""Matrices."""

from __future__ import annotations

import onnx_ir as ir

from exporters.cntk import layers
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import (
    arg_reduce,
    binary,
    log_softmax,
    matrix_times,
    plus,
    reduce,
    reshape,
    softmax,
    times,
    transpose,
)
from exporters.cntk.net import Tensor, Variable
from exporters.cntk.ops.table import OPS
from exporters.constants import floats
from hub.errors import Refusal

__all__: list[str] = []


@OPS("Gemm")
def gemm(
    emit: Emitter,
    a: ir.Value,
    b: ir.Value,
    c: ir.Value | None,
    *,
    alpha: float,
    beta: float,
    transA: int,
    transB: int,
) -> Tensor:
    """x W + b; the factors go into the weights."""
    source, kernel = emit.tensor(a), emit.constant(b)
    if source.at is None or transA or kernel is None:
        return _computed_gemm(emit, a, b, c, alpha, beta, transA, transB)
    if source.at != 0:
        raise Refusal("its first axis is not the batch")
    kernel = floats(kernel)
    if transB:
        kernel = kernel.transposed()
    if alpha != 1.0:
        kernel = kernel.viewed(lambda array: array * array.dtype.type(alpha), kernel.shape, f"times{alpha}")
    bias = emit.constant(c)
    if c is not None and (bias is None or bias.size != kernel.shape[1]):
        product = emit.like(source, layers.dense(emit, source.variable, kernel, None))
        (left, right), tensor = emit.matched([product, emit.tensor(c)])
        return tensor(plus(emit, left, right if beta == 1.0 else times(emit, right, beta)))
    if bias is not None:
        bias, columns = floats(bias), kernel.shape[1]
        if beta != 1.0:
            bias = bias.viewed(lambda array: array * array.dtype.type(beta), bias.shape, f"times{beta}")
        if bias.shape != (columns,):
            bias = bias.viewed(lambda array: array.reshape(columns), (columns,), "flat")
    return emit.like(source, layers.dense(emit, source.variable, kernel, bias))


def _computed_gemm(
    emit: Emitter,
    a: ir.Value,
    b: ir.Value,
    c: ir.Value | None,
    alpha: float,
    beta: float,
    trans_a: int,
    trans_b: int,
) -> Tensor:
    left, right = emit.tensor(a), emit.tensor(b)
    if left.at is not None or right.at is not None:
        raise Refusal("it works along the batch", "CNTK computes sample by sample")
    x = transpose(emit, left.variable, (1, 0)) if trans_a else left.variable
    y = transpose(emit, right.variable, (1, 0)) if trans_b else right.variable
    result = matrix_times(emit, x, y)
    result = result if alpha == 1.0 else times(emit, result, alpha)
    if c is not None:
        offset = emit.tensor(c).variable
        result = plus(emit, result, offset if beta == 1.0 else times(emit, offset, beta))
    return Tensor(result, None)


@OPS("MatMul")
def matmul(emit: Emitter, a: ir.Value, b: ir.Value) -> Tensor:
    """C.times; of tensors with more axes, a product that is broadcast and summed."""
    kernel, left = emit.constant(b), emit.tensor(a)
    if kernel is not None and len(kernel.shape) == 2 and left.at != left.rank - 1:
        if left.variable.rank:
            return emit.like(left, layers.dense(emit, left.variable, floats(kernel), None))
    right = emit.tensor(b)
    return _product(emit, left, right)


def _product(emit: Emitter, a: Tensor, b: Tensor) -> Tensor:
    """Matrices of two computed tensors, by the axes in front of them."""
    if a.rank < 2 or b.rank < 2:
        return _vectors(emit, a, b)
    places = {t.at - t.rank for t in (a, b) if t.at is not None}
    if len(places) > 1 or any(place > -3 for place in places):
        raise Refusal("it works along the batch", "CNTK computes sample by sample")
    back = places.pop() if places else None
    size = next((t.size for t in (a, b) if t.at is not None), "N")
    x, y = (_leading(emit, t, back) for t in (a, b))
    result = _multiplied(emit, x, y)
    return Tensor(result, None if back is None else result.rank + 1 + back, size)


def _leading(emit: Emitter, tensor: Tensor, back: int | None) -> Variable:
    """A tensor without the axis of size 1 that meets the batch of the other."""
    if back is None or tensor.at is not None or tensor.rank < -back:
        return tensor.variable
    axis = tensor.rank + back
    if tensor.shape[axis] != 1:
        raise Refusal("a matrix of its own for each sample of the batch")
    return reshape(emit, tensor.variable, [n for i, n in enumerate(tensor.shape) if i != axis])


def _multiplied(emit: Emitter, x: Variable, y: Variable) -> Variable:
    if y.rank == 2 and (x.rank == 2 or not y.batch):
        return matrix_times(emit, x, y)
    left = reshape(emit, x, (*x.shape, 1))
    right = reshape(emit, y, (*y.shape[:-2], 1, *y.shape[-2:]))
    summed = reduce(emit, times(emit, left, right), "Sum", [max(left.rank, right.rank) - 2])
    return reshape(emit, summed, (*summed.shape[:-2], summed.shape[-1]))


def _vectors(emit: Emitter, a: Tensor, b: Tensor) -> Tensor:
    """A product in which one side is a vector: of a matrix of one row or column."""
    if a.at is not None or b.at is not None:
        raise Refusal("a product with a vector along the batch")
    x = a.variable if a.rank > 1 else reshape(emit, a.variable, (1, *a.variable.shape))
    y = b.variable if b.rank > 1 else reshape(emit, b.variable, (*b.variable.shape, 1))
    result = _multiplied(emit, x, y)
    shape = list(result.shape)
    if b.rank == 1:
        shape.pop()
    if a.rank == 1:
        shape.pop(-1 if b.rank == 1 else -2)
    return Tensor(reshape(emit, result, shape), None)


@OPS("Softmax")
def softmax_(emit: Emitter, x: ir.Value, *, axis: int) -> Tensor:
    """C.softmax."""
    source = emit.tensor(x)
    return emit.like(source, softmax(emit, source.variable, emit.axis(source, axis)))


@OPS("LogSoftmax")
def log_softmax_(emit: Emitter, x: ir.Value, *, axis: int) -> Tensor:
    """C.log_softmax."""
    source = emit.tensor(x)
    return emit.like(source, log_softmax(emit, source.variable, emit.axis(source, axis)))


@OPS("Hardmax")
def hardmax(emit: Emitter, x: ir.Value, *, axis: int) -> Tensor:
    """1 at the first of the greatest: where its number is that of C.argmax."""
    from exporters.cntk.ops.indexing import counter

    source = emit.tensor(x)
    v, place = source.variable, emit.axis(source, axis)
    first = arg_reduce(emit, v, "Argmax", place)
    return emit.like(source, binary(emit, "Equal", counter(emit, v, place), first))
