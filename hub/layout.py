"""Moves Transposes through the graph and cancels them, so that NHWC sources become NCHW inside.

An importer emits what is locally right: a channels-last convolution as Transpose, Conv, Transpose.
`sink_transposes` walks the graph once in topological order and, instead of executing a Transpose,
remembers that "the value v is Transpose(u, perm)". An operator that does not care about axis
order, or whose axis attributes can be renamed, is applied to u, and its result is remembered in the
same way. Two opposite Transposes meet and are gone. Where an operator needs the real value, one
Transpose is written, and shared by all who need it.

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

Nothing is guessed from shapes: a Transpose moves only because the rule of an operator says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hub import tensors
from hub.canonical import COLUMNS, LAYER, PERMUTATION, SOURCE_OP

__all__ = ["sink_transposes"]

Permutation = tuple[int, ...]

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


@dataclass(frozen=True)
class Waiting:
    """A value that is Transpose(value, perm), or, if `columns` is given, value[:, columns order]."""

    value: ir.Value
    perm: Permutation
    columns: tuple[int, ...] | None = None
    """Of a flattened value: the sizes of the axes (without the batch) of P that were flattened."""


def sink_transposes(graph: ir.Graph) -> int:
    """Sink and cancel the Transposes of `graph`, in place; returns how many are left."""
    return _Sinker(graph).run()


class _Sinker:
    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.waiting: dict[ir.Value, Waiting] = {}
        self.written: dict[tuple[ir.Value, Permutation, tuple[int, ...] | None], ir.Value] = {}
        self.names = {value.name for node in graph for value in node.outputs}
        self.names |= {value.name for value in (*graph.inputs, *graph.initializers.values())}
        self.node_names = {node.name for node in graph}

    def run(self) -> int:
        captured = _captured(self.graph)
        for node in list(self.graph):
            rule = RULES.get(node.op_type) if node.domain == "" else None
            if rule is None or any(v in captured for v in node.outputs) or not rule(self, node):
                self.settle(node)
        self.finish_outputs()
        self.remove_unused()
        return sum(node.op_type == "Transpose" for node in self.graph)

    # -- values ---------------------------------------------------------------------------------

    def look(self, value: ir.Value | None) -> Waiting | None:
        """What `value` is waiting for, if anything."""
        return None if value is None else self.waiting.get(value)

    def wait(
        self, value: ir.Value, source: ir.Value, perm: Permutation, columns: tuple[int, ...] | None = None
    ) -> None:
        """Remember that the real `value` is Transpose(source, perm)."""
        if value is source and columns is None and perm == tuple(range(len(perm))):
            return
        self.waiting[value] = Waiting(source, perm, columns)
        if value is source and columns is None:
            shape = value.shape
            if shape is not None:
                inverse = _inverse(perm)
                value.shape = ir.Shape([shape[i] for i in inverse])
            self.note(value, perm)
        elif value is source and columns is not None:
            value.metadata_props[COLUMNS] = f"{','.join(map(str, columns))};{','.join(map(str, perm))}"

    def note(self, value: ir.Value, perm: Permutation) -> None:
        """Keep the way back to the source's layout true for a value that is now Transpose(itself, perm)."""
        old = value.metadata_props.pop(PERMUTATION, None)
        back = [perm[int(i)] for i in old.split(",")] if old else list(perm)
        if back != sorted(back):
            value.metadata_props[PERMUTATION] = ",".join(map(str, back))

    def settle(self, node: ir.Node) -> None:
        """Give `node` the real values that it asks for."""
        for i, value in enumerate(node.inputs):
            if value is not None and value in self.waiting:
                node.replace_input_with(i, self.real(value, node))

    def real(self, value: ir.Value, before: ir.Node | None) -> ir.Value:
        """The real form of a waiting value, with the Transpose written if it needs one."""
        entry = self.waiting[value]
        source, perm = entry.value, entry.perm
        if perm == tuple(range(len(perm))) and entry.columns is None:
            return source
        key = (source, perm, entry.columns)
        if key not in self.written:
            self.written[key] = self.write(entry, value, before)
        return self.written[key]

    def write(self, entry: Waiting, value: ir.Value, before: ir.Node | None) -> ir.Value:
        """Insert the Transpose (or the equal Reshape) that makes a waiting value real."""
        anchor = entry.value.producer()
        origin = anchor or before
        metadata = {
            key: origin.metadata_props[key] for key in (LAYER, SOURCE_OP) if origin and key in origin.metadata_props
        }
        base = entry.value.name or "value"
        if entry.columns is not None:
            return self.write_columns(entry, base, metadata, before)
        shape = entry.value.shape
        out_shape = None if shape is None else ir.Shape([shape[i] for i in entry.perm])
        name = self.fresh(f"{base}/transposed")
        if (
            out_shape is not None
            and _moves_only_ones(shape, entry.perm)
            and sum(not isinstance(d, int) for d in out_shape) <= 1
        ):
            target = [d if isinstance(d, int) else -1 for d in out_shape]
            # A Reshape of a Reshape is the second one.
            reshaped = anchor is not None and anchor.op_type == "Reshape"
            origin_value = anchor.inputs[0] if anchor is not None and reshaped else entry.value
            inputs = [origin_value, self.constant(np.array(target, np.int64), f"{name}/shape")]
            node = ir.node("Reshape", inputs, name=name, metadata_props=metadata)
        else:
            node = ir.node("Transpose", [entry.value], {"perm": list(entry.perm)}, name=name, metadata_props=metadata)
        result = node.outputs[0]
        result.name, result.shape, result.type = name, out_shape, entry.value.type
        old = entry.value.metadata_props.get(PERMUTATION)
        if old or entry.value.producer() is not None:
            back = [entry.perm.index(int(i)) for i in old.split(",")] if old else list(_inverse(entry.perm))
            if back != sorted(back):
                result.metadata_props[PERMUTATION] = ",".join(map(str, back))
        self.insert(node, anchor, before)
        return result

    def write_columns(self, entry: Waiting, base: str, metadata: dict[str, str], before: ir.Node | None) -> ir.Value:
        """Undo a waiting order of columns: Reshape to the axes, Transpose, Reshape back."""
        assert entry.columns is not None
        sizes = [0, *entry.columns]
        steps: list[tuple[str, Any]] = [
            ("Reshape", sizes),
            ("Transpose", entry.perm),
            ("Reshape", [0, int(np.prod(entry.columns))]),
        ]
        current, anchor = entry.value, entry.value.producer()
        batch = current.shape[0] if current.shape is not None else None
        for op_type, argument in steps:
            name = self.fresh(f"{base}/columns")
            if op_type == "Reshape":
                inputs = [current, self.constant(np.array(argument, np.int64), f"{name}/shape")]
                node = ir.node(op_type, inputs, name=name, metadata_props=metadata)
                shape = [batch, *argument[1:]]
            else:
                node = ir.node(op_type, [current], {"perm": list(argument)}, name=name, metadata_props=metadata)
                shape = [[batch, *entry.columns][i] for i in argument]
            result = node.outputs[0]
            result.name, result.shape, result.type = name, ir.Shape(shape), current.type
            self.insert(node, anchor, before)
            current, anchor = result, node
        return current

    def insert(self, node: ir.Node, anchor: ir.Node | None, before: ir.Node | None) -> None:
        if anchor is not None:
            self.graph.insert_after(anchor, node)
        elif before is not None:
            first = next(iter(self.graph))
            self.graph.insert_before(first, node)
        else:
            self.graph.append(node)

    def fresh(self, name: str) -> str:
        candidate, number = name, 0
        while candidate in self.names or candidate in self.node_names:
            number += 1
            candidate = f"{name}_{number}"
        self.names.add(candidate)
        self.node_names.add(candidate)
        return candidate

    def constant(
        self, data: np.ndarray[Any, Any] | ir.TensorProtocol, name: str, like: ir.Value | None = None
    ) -> ir.Value:
        """Add an initializer, with the metadata of the one that it stands for."""
        tensor = ir.tensor(data) if isinstance(data, np.ndarray) else data
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=self.fresh(name), type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        tensor.name = value.name
        if like is not None:
            value.metadata_props.update(like.metadata_props)
        self.graph.register_initializer(value)
        return value

    def permuted(self, value: ir.Value, permutation: Sequence[int], rank: int) -> ir.Value:
        """A constant, extended to `rank` as broadcasting does, and transposed."""
        key = (value, tuple(permutation), None)
        if key not in self.written:
            assert value.const_value is not None
            shape = value.const_value.shape.numpy()
            if value.const_value.size == 1:
                return value
            split = (1,) * (rank - len(shape)) + tuple(shape)
            self.written[key] = self.constant(
                tensors.view(value.const_value, permutation, split), f"{value.name}/transposed", value
            )
        return self.written[key]

    # -- the end --------------------------------------------------------------------------------

    def finish_outputs(self) -> None:
        """Graph outputs are real values and keep their names."""
        for i, value in enumerate(self.graph.outputs):
            if value not in self.waiting:
                continue
            name = value.name
            real = self.real(value, None)
            if real is not value:
                if real.is_graph_input() or real.is_initializer() or any(real is other for other in self.graph.outputs):
                    node = ir.node("Identity", [real], name=self.fresh(f"{name}/output"))
                    node.outputs[0].type, node.outputs[0].shape = real.type, real.shape
                    self.graph.append(node)
                    real = node.outputs[0]
                value.name = self.fresh(f"{name}/inner")
                real.name = name
                real.metadata_props.update({k: v for k, v in value.metadata_props.items() if k != PERMUTATION})
                self.graph.outputs[i] = real

    def remove_unused(self) -> None:
        for node in reversed(list(self.graph)):
            if node.op_type in ("Transpose", "Reshape", "Flatten", "Identity") and not any(
                v.uses() or v.is_graph_output() for v in node.outputs
            ):
                self.graph.remove(node, safe=True)
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and value not in self.graph.inputs:
                del self.graph.initializers[name]


