"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import along, transpose
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.merge import operand, spread, total
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import merged, power, reshape, scale, tile
from exporters.constants import Constant
from hub.canonical import layer_of


def inner_product(
    emit: Emitter, x: Blob, weight: Constant, bias: Constant | None, axis: int, role: str | None = ""
) -> Blob:
    """x @ weight.T + bias over the axes from `axis` on; `weight` is (outputs, inputs)."""
    layer = x.layer
    if layer is not None and layer.type == "Flatten" and axis == 1:
        x = layer.bottoms[0]  # InnerProduct flattens by itself
    parameters: dict[str, Any] = {"num_output": weight.shape[0]}
    if bias is None:
        parameters["bias_term"] = False
    if axis != 1:
        parameters["axis"] = axis
    blobs = [weight] if bias is None else [weight, bias]
    shape = (*x.shape[:axis], weight.shape[0])
    return emit.layer("InnerProduct", [x], shape, role, blobs, inner_product_param=parameters)


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
) -> Blob:
    """InnerProduct; what is not a vector of biases is added afterwards."""
    weight = emit.constant(b)
    if weight is None or emit.constant(a) is not None:
        left, right = operand(emit, a), operand(emit, b)
        blobs = [x if isinstance(x, Blob) else emit.parameter(x) for x in (left, right)]
        blobs = [
            transpose(emit, x, (1, 0), "turned") if turn else x for x, turn in zip(blobs, (transA, transB), strict=True)
        ]
        result = _batched(emit, blobs[0], blobs[1], "product" if c is not None else None)
        bias = None
    else:
        x = emit.blob(a)
        if transA:
            x = transpose(emit, x, (1, 0), "turned")
        weight = emit.weight(b, "its matrix")
        rows = weight if transB else weight.transposed()
        bias = _bias(emit, c, rows.shape[0], beta / alpha if alpha else 0) if alpha else None
        result = inner_product(emit, x, rows, bias, 1)
    if alpha != 1:
        result = power(emit, result, scale=alpha, role="alpha")
    if c is None or bias is not None or beta == 0:
        return result
    addend = operand(emit, c)
    if beta != 1:
        if isinstance(addend, Blob):
            addend = power(emit, addend, scale=beta, role="beta")
        else:
            addend = addend.viewed(lambda x: x * np.float32(beta), addend.shape, "beta")
    return total(emit, result, addend)


def _bias(emit: Emitter, c: ir.Value | None, outputs: int, factor: float) -> Constant | None:
    """The bias where it is one row of constants; multiplied by `factor`."""
    constant = emit.constant(c)
    if c is None or constant is None or constant.size not in (1, outputs) or constant.shape[:-1] not in ((), (1,)):
        return None
    weight = emit.weight(c, "its bias")
    shape = (outputs,)
    if factor == 1 and constant.shape == shape:
        return weight
    return weight.viewed(lambda x: np.broadcast_to(x.reshape(-1) * np.float32(factor), shape), shape, "bias")


@OPS("MatMul")
def matmul(emit: Emitter, a: ir.Value, b: ir.Value) -> Blob:
    """InnerProduct by a constant matrix, with the bias that the same layer adds; else Tile, Scale and a sum."""
    left, right = emit.constant(a), emit.constant(b)
    if left is None and right is not None and len(right.shape) <= 2:
        x = emit.blob(a)
        weight = emit.weight(b, "its matrix")
        if len(weight.shape) == 1:
            weight = weight.viewed(lambda m: m.reshape(-1, 1), (weight.size, 1), "column")
        if x.rank == 1:
            x = reshape(emit, x, (1, *x.shape), "axes")
        bias, follower = _following_bias(emit, weight.shape[1])
        result = inner_product(emit, x, weight.transposed(), bias, x.rank - 1)
        if follower is not None:
            emit.absorbed[follower] = reshape(emit, result, emit.shape(follower.outputs[0]), "shape")
        return reshape(emit, result, emit.result(), "shape")
    blobs = [emit.blob(v) for v in (a, b)]
    if left is not None and len(left.shape) == 2 and blobs[1].rank >= 2:
        return along(emit, blobs[1], blobs[1].rank - 2, emit.weight(a, "its matrix").numpy())
    if blobs[0].rank == 1:
        blobs[0] = reshape(emit, blobs[0], (1, *blobs[0].shape), "left_axes")
    if blobs[1].rank == 1:
        blobs[1] = reshape(emit, blobs[1], (*blobs[1].shape, 1), "right_axes")
    return reshape(emit, _batched(emit, blobs[0], blobs[1]), emit.result(), "shape")


def _following_bias(emit: Emitter, outputs: int) -> tuple[Constant | None, ir.Node | None]:
    """The row of constants that the next node of the same layer adds, and that node."""
    assert emit.node is not None
    out = emit.node.outputs[0]
    uses = list(out.uses())
    if len(uses) != 1 or out.is_graph_output() or uses[0][0].op_type != "Add":
        return None, None
    node = uses[0][0]
    other = node.inputs[1 - uses[0][1]]
    constant = emit.constant(other)
    if layer_of(node) != layer_of(emit.node) or constant is None or constant.shape != (outputs,):
        return None, None
    return emit.weight(other, "its bias"), node


def _batched(emit: Emitter, a: Blob, b: Blob, role: str | None = None) -> Blob:
    """a @ b with a of (.., M, K) and b of (.., K, P), both computed.

    sum over k of a[m, k] b[k, p]: b is repeated M times as (K, M, P), scaled by a transposed as (K, M), and
    summed over K by a 1x1 convolution of ones. It holds M P K numbers.
    """
    batch = emit.broadcast(a.shape[:-2], b.shape[:-2])
    a, b = (spread(emit, x, (*batch, *x.shape[-2:]), r) for x, r in ((a, "left_batch"), (b, "right_batch")))
    (m, k), (_, p) = emit.fixed(a.shape, a.rank - 2), emit.fixed(b.shape, b.rank - 2)
    outer = merged(batch)
    left = reshape(emit, a, (outer, m, k), "left")
    left = transpose(emit, left, (0, 2, 1), "left_turned")
    right = reshape(emit, b, (outer, k, 1, p), "right")
    factors = reshape(emit, left, (outer, k, m), "factors")
    terms = scale(emit, tile(emit, right, 2, m, "repeated"), factors, 0, role="terms")
    ones = Constant.of(np.ones((1, k, 1, 1), np.float32))
    parameters = {"num_output": 1, "bias_term": False, "kernel_size": [1]}
    summed = emit.layer("Convolution", [terms], (outer, 1, m, p), "sum", [ones], convolution_param=parameters)
    return reshape(emit, summed, (*batch, m, p), role if role is not None else "result")
