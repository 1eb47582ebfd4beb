"""Moves Transposes through the graph and cancels them, so that NHWC sources become NCHW inside.

An importer emits what is locally right: a channels-last convolution as Transpose, Conv, Transpose.
`sink_transposes` walks the graph once in topological order and, instead of executing a Transpose,
remembers that "the value v is Transpose(u, perm)". An operator that does not care about axis
order, or whose axis attributes can be renamed, is applied to u, and its result is remembered in the
same way. Two opposite Transposes meet and are gone. Where an operator needs the real value, one
Transpose is written, and shared by all who need it. The rules are in `hub/layout_rules.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub import tensors
from hub.canonical import COLUMNS, LAYER, PERMUTATION, SOURCE_OP
from hub.layout_rules import RULES, Permutation, Waiting, inverted, moves_only_ones

__all__ = ["sink_transposes"]


def sink_transposes(graph: ir.Graph) -> int:
    """Sink and cancel the Transposes of `graph`, in place; returns how many are left."""
    return Sinker(graph).run()


class Sinker:
    """The pass at work on one graph: what is waiting, what has been written."""

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
                inverse = inverted(perm)
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
            and moves_only_ones(shape, entry.perm)
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
            back = [entry.perm.index(int(i)) for i in old.split(",")] if old else list(inverted(entry.perm))
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


def _captured(graph: ir.Graph) -> set[ir.Value]:
    """Values of `graph` that a subgraph reads: they must stay what they are."""
    outer = set(graph)
    found: set[ir.Value] = set()
    for node in graph.all_nodes():
        if node not in outer:
            found.update(value for value in node.inputs if value is not None and value.producer() in outer)
    return found