# -- the rules: each takes the sinker and a node, and says whether it has dealt with the node ----------


def _transpose(s: _Sinker, node: ir.Node) -> bool:
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


def _elementwise(s: _Sinker, node: ir.Node) -> bool:
    entry = s.look(node.inputs[0])
    if entry is None or any(value is not None and not _is_scalar(value) for value in node.inputs[1:]):
        return False
    node.replace_input_with(0, entry.value)
    for out in node.outputs:
        s.wait(out, out, entry.perm, entry.columns)
    return True


def _broadcast(s: _Sinker, node: ir.Node) -> bool:
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
    inverse = _inverse(perm)
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


def _axis(s: _Sinker, node: ir.Node) -> bool:
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


def _reduce(s: _Sinker, node: ir.Node) -> bool:
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


def _pad(s: _Sinker, node: ir.Node) -> bool:
    entry = s.look(node.inputs[0])
    pads = _ints(node, 1)
    if entry is None or entry.columns is not None or pads is None:
        return False
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return False
    rank = len(entry.perm)
    inverse = _inverse(entry.perm)
    moved = [pads[i] for i in inverse] + [pads[rank + i] for i in inverse]
    node.replace_input_with(0, entry.value)
    node.replace_input_with(1, s.constant(np.array(moved, np.int64), f"{node.name}/pads"))
    s.wait(node.outputs[0], node.outputs[0], entry.perm)
    return True


