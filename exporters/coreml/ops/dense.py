"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.conv import EXACT, centred
from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


def product(emit: Emitter, a: Var, b: Var, ranks: tuple[int, int]) -> Var:
    """NumPy's matmul: vectors are a row on the left, a column on the right."""
    left, right = ranks
    if left == 1:
        a = emit("expand_dims", x=a, axes=[0])
    if right == 1:
        b = emit("expand_dims", x=b, axes=[1])
    result = emit("matmul", x=a, y=b)
    gone = [-2] * (left == 1) + [-1] * (right == 1)
    return emit("squeeze", x=result, axes=gone) if gone else result


@OPS("MatMul")
def matmul(emit: Emitter, a: ir.Value, b: ir.Value) -> Var:
    ranks = emit.rank(a), emit.rank(b)
    matrix = emit.constant(b)
    if matrix is not None and emit.is_float(a) and ranks[0] in (2, 3) and ranks[1] == 2:
        return emit("linear", x=a, weight=emit.turned(b))
    if not emit.is_float(a):
        raise Refusal(f"of {emit.kind(a).name.lower()}")
    return product(emit, emit.var(a), emit.var(b), ranks)


@OPS("Gemm")
def gemm(
    emit: Emitter, a: ir.Value, b: ir.Value, c: ir.Value | None, *, alpha: float, beta: float, transA: int, transB: int
) -> Var:
    bias = emit.constant(c) if c is not None else None
    fits = c is None or (bias is not None and bias.shape == (emit.shape(b)[0 if transB else 1],))
    if emit.constant(b) is not None and not transA and alpha == 1 and (c is None or beta == 1) and fits:
        return emit("linear", x=emit.floats(a), weight=b if transB else emit.turned(b), bias=c)
    if not emit.is_float(a):
        raise Refusal(f"of {emit.kind(a).name.lower()}")
    result = emit("matmul", x=_flipped(emit, a, transA), y=_flipped(emit, b, transB))
    if alpha != 1:
        result = emit("mul", x=result, y=emit.number(a, alpha))
    if c is None or beta == 0:
        return result
    return emit("add", x=result, y=c if beta == 1 else emit("mul", x=c, y=emit.number(a, beta)))


def _flipped(emit: Emitter, x: ir.Value, flip: int) -> Var:
    if not flip:
        return emit.var(x)
    return emit.turned(x) if emit.constant(x) is not None else emit("transpose", x=x, perm=[1, 0])


@OPS("MatMulInteger", since=10)
def matmul_integer(
    emit: Emitter, a: ir.Value, b: ir.Value, a_zero_point: ir.Value | None, b_zero_point: ir.Value | None
) -> Var:
    """In float32, which is exact while the sums stay below 2 ** 24."""
    depth = emit.shape(a)[-1]
    if not isinstance(depth, int) or depth * 255 * 255 >= EXACT:
        raise Refusal("sums that float32 does not hold exactly")
    for zero in (a_zero_point, b_zero_point):
        if zero is not None and emit.rank(zero) and emit.shape(zero) != (1,):
            raise Refusal("several zero points")
    ranks = emit.rank(a), emit.rank(b)
    return emit.cast(product(emit, centred(emit, a, a_zero_point), centred(emit, b, b_zero_point), ranks), "int32")


@OPS("Einsum", since=12)
def einsum(emit: Emitter, *values: ir.Value, equation: str) -> Var:
    """Aligned along all letters, multiplied, summed along those that are not in the result."""
    terms, result = _parsed(equation, [emit.rank(v) for v in values])
    letters = list(dict.fromkeys([*result, *(c for term in terms for c in term)]))
    if len(letters) > 5:
        raise Refusal(f"an equation of {len(letters)} letters, Core ML has tensors of at most 5 axes")
    if any(len(set(term)) < len(term) for term in terms):
        raise Refusal("a diagonal")
    if not emit.is_float(values[0]):
        raise Refusal(f"of {emit.kind(values[0]).name.lower()}")
    if len(values) == 2 and (made := _as_matmul(emit, values, terms, result)) is not None:
        return made
    total = None
    for value, term in zip(values, terms, strict=True):
        order = sorted(range(len(term)), key=lambda i: letters.index(term[i]))
        var = emit.var(value)
        if order != list(range(len(term))):
            var = emit("transpose", x=var, perm=order)
        absent = [i for i, letter in enumerate(letters) if letter not in term]
        var = emit("expand_dims", x=var, axes=absent) if absent else var
        total = var if total is None else emit("mul", x=total, y=var)
    summed = [i for i, letter in enumerate(letters) if letter not in result]
    return emit("reduce_sum", x=total, axes=summed, keep_dims=False) if summed else emit("identity", x=total)


def _parsed(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of the terms and of the result; an ellipsis becomes capital letters not in use."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [c for c in "ZYXWVUTSRQ" if c not in equation]
    most = max((rank - len(term.replace(".", "")) for term, rank in zip(terms, ranks, strict=True) if "." in term),
               default=0)  # fmt: skip
    dots = "".join(free[:most])
    spelled = [
        term.replace("...", dots[most - (rank - len(term.replace(".", ""))) :] if "." in term else "")
        for term, rank in zip(terms, ranks, strict=True)
    ]
    if not arrow:
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        return spelled, dots + "".join(once)
    return spelled, right.replace("...", dots)


def _as_matmul(emit: Emitter, values: tuple[ir.Value, ...], terms: list[str], result: str) -> Var | None:
    """One product of matrices, where each letter is of the batch, of one side, or summed."""
    a, b = terms
    batch = [c for c in result if c in a and c in b]
    rows, columns = [c for c in result if c in a and c not in b], [c for c in result if c in b and c not in a]
    summed = [c for c in a if c in b and c not in result]
    if len(rows) != 1 or len(columns) != 1 or len(summed) != 1:
        return None
    if {*a} != {*batch, *rows, *summed} or {*b} != {*batch, *columns, *summed}:
        return None
    if any(emit.shape(values[0])[a.index(c)] != emit.shape(values[1])[b.index(c)] for c in [*batch, *summed]):
        return None
    left = _turned(emit, emit.var(values[0]), a, [*batch, *rows, *summed])
    right = _turned(emit, emit.var(values[1]), b, [*batch, *summed, *columns])
    made = emit("matmul", x=left, y=right)
    return _turned(emit, made, "".join([*batch, *rows, *columns]), list(result))


def _turned(emit: Emitter, var: Var, letters: str, wanted: list[str]) -> Var:
    order = [letters.index(c) for c in wanted]
    return var if order == list(range(len(order))) else emit("transpose", x=var, perm=np.array(order, np.int32))
