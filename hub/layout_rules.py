"""The rules by which a Transpose moves through an operator; see `hub/layout.py`.

The rules, by operator, with L = Transpose(P, perm), that is L.shape[i] = P.shape[perm[i]]:

1. Transpose composes; the identity is an alias.
2. Element by element: applied to P. With several inputs, constants are transposed (as views), and
   the others get the inverse Transpose, if at least half of them are waiting already.
3. Concat, Split, Softmax, ...: the axis a becomes perm[a].
4. Reduce..., Squeeze: axes are renamed; the axes that stay keep their permutation.
5. Pad, Slice: pads, starts, ends and axes are renamed.
6. Flatten from axis 1: the columns are in another order; remembered, passed through operators on
   single elements, and undone in the rows of the constant matrix of the next Gemm or MatMul.
7. A Transpose that only moves axes of size 1 is a Reshape.

A rule takes the pass and a node, and says whether it has dealt with the node. Nothing is guessed from
shapes: a Transpose moves only because the rule of an operator says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from hub import tensors

if TYPE_CHECKING:
    from hub.layout import Sinker

__all__ = ["RULES", "Permutation", "Waiting", "inverted", "moves_only_ones"]

Permutation = tuple[int, ...]


@dataclass(frozen=True)
class Waiting:
    """A value that is Transpose(value, perm), or, if `columns` is given, value[:, columns order]."""

    value: ir.Value
    perm: Permutation
    columns: tuple[int, ...] | None = None
    """Of a flattened value: the sizes of the axes (without the batch) of P that were flattened."""


ELEMENTWISE = frozenset(
    """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu
    HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu
    Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Clip Dropout""".split()
)
"""Operators whose first input decides the shape; all other inputs are scalars."""

BROADCAST = frozenset(
    """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual
    Max Mean Min Mod Mul Or Pow PRelu Sub Sum Where Xor""".split()
)
"""Operators whose inputs broadcast against each other (PRelu: the slope to the input)."""

AXIS = frozenset(["Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "Split", "Concat", "CumSum"])
REDUCE = frozenset(
    """ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceSumSquare""".split()
)


IMAGE = frozenset(
    """Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization
    InstanceNormalization Resize DepthToSpace SpaceToDepth Pad Slice""".split()
)
"""Operators before which a Transpose of a real value is written at once: the channels-first part begins there."""


def _transpose(s: Sinker, node: ir.Node) -> bool:
    value = node.inputs[0]
    if value is None or "perm" not in node.attributes:
        return False
    mine = tuple(node.attributes.get_ints("perm"))
    entry = s.look(value)
    if entry is not None and entry.columns is not None:
        return False
    source, perm = (value, tuple(range(len(mine)))) if entry is None else (entry.value, entry.perm)
    composed = tuple(perm[i] for i in mine)
    out = node.outputs[0]
    s.wait(out, source, composed)
    if entry is None and all(user.op_type in IMAGE for user, _ in out.uses()):
        s.waiting[out] = Waiting(s.real(out, node), tuple(range(len(mine))))
    return True


def _elementwise(s: Sinker, node: ir.Node) -> bool:
    entry = s.look(node.inputs[0])
    if entry is None or any(value is not None and not _is_scalar(value) for value in node.inputs[1:]):
        return False
    node.replace_input_with(0, entry.value)
    for out in node.outputs:
        s.wait(out, out, entry.perm, entry.columns)
    return True


def _broadcast(s: Sinker, node: ir.Node) -> bool:
    values = [value for value in node.inputs if value is not None]
    entries = [s.look(value) for value in values]
    perms = [entry.perm for entry in entries if entry is not None and entry.columns is None]
    perms = [perm for perm in perms if perm != tuple(range(len(perm)))]
    if not perms:
        return False
    perm = max(perms, key=perms.count)
    rank = len(perm)
    others = [
        value
        for value, entry in zip(values, entries, strict=True)
        if value.const_value is None and (entry is None or entry.perm != perm or entry.columns is not None)
    ]
    if len(others) > perms.count(perm) or any(v.shape is None or len(v.shape) != rank for v in others):
        return False
    if any(v.const_value is not None and len(v.const_value.shape) > rank for v in values):
        return False
    inverse = inverted(perm)
    for i, value in enumerate(node.inputs):
        if value is None:
            continue
        entry = s.look(value)
        if entry is not None and entry.perm == perm and entry.columns is None:
            node.replace_input_with(i, entry.value)
        elif value.const_value is not None:
            node.replace_input_with(i, s.permuted(value, inverse, rank))
        else:
            source, old = (value, tuple(range(rank))) if entry is None else (entry.value, entry.perm)
            if entry is not None and entry.columns is not None:
                source, old = s.real(value, node), tuple(range(rank))
            temporary = ir.Value(name=None)
            s.waiting[temporary] = Waiting(source, tuple(old[j] for j in inverse))
            node.replace_input_with(i, s.real(temporary, node))
            del s.waiting[temporary]
    out = node.outputs[0]
    s.wait(out, out, perm)
    return True


def _axis(s: Sinker, node: ir.Node) -> bool:
    entries = [s.look(value) for value in node.inputs if value is not None]
    first = entries[0]
    if first is None or first.columns is not None:
        return False
    joined = node.op_type == "Concat"
    if joined and any(e is None or e.columns is not None or e.perm != first.perm for e in entries):
        return False
    default = {"Split": 0, "Concat": None}.get(node.op_type, -1)
    if node.op_type == "CumSum":
        return False
    axis = node.attributes.get_int("axis") if "axis" in node.attributes else default
    if axis is None:
        return False
    for i, value in enumerate(node.inputs):
        entry = s.look(value)
        if entry is not None and (joined or i == 0):
            node.replace_input_with(i, entry.value)
    node.attributes["axis"] = ir.AttrInt64("axis", first.perm[axis % len(first.perm)])
    for out in node.outputs:
        s.wait(out, out, first.perm)
    return True


def _reduce(s: Sinker, node: ir.Node) -> bool:
    entry = s.look(node.inputs[0])
    axes = _ints(node, 1)
    if entry is None or entry.columns is not None or not axes:
        return False
    rank = len(entry.perm)
    axes = [axis % rank for axis in axes]
    keep = node.op_type != "Squeeze" and bool(node.attributes.get_int("keepdims", 1))
    left = [entry.perm[i] for i in range(rank) if i not in axes]
    node.replace_input_with(0, entry.value)
    node.replace_input_with(1, s.constant(np.array(sorted(entry.perm[a] for a in axes), np.int64), f"{node.name}/axes"))
    out = node.outputs[0]
    if keep:
        s.wait(out, out, entry.perm)
    elif left != sorted(left):
        s.wait(out, out, tuple(sorted(left).index(i) for i in left))
    return True


def _pad(s: Sinker, node: ir.Node) -> bool:
    entry = s.look(node.inputs[0])
    pads = _ints(node, 1)
    if entry is None or entry.columns is not None or pads is None:
        return False
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return False
    rank = len(entry.perm)
    inverse = inverted(entry.perm)
    moved = [pads[i] for i in inverse] + [pads[rank + i] for i in inverse]
    node.replace_input_with(0, entry.value)
    node.replace_input_with(1, s.constant(np.array(moved, np.int64), f"{node.name}/pads"))
    s.wait(node.outputs[0], node.outputs[0], entry.perm)
    return True


def _slice(s: Sinker, node: ir.Node) -> bool:
    entry = s.look(node.inputs[0])
    if entry is None or entry.columns is not None:
        return False
    rank = len(entry.perm)
    starts = _ints(node, 1)
    if starts is None:
        return False
    axes = _ints(node, 3) if len(node.inputs) > 3 and node.inputs[3] is not None else list(range(len(starts)))
    if axes is None:
        return False
    node.replace_input_with(0, entry.value)
    moved = s.constant(np.array([entry.perm[a % rank] for a in axes], np.int64), f"{node.name}/axes")
    if len(node.inputs) > 3:
        node.replace_input_with(3, moved)
    else:
        node.resize_inputs(4)
        node.replace_input_with(3, moved)
    s.wait(node.outputs[0], node.outputs[0], entry.perm)
    return True


def _flatten(s: Sinker, node: ir.Node) -> bool:
    """Flatten from axis 1, or a Reshape to (batch, everything else)."""
    entry = s.look(node.inputs[0])
    if entry is None or entry.columns is not None or entry.perm[0] != 0 or entry.perm == tuple(range(len(entry.perm))):
        return False
    shape, out = entry.value.shape, node.outputs[0]
    if shape is None or not all(isinstance(d, int) for d in shape[1:]) or out.shape is None or len(out.shape) != 2:
        return False
    sizes = tuple(d for d in shape[1:] if isinstance(d, int))
    if node.op_type == "Flatten":
        if node.attributes.get_int("axis", 1) != 1:
            return False
    else:
        target = _ints(node, 1)
        if target is None or target[0] not in (0, shape[0]) or out.shape[1] != int(np.prod(sizes)):
            return False
    node.replace_input_with(0, entry.value)
    if moves_only_ones(shape, entry.perm):
        return True
    s.wait(out, out, entry.perm, sizes)
    return True


def _matmul(s: Sinker, node: ir.Node) -> bool:
    """The rows of the constant matrix take the order of the columns that arrive."""
    entry = s.look(node.inputs[0])
    weight = node.inputs[1]
    if entry is None or entry.columns is None or weight is None or weight.const_value is None:
        return False
    if any(node.attributes.get_int(name, 0) for name in ("transA", "transB")):
        return False
    if len(weight.const_value.shape) != 2:
        return False
    key = (weight, entry.perm, entry.columns)
    if key not in s.written:
        rows, columns = weight.const_value.shape.numpy()
        # The rows are in the order of L's axes: L.shape[i] = P.shape[perm[i]].
        logical = [entry.columns[axis - 1] for axis in entry.perm[1:]]
        order = [axis - 1 for axis in inverted(entry.perm)[1:]]
        turned = tensors.view(weight.const_value, [*order, len(order)], [*logical, columns])
        assert isinstance(turned, tensors.ViewTensor)
        s.written[key] = s.constant(turned.transformed(turned.array, (rows, columns)), f"{weight.name}/rows", weight)
    node.replace_input_with(0, entry.value)
    node.replace_input_with(1, s.written[key])
    if len(node.inputs) > 2 and (addend := node.inputs[2]) is not None and addend in s.waiting:
        node.replace_input_with(2, s.real(addend, node))
    return True


RULES: dict[str, Callable[[Sinker, ir.Node], bool]] = {
    "Transpose": _transpose,
    "Squeeze": _reduce,
    "Pad": _pad,
    "Slice": _slice,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Gemm": _matmul,
    "MatMul": _matmul,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(AXIS, _axis),
    **dict.fromkeys(REDUCE, _reduce),
}


def inverted(perm: Permutation) -> Permutation:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(i) for i in range(len(perm)))


def _is_scalar(value: ir.Value) -> bool:
    return value.shape is not None and all(d == 1 for d in value.shape)


def moves_only_ones(shape: ir.Shape | None, perm: Permutation) -> bool:
    """Whether a Transpose keeps the order of all axes that are not of size 1."""
    if shape is None:
        return False
    kept = [i for i in perm if shape[i] != 1]
    return kept == sorted(kept)


def _ints(node: ir.Node, index: int) -> list[int] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None:
        return None
    return [int(i) for i in value.const_value.numpy().reshape(-1)]