def _slice(s: _Sinker, node: ir.Node) -> bool:
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


def _flatten(s: _Sinker, node: ir.Node) -> bool:
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
    if _moves_only_ones(shape, entry.perm):
        return True
    s.wait(out, out, entry.perm, sizes)
    return True


def _matmul(s: _Sinker, node: ir.Node) -> bool:
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
        order = [axis - 1 for axis in _inverse(entry.perm)[1:]]
        turned = tensors.view(weight.const_value, [*order, len(order)], [*logical, columns])
        assert isinstance(turned, tensors.ViewTensor)
        s.written[key] = s.constant(turned.transformed(turned.array, (rows, columns)), f"{weight.name}/rows", weight)
    node.replace_input_with(0, entry.value)
    node.replace_input_with(1, s.written[key])
    if len(node.inputs) > 2 and (addend := node.inputs[2]) is not None and addend in s.waiting:
        node.replace_input_with(2, s.real(addend, node))
    return True


RULES: dict[str, Callable[[_Sinker, ir.Node], bool]] = {
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


# -- small questions ---------------------------------------------------------------------------------


def _inverse(perm: Permutation) -> Permutation:
    return tuple(perm.index(i) for i in range(len(perm)))


def _is_scalar(value: ir.Value) -> bool:
    return value.shape is not None and all(d == 1 for d in value.shape)


def _moves_only_ones(shape: ir.Shape | None, perm: Permutation) -> bool:
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


def _captured(graph: ir.Graph) -> set[ir.Value]:
    """Values of `graph` that a subgraph reads: they must stay what they are."""
    outer = set(graph)
    found: set[ir.Value] = set()
    for node in graph.all_nodes():
        if node not in outer:
            found.update(value for value in node.inputs if value is not None and value.producer() in outer)
    return found
