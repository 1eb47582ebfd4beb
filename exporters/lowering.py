"""What the exporters share that turn a graph node by node into something of their own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import onnx_ir as ir

from exporters.constants import Array, Constant, fold_constant
from hub.builder import infer
from hub.canonical import layer_of
from hub.errors import HubError, Refusal, UnsupportedOps
from hub.optable import OpTable

__all__ = ["Constants", "Shaped", "Values", "Walk"]


class Shaped(Protocol):
    """What an operator makes: something with a shape as ONNX has it, open sizes by name."""

    @property
    def shape(self) -> tuple[int | str, ...]: ...


K = TypeVar("K")
T = TypeVar("T", bound=Shaped)

HELD = {
    ir.DataType.BOOL: frozenset(
        """And Or Not Xor Equal Greater GreaterOrEqual Less LessOrEqual Where Cast Identity Reshape Flatten
        Squeeze Unsqueeze Expand Tile Transpose Concat Split Slice Dropout""".split()
    ),
    ir.DataType.INT64: frozenset(
        "ArgMax ArgMin Gather Cast Identity Reshape Flatten Squeeze Unsqueeze Expand Tile Transpose Concat".split()
    ),
}
HELD[ir.DataType.INT32] = HELD[ir.DataType.INT64]
"""What may compute with values other than float32 in a target that has float32 only: truth values, and numbers
that count or point to something and so are far from 2 ** 24, where float32 is no longer exact."""


class Constants(Generic[K]):
    """The values made so far: constants, and what the target has for all others."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opsets = dict(model.graph.opset_imports)
        self.known: dict[ir.Value, Constant | K] = {}
        self.node: ir.Node | None = None

    def constant(self, value: ir.Value | None) -> Constant | None:
        """The constant that `value` is, or None if it is computed (or absent)."""
        known = self.known.get(value) if value is not None else None
        return known if isinstance(known, Constant) else None

    def array(self, value: ir.Value | None) -> Array | None:
        """The data of a constant."""
        constant = self.constant(value)
        return None if constant is None else constant.numpy()

    def ints(self, value: ir.Value | None, what: str) -> list[int]:
        """A constant list of ints, such as axes.

        Raises:
            Refusal: it is computed at run time.
        """
        array = self.array(value)
        if array is None:
            raise Refusal(f"{what} is computed at run time", "make it a constant of the model")
        return [int(e) for e in array.reshape(-1)]


