"""Recurrences: functions that wait for each other through PastValue or FutureValue become one Scan of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.canonical import LAYER, OPSET, SOURCE_OP
from hub.errors import InvalidModel, Refusal
from importers.cntk import cells
from importers.cntk.context import Context, Tensor
from importers.cntk.functions import Function, Network, Ref
from importers.cntk.order import components

if TYPE_CHECKING:
    from importers.cntk.graph import Walker

__all__ = ["Loop"]

DELAYS = ("PastValue", "FutureValue")
MOST_STATES = 64


class Loop:
    """The functions of one cycle. A delay's result is a state of the Scan; everything else is its body."""

    def __init__(self, walker: Walker, functions: Sequence[Function]) -> None:
        self.walker = walker
        self.network: Network = walker.network
        self.functions = {function.uid: function for function in functions}
        self.delays = [function for function in functions if function.op in DELAYS]
        self.sequence = ""
        if not self.delays:
            raise InvalidModel(f"{functions[0].label!r} ({functions[0].kind}) waits for itself, with no delay between")

    def emit(self, wanted: Sequence[Ref]) -> None:
        """Emit the Scan, and note the values in `wanted`, which are used outside."""
        if len({delay.op for delay in self.delays}) > 1:
            raise Refusal("a recurrence that goes forwards and backwards at once")
        order = self._order()
        outside = self._outside()
        if any(walked is None for walked in outside.values()):
            return  # something before it is refused
        inputs = self._inputs(outside)
        layer = self.walker.layers.get(self.network.source(self.delays[0].inputs[0]).uid, self.delays[0].uid)
        main = self.walker.builder
        if self._cell(layer, inputs, wanted):
            return
        body = main.inner(f"{layer}/body")
        kind = self.walker.kinds.get(layer, self.delays[0].op)
        with main.layer(layer, kind):
            firsts = {delay.uid: self._first(delay, inputs) for delay in self.delays}
        states = {
            delay.uid: [_declared(body, firsts[delay.uid]) for _ in range(_offset(delay))] for delay in self.delays
        }
        slices = {ref: self._slice(body, tensor) for ref, tensor in inputs.items()}
        new, results = self._body(body, order, states, slices, wanted)
        graph = ir.Graph(
            [*(value for group in states.values() for value in group), *(s.value for s in slices.values())],
            [*new, *results],
            nodes=body.nodes,
            name=body.name,
            opset_imports={"": OPSET},
        )
        begin = [value for uid, group in states.items() for value in [firsts[uid]] * len(group)]
        scan = self._scan(graph, layer, kind, begin, [tensor.value for tensor in inputs.values()], len(results))
        for ref, value in zip(wanted, scan.outputs[len(new) :], strict=True):
            self.walker.keep_at(ref, Tensor(value, True, self.sequence))

    def _cell(self, layer: str, inputs: dict[Ref, Tensor], wanted: Sequence[Ref]) -> bool:
        """Say the recurrence as one operator, where it is one and only its output is used."""
        cell = cells.recognise(self.network, self.functions, self.delays)
        if cell is None or list(wanted) != [cell.result]:
            return False
        x = self.walker.value(cell.x)
        if not isinstance(x, Tensor) or x.sequence != self.sequence or not x.batch:
            return False
        context = Context(self.walker.builder, cell.states[0], self.network, self.walker.warnings)
        with self.walker.builder.layer(layer, self.walker.kinds.get(layer, cell.op)):
            firsts = [None if self._is_zero(state) else self._first(state, inputs) for state in cell.states]
            result = cells.emit(context, cell, x, firsts)
        if result is not None:
            self.walker.keep_at(cell.result, x.of(result))
        return result is not None

    def _is_zero(self, delay: Function) -> bool:
        variable = self.network.variables.get(self.network.source(delay.inputs[1]).uid)
        return variable is not None and variable.value is not None and not variable.value.numbers.any()

    def _order(self) -> list[Function]:
        """All functions but the delays, each after what it needs within one step."""

        def needs(uid: str) -> list[str]:
            function = self.functions[uid]
            return [] if function.op in DELAYS else [n for n in self.walker.needs(uid) if n in self.functions]

        found = components(self.functions, needs)
        for component in found:
            if len(component) > 1 or component[0] in needs(component[0]):
                label = self.functions[component[0]].label
                raise InvalidModel(f"{label!r} waits for itself within one step: there is no delay between")
        return [self.functions[uid] for (uid,) in found if self.functions[uid].op not in DELAYS]

    def _outside(self) -> dict[Ref, Tensor | None]:
        """What the recurrence takes from outside."""
        found: dict[Ref, Tensor | None] = {}
        for function in self.functions.values():
            layer = self.walker.layers.get(function.uid, function.uid)
            for ref in self.walker.sources(function):
                if ref.uid not in self.functions:
                    with self.walker.builder.layer(layer, function.kind):
                        tensor = self.walker.value(ref)
                    if tensor is not None and not isinstance(tensor, Tensor):
                        raise Refusal("a recurrence over places of steps")
                    found[ref] = tensor
        return found

    def _inputs(self, outside: dict[Ref, Tensor | None]) -> dict[Ref, Tensor]:
        """The sequences among it, which the Scan takes step by step."""
        found = {ref: tensor for ref, tensor in outside.items() if tensor is not None and tensor.sequence is not None}
        names = sorted({tensor.sequence or "" for tensor in found.values()})
        if not names:
            raise Refusal("a recurrence that takes no sequence from outside: its length is not known")
        if len(names) > 1:
            raise Refusal("a recurrence over several sequence axes, whose lengths may differ")
        self.sequence = names[0]
        return found

    def _first(self, delay: Function, inputs: dict[Ref, Tensor]) -> ir.Value:
        """The state before the first step, for each item of the batch."""
        ref = self.network.source(delay.inputs[1])
        given = self.walker.value(ref)
        if ref.uid in self.functions or not isinstance(given, Tensor):
            raise Refusal("what a recurrence begins with depends on itself")
        if given.sequence is not None:
            raise Refusal("what a recurrence begins with is a sequence")
        sizes = self._state_sizes(delay, given)
        context = Context(self.walker.builder, delay, self.network, self.walker.warnings)
        own = context.shape(given)
        if given.batch and own == sizes:
            return given.value
        value = given.value
        if given.batch and len(own) < len(sizes):
            axes = list(range(1, 1 + len(sizes) - len(own)))
            value = context.op("Unsqueeze", value, context.ints(axes, "axes"))
        batch = context.op("Shape", next(iter(inputs.values())), start=0, end=1)
        shape = context.op("Concat", batch, context.ints(sizes, "sizes"), axis=0) if sizes else batch
        expanded = context.op("Expand", value, shape)
        expanded.shape = ir.Shape(["N", *sizes])
        return expanded

    def _state_sizes(self, delay: Function, given: Tensor) -> list[int]:
        """The static sizes of a state: what the file says of it, or else those of what it begins with.

        Whether they are right is seen when the body has been said.
        """
        names = [delay.inputs[0], *(p for p, v in self.network.bound.items() if v == f"{delay.uid}_Output_0")]
        for name in names:
            variable = self.network.variables.get(name)
            if variable is not None and all(0 < size < 1 << 31 for size in variable.shape):
                return [*variable.shape][::-1]
        shape = given.value.shape
        sizes = [] if shape is None else list(shape)[given.dynamic :]
        if not all(isinstance(size, int) for size in sizes):
            raise Refusal("the shape of a recurrence's state is not known")
        return [int(size) for size in sizes if isinstance(size, int)]

    def _slice(self, body: GraphBuilder, tensor: Tensor) -> Tensor:
        """One step of a sequence, in the body."""
        shape = tensor.value.shape
        if shape is None or tensor.value.dtype is None:
            raise Refusal("the shape of a sequence is not known")
        sizes = [size if isinstance(size, int) else size.value for axis, size in enumerate(shape) if axis != 1]
        return Tensor(body.input(f"{tensor.value.name}/step", tensor.value.dtype, sizes), tensor.batch)

    def _body(
        self,
        body: GraphBuilder,
        order: Sequence[Function],
        states: dict[str, list[ir.Value]],
        slices: dict[Ref, Tensor],
        wanted: Sequence[Ref],
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """Say one step; the new states, and what is wanted of each step."""
        walker = self.walker
        main, values = walker.builder, walker.values
        walker.builder, walker.inside = body, True
        walker.values = {**values, **slices, **{Ref(uid, 0): Tensor(group[-1], True) for uid, group in states.items()}}
        refused = len(walker.refused)
        try:
            for function in order:
                walker.emit(function)
            if len(walker.refused) > refused:
                raise Refusal("a recurrence around functions that are refused")
            new: list[ir.Value] = []
            for delay in self.delays:
                group = states[delay.uid]
                given = walker.value(self.network.source(delay.inputs[0]))
                assert isinstance(given, Tensor)
                self._check(delay, given, group[0])
                new += [body.op("Identity", value) for value in (given.value, *group[:-1])]
            results = [self._result(body, walker.value(ref)) for ref in wanted]
        finally:
            walker.builder, walker.inside, walker.values = main, False, values
        return new, results

    def _result(self, body: GraphBuilder, tensor: object) -> ir.Value:
        if not isinstance(tensor, Tensor) or tensor.dynamic == 0:
            raise Refusal("a result of a recurrence does not depend on its steps")
        return body.op("Identity", tensor.value)

    def _check(self, delay: Function, given: Tensor, state: ir.Value) -> None:
        found, expected = given.value.shape, state.shape
        same = found is not None and expected is not None and list(found)[1:] == list(expected)[1:]
        if not same or given.dynamic != 1 or given.value.dtype != state.dtype:
            raise Refusal(f"the state of {delay.label!r} has the shape {expected}, after a step {found}")

    def _scan(
        self,
        graph: ir.Graph,
        layer: str,
        kind: str,
        begin: Sequence[ir.Value],
        inputs: Sequence[ir.Value],
        results: int,
    ) -> ir.Node:
        back = int(self.delays[0].op == "FutureValue")
        attributes = [
            ir.AttrGraph("body", graph),
            ir.AttrInt64("num_scan_inputs", len(inputs)),
            ir.AttrInt64s("scan_input_axes", [1] * len(inputs)),
            ir.AttrInt64s("scan_input_directions", [back] * len(inputs)),
        ]
        if results:
            attributes.append(ir.AttrInt64s("scan_output_axes", [1] * results))
            attributes.append(ir.AttrInt64s("scan_output_directions", [back] * results))
        builder = self.walker.builder
        label = builder.unique(f"{layer}/Scan")
        outputs = []
        for number, inner in enumerate(graph.outputs):
            name = builder.unique(f"{label}_{number}")
            sizes = list(inner.shape) if inner.shape is not None else []
            if number >= len(begin):
                steps = inputs[0].shape
                sizes[1:1] = [steps[1] if steps is not None else ir.SymbolicDim(None)]
            outputs.append(ir.Value(name=name, type=inner.type, shape=ir.Shape(sizes)))
        metadata = {LAYER: layer, SOURCE_OP: kind}
        node = ir.Node("", "Scan", [*begin, *inputs], attributes, outputs=outputs, name=label, metadata_props=metadata)
        builder.nodes.append(node)
        return node


def _offset(delay: Function) -> int:
    offset = delay.attributes.get("offset", 1)
    if not 0 < offset <= MOST_STATES:
        raise Refusal(f"a recurrence with a delay of {offset} steps")
    return int(offset)


def _declared(body: GraphBuilder, first: ir.Value) -> ir.Value:
    """A state as an input of the body."""
    assert first.dtype is not None
    assert first.shape is not None
    sizes = [size if isinstance(size, int) else size.value for size in first.shape]
    return body.input(f"{first.name}/state", first.dtype, sizes)
