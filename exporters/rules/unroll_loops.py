"""Loops of a known number of steps are written step by step.

Loop(M, true, s) with a body that never ends early = the body M times, each on the states of the one before; what it
gives out of each step = Concat of the steps. Scan in the same way, over the slices of its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.rules import Applied, constant, each
from hub.canonical import infer_shapes

__all__ = ["unroll_loops"]

MOST = 2048
"""Nodes that a loop may become."""


def unroll_loops(model: ir.Model) -> Applied:
    """Unroll what can be, in place."""
    applied = each(model, {"Loop", "Scan"}, lambda node: _Unrolling(model.graph, node).run())
    if applied.changed:
        infer_shapes(model)
    return applied


class _Unrolling:
    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph = graph
        self.node = node
        self.body: ir.Graph = node.attributes["body"].as_graph()
        self.made: list[ir.Node] = []

    def run(self) -> str:
        """Replace the node; returns why not, if not."""
        if any(attribute.type == ir.AttributeType.GRAPH for n in self.body for attribute in n.attributes.values()):
            return "its body has bodies of its own"
        return self._loop() if self.node.op_type == "Loop" else self._scan()

    def _loop(self) -> str:
        node, body = self.node, self.body
        steps = _number(node.inputs[0])
        goes = node.inputs[1] if len(node.inputs) > 1 else None
        if steps is None:
            return "its number of steps is computed"
        if goes is not None and not _is_true(goes):
            return "it may end before its first step"
        after = body.outputs[0]
        if after is not body.inputs[1] and not _is_true(after) and not _passes(after, body.inputs[1]):
            return "it may end early"
        if steps < 1 or steps * len(body) > MOST:
            return f"{steps} steps of {len(body)} operators"
        states = list(node.inputs[2:])
        count = len(states)
        if any(value is None for value in states):
            return "a state is absent"
        collected: list[list[ir.Value]] = [[] for _ in body.outputs[1 + count :]]
        for step in range(steps):
            number = constant(self.graph, np.array(step, np.int64), f"{node.name}/step")
            yes = constant(self.graph, np.array(True), f"{node.name}/true")
            results = self._step([number, yes, *states], step)
            states = list(results[1 : 1 + count])
            for rows, value in zip(collected, results[1 + count :], strict=True):
                rows.append(self._unsqueezed(value, 0, step))
        finals = [self._joined(rows, 0) for rows in collected]
        self._replace([*states, *finals])
        return ""

    def _scan(self) -> str:
        node, body = self.node, self.body
        inputs = node.attributes.get_int("num_scan_inputs", 0)
        count = len(node.inputs) - inputs
        if any(value is None for value in node.inputs):
            return "an input is absent"
        given = [value for value in node.inputs if value is not None]
        states, scanned = list(given[:count]), given[count:]
        axes = list(node.attributes.get_ints("scan_input_axes", [0] * inputs))
        back = list(node.attributes.get_ints("scan_input_directions", [0] * inputs))
        outputs = len(body.outputs) - count
        out_axes = list(node.attributes.get_ints("scan_output_axes", [0] * outputs))
        out_back = list(node.attributes.get_ints("scan_output_directions", [0] * outputs))
        shape = scanned[0].shape
        steps = None if shape is None else shape[axes[0]]
        if not isinstance(steps, int) or steps < 1 or steps * len(body) > MOST:
            return f"{steps} steps of {len(body)} operators"
        collected: list[list[ir.Value]] = [[] for _ in range(outputs)]
        for step in range(steps):
            slices = []
            for value, axis, reverse in zip(scanned, axes, back, strict=True):
                at = constant(self.graph, np.array(steps - 1 - step if reverse else step, np.int64), f"{node.name}/at")
                slices.append(self._add("Gather", [value, at], step, [ir.AttrInt64("axis", axis)]))
            results = self._step([*states, *slices], step)
            states = list(results[:count])
            for rows, value, axis in zip(collected, results[count:], out_axes, strict=True):
                rows.append(self._unsqueezed(value, axis, step))
        finals = [
            self._joined(rows[::-1] if reverse else rows, axis)
            for rows, axis, reverse in zip(collected, out_axes, out_back, strict=True)
        ]
        self._replace([*states, *finals])
        return ""

    def _step(self, given: Sequence[ir.Value | None], step: int) -> list[ir.Value]:
        """The body once more; its results."""
        known: dict[ir.Value, ir.Value | None] = dict(zip(self.body.inputs, given, strict=True))
        for value in self.body.initializers.values():
            tensor = value.const_value
            assert tensor is not None
            known[value] = constant(self.graph, tensor.numpy(), f"{self.node.name}/{value.name}")
        for inner in self.body:
            inputs = [known.get(value, value) if value is not None else None for value in inner.inputs]
            copied = ir.Node(
                inner.domain,
                inner.op_type,
                inputs,
                [*inner.attributes.values()],
                num_outputs=len(inner.outputs),
                name=f"{self.node.name}/{step}/{inner.name}",
                metadata_props=dict(self.node.metadata_props),
            )
            for old, new in zip(inner.outputs, copied.outputs, strict=True):
                new.name, new.type = f"{self.node.name}/{step}/{old.name}", old.type
                known[old] = new
            self.made.append(copied)
        results = []
        for value in self.body.outputs:
            found = known.get(value, value)
            assert found is not None
            results.append(found)
        return results

    def _add(self, op: str, inputs: Sequence[ir.Value], step: int, attributes: Sequence[ir.Attr] = ()) -> ir.Value:
        name = f"{self.node.name}/{step}/{op}_{len(self.made)}"
        node = ir.Node("", op, inputs, attributes, name=name, metadata_props=dict(self.node.metadata_props))
        node.outputs[0].name, node.outputs[0].type = name, inputs[0].type
        self.made.append(node)
        return node.outputs[0]

    def _unsqueezed(self, value: ir.Value, axis: int, step: int) -> ir.Value:
        axes = constant(self.graph, np.array([axis], np.int64), f"{self.node.name}/axes")
        return self._add("Unsqueeze", [value, axes], step)

    def _joined(self, rows: list[ir.Value], axis: int) -> ir.Value:
        return self._add("Concat", rows, len(rows), [ir.AttrInt64("axis", axis)])

    def _replace(self, results: Sequence[ir.Value | None]) -> None:
        node = self.node
        ends = []
        for own, value in zip(node.outputs, results, strict=True):
            assert value is not None
            end = self._add("Identity", [value], 0)
            end.type, end.shape = own.type, own.shape
            ends.append((own, end))
        self.graph.insert_before(node, self.made)
        for own, end in ends:
            name = own.name
            own.replace_all_uses_with(end, replace_graph_outputs=True)
            own.name, end.name = None, name
        self.graph.remove(node, safe=True)


def _number(value: ir.Value | None) -> int | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else int(tensor.numpy().reshape(()))


def _is_true(value: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and bool(tensor.numpy().all())


def _passes(value: ir.Value, given: ir.Value) -> bool:
    """Whether a value is another, through Identity."""
    node = value.producer()
    while node is not None and node.op_type in ("Identity", "Cast"):
        if node.inputs[0] is given:
            return True
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return False