class Values(Constants[T]):
    """The same where all others have a shape; and what is to be said of the nodes."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self._notes: dict[str, list[str]] = {}

    def scalar(self, value: ir.Value | None, what: str) -> float:
        """A constant of one element."""
        array = self.array(value)
        if array is None or array.size != 1:
            raise Refusal(f"{what} is not one constant number")
        return float(array.reshape(-1)[0])

    def shape(self, value: ir.Value) -> tuple[int | str, ...]:
        """The shape of a value; a size that is not known has a name."""
        known = self.known.get(value)
        if known is not None:
            return tuple(known.shape)
        if value.shape is None:
            raise Refusal("the number of dimensions is not known")
        return tuple(d if isinstance(d, int) else str(d.value or f"?{i}") for i, d in enumerate(value.shape))

    def result(self, index: int = 0) -> tuple[int | str, ...]:
        """The shape of an output of the current node."""
        assert self.node is not None
        return self.shape(self.node.outputs[index])

    def note(self, what: str) -> None:
        """Something that the user should know about the current node, such as that its form is approximate."""
        assert self.node is not None
        self._notes.setdefault(what, []).append(layer_of(self.node))

    def said(self) -> list[str]:
        """All notes, each once, with the layers that it is about."""
        return [
            f"{what}: in {len(layers)} layer{'s' if len(layers) > 1 else ''}, first {layers[0]!r}"
            for what, layers in self._notes.items()
        ]


class Walk(Values[T]):
    """Takes the nodes one by one, for a target that computes in float32, and collects what cannot be said."""

    target = ""
    table: OpTable
    held = HELD

    def enter(self, value: ir.Value) -> T:
        """What stands for an input of the graph."""
        raise NotImplementedError

    def operation(self, node: ir.Node) -> Sequence[T]:
        """What a node makes that is not constant."""
        self._check_types(node)
        _follow_open_sizes(node)
        result = self.table.bind(node, self.opsets.get(node.domain, 1))(self)
        return result if isinstance(result, list) else [result]

    def lost(self, value: ir.Value) -> T:
        """What stands for the result of a refused node, so that the walk goes on."""
        raise NotImplementedError

    def stands(self, value: ir.Value) -> bool:
        """Whether something can stand for the result of a refused node."""
        return value.shape is not None

    def leave(self, value: ir.Value) -> T:
        """What stands for an output of the graph."""
        raise NotImplementedError

    def define(self, node: ir.Node, results: Sequence[T]) -> None:
        """Keep what a node made, if its shape is what ONNX says."""
        for value, result in zip(node.outputs, results, strict=False):
            expected = result.shape if value.shape is None else self.shape(value)
            if len(expected) != len(result.shape) or any(
                isinstance(a, int) and isinstance(b, int) and a != b
                for a, b in zip(expected, result.shape, strict=True)
            ):
                raise Refusal(f"its result has the shape {list(result.shape)} here and {list(expected)} in ONNX")
            self.known[value] = result
            value.shape = ir.Shape(result.shape)

    def name(self, refusals: list[tuple[str, str, Refusal]]) -> list[tuple[str, str, Refusal]]:
        """The refusals by the names that the user knows."""
        return refusals

    def run(self) -> list[T]:
        """All nodes; returns what stands for the outputs.

        Raises:
            UnsupportedOps: listing everything that the target cannot say exactly.
        """
        refusals: list[tuple[str, str, Refusal]] = []
        for value in self.graph.inputs:
            if value.name in self.graph.initializers:
                continue
            if value.shape is None:
                refusals.append(("input", str(value.name), Refusal("the number of its dimensions is not known")))
                value.shape = ir.Shape([])
            try:
                self.known[value] = self.enter(value)
            except Refusal as refusal:
                refusals.append(("input", str(value.name), refusal))
                self.known[value] = self.lost(value)
        for name, value in self.graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                refusals.append(("initializer", name, Refusal("it has no data")))
                continue
            shape = tuple(d for d in tensor.shape if isinstance(d, int))
            self.known[value] = Constant(shape, tensor.dtype, tensor.numpy, value, tensor=tensor)
        lost: set[ir.Value] = set()  # refused, and what is made of it where not even its shape is known
        for node in self.graph:
            if any(value in lost for value in node.inputs if value is not None):
                lost.update(node.outputs)
                continue
            self.node = node
            try:
                if not self._folds(node):
                    self.define(node, self.operation(node))
            except Refusal as refusal:
                refusals.append((node.op_type, layer_of(node), refusal))
                for output in node.outputs:
                    if self.stands(output):
                        self.known[output] = self.lost(output)
                    else:
                        lost.add(output)
        results = []
        for output in self.graph.outputs:
            self.node = output.producer()  # a constant is called after what it comes from
            try:
                if output not in lost:
                    results.append(self.leave(output))
            except Refusal as refusal:
                refusals.append(("output", output.name or "", refusal))
        self.node = None
        if refusals:
            raise UnsupportedOps.collect(f"{self.target} cannot say exactly:", self.name(refusals))
        return results

    def _folds(self, node: ir.Node) -> bool:
        """Compute a node whose inputs are all constant."""
        inputs: list[Any] = [None if v is None else self.known[v] for v in node.inputs]
        if not inputs or not all(v is None or isinstance(v, Constant) for v in inputs):
            return False
        folded = fold_constant(node, inputs, self.opsets.get("", 1))
        if folded is not None:
            self.known.update(zip(node.outputs, folded, strict=True))
        return folded is not None

    def _check_types(self, node: ir.Node) -> None:
        for value in [*node.inputs, *node.outputs]:
            if value is None or value.dtype in (None, ir.DataType.FLOAT) or isinstance(self.known.get(value), Constant):
                continue
            if not (value.uses() or value.is_graph_output()):
                continue
            if node.op_type not in self.held.get(value.dtype, ()):
                raise Refusal(f"{self.target} computes in float32, not in {value.dtype.name.lower()}")
            if value.is_graph_input() and value.dtype != ir.DataType.BOOL and node.op_type != "Gather":
                raise Refusal(f"{self.target} computes in float32, not in {value.dtype.name.lower()}")
        if any(isinstance(v.type, ir.SequenceType | ir.OptionalType) for v in node.outputs):
            raise Refusal(f"{self.target} has tensors only")


def _follow_open_sizes(node: ir.Node) -> None:
    """Name open sizes of what a node gives as those of its inputs are by now.

    Shape inference gives a size that it cannot follow, such as that of a batch through a Resize or a Tile, a
    name of its own; the walk knows better.
    """
    shapes = [value.shape for value in node.outputs]
    if any(shape is None for shape in shapes) or all(isinstance(d, int) for shape in shapes for d in shape or ()):
        return
    with suppress(HubError):
        infer(node)
    for value, before in zip(node.outputs, shapes, strict=True):
        after = value.shape
        if before is not None and (after is None or len(after) != len(before)):
            value.shape = before
        elif before is not None and after is not None:
            known = [isinstance(new, ir.SymbolicDim) and new.value is not None for new in after]
            sizes = zip(before, after, known, strict=True)
            value.shape = ir.Shape([new if k and not isinstance(old, int) else old for old, new, k in sizes])
