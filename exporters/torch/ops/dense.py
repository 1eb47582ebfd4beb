"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.codegen.names import literal
from exporters.codegen.program import ADD, MULTIPLY, Expression, Literal, Op, call
from exporters.constants import Constant
from exporters.torch.ops.conv import functional
from exporters.torch.ops.table import OPS, arguments
from exporters.torch.values import FLOATS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter

__all__ = ["biased_matmul", "linear"]


def linear(emit: Emitter, x: ir.Value, weight: Constant, bias: Constant | None) -> Expression:
    """`nn.Linear` with a kernel of (out, in)."""
    named = arguments(
        [("in_features", weight.shape[1]), ("out_features", weight.shape[0])], [("bias", bias is not None, True)]
    )
    return emit.apply(emit.module("nn.Linear", named, {"weight": weight, "bias": bias}, "linear"), emit.tensor(x))


@OPS("Gemm", since=7)
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
) -> Expression:
    weight, bias = emit.owned(b), _bias(emit, c, b, transB)
    plain = alpha == 1.0 and (beta == 1.0 or c is None) and not transA
    if plain and weight is not None and (c is None or bias is not None):
        return linear(emit, a, weight if transB else weight.transposed(), bias)
    left = call("{}.T", emit.tensor(a)) if transA else emit.tensor(a)
    shared = emit.constant(b)
    right = emit.tensor(b) if shared is None else emit.weight(b, shared, train=True)
    if plain and transB and c is not None and emit.constant(c) is not None and emit.shape(c) != []:
        return functional(emit, "F.linear", emit.tensor(a), b, c, [])
    product: Expression = call("{} @ {}", left, call("{}.T", right) if transB else right, precedence=MULTIPLY)
    if alpha != 1.0:
        product = call("{} * {}", Literal(_scale(emit, a, alpha), "alpha"), product, precedence=MULTIPLY)
    if c is None or beta == 0.0:
        return product
    constant = emit.constant(c)
    addend = emit.tensor(c) if constant is None else emit.weight(c, constant, train=True)
    if beta != 1.0:
        addend = call("{} * {}", Literal(_scale(emit, a, beta), "beta"), addend, precedence=MULTIPLY)
    return call("{} + {}", product, addend, precedence=ADD)


def _scale(emit: Emitter, a: ir.Value, factor: float) -> float | int:
    if emit.dtype(a) in FLOATS:
        return float(str(np.float32(factor)))
    if factor != int(factor):
        raise Refusal("a fraction of an integer product")
    return int(factor)


def _bias(emit: Emitter, c: ir.Value | None, b: ir.Value, trans: int) -> Constant | None:
    """The bias of a linear layer, if the addend is one number for each output."""
    constant, weight = emit.owned(c), emit.constant(b)
    if constant is None or weight is None:
        return None
    features = weight.shape[0 if trans else 1]
    if constant.shape == (features,):
        return constant
    if constant.shape == (1, features):
        return constant.viewed(lambda array: array.reshape(features), (features,), "row")
    return None


@OPS("MatMul")
def matmul(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
    weight = emit.owned(b)
    if weight is not None and len(weight.shape) == 2:
        return linear(emit, a, weight.transposed(), None)
    operands = []
    for value in (a, b):
        constant = emit.constant(value)
        operands.append(emit.tensor(value) if constant is None else emit.weight(value, constant, train=True))
    return call("{} @ {}", *operands, precedence=MULTIPLY)


def biased_matmul(emit: Emitter, product: ir.Value, addend: ir.Value) -> Expression | None:
    """`nn.Linear` for the sum of a bias and a product with a kernel that nothing else uses."""
    node = product.producer()
    if node is None or node.op_type != "MatMul" or len(product.uses()) != 1 or product.is_graph_output():
        return None
    a, b = node.inputs
    if a is None or b is None or emit.constant(a) is not None:
        return None
    weight, bias = emit.owned(b), emit.owned(addend)
    if weight is None or bias is None or len(weight.shape) != 2 or bias.shape != (weight.shape[1],):
        return None
    if weight.root is not None and len(weight.root.uses()) > 1 and not _one_layer(weight.root, addend):
        return None
    if weight.root is not None and bias.root is not None and len(weight.root.uses()) != len(bias.root.uses()):
        return None  # a bias of several kernels stays one parameter
    return linear(emit, a, weight.transposed(), bias)


def _one_layer(kernel: ir.Value, bias: ir.Value) -> bool:
    """Whether every product with the kernel is followed by the sum with that same bias."""
    for node, _ in kernel.uses():
        users = list(node.outputs[0].uses())
        if len(users) != 1 or users[0][0].op_type != "Add" or bias not in users[0][0].inputs:
            return False
    return True


@OPS("Einsum")
def einsum(emit: Emitter, *inputs: ir.Value, equation: str) -> Expression:
    pattern = equation.replace(" ", "")
    if not set(pattern) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,.->"):
        raise Refusal("the equation has characters that PyTorch does not know")
    tensors = []
    for value in inputs:
        constant = emit.constant(value)
        tensors.append(emit.tensor(value) if constant is None else emit.weight(value, constant, train=True))
    braces = pattern.replace("{", "").replace("}", "")
    return Op(f"torch.einsum({literal(braces)}" + ", {}" * len(tensors) + ")", tuple(tensors))
