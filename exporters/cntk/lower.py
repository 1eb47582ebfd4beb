"""The walk over the graph: every node becomes functions and calls."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from exporters.cntk.emit import SIZES_HINT, Emitter
from exporters.cntk.names import plain
from exporters.cntk.net import Tensor, Variable
from exporters.cntk.ops import OPS
from exporters.codegen.names import unique
from hub.canonical import layer_of
from hub.errors import Refusal

__all__ = ["Lowering"]


class Lowering(Emitter):
    """Makes the functions of one model: of samples, or with `batch` false of whole tensors."""

    table = OPS

    def __init__(self, model: ir.Model, batch: bool) -> None:
        super().__init__(model, batch)
        self.inputs: list[Variable] = []
        self.named: dict[Variable, str] = {}
        self._taken: set[str] = set()

    def enter(self, value: ir.Value) -> Tensor:
        """The variable of an input: its batch is its first open axis, or its first axis."""
        shape = self.shape(value)
        if self.batch and not shape:
            raise Refusal("a number without a batch")
        at = next((i for i, size in enumerate(shape) if not isinstance(size, int)), 0) if self.batch else None
        sample = tuple(size for i, size in enumerate(shape) if i != at)
        name = unique(plain(value.name or ""), self._taken)
        variable = Variable("input", sample, name, batch=self.batch)
        self.inputs.append(variable)
        if not all(isinstance(size, int) for size in sample):
            raise Refusal("sizes other than the batch are open", SIZES_HINT)
        if any(size == 0 for size in sample):
            raise Refusal("a tensor without elements")
        return Tensor(variable, at, "N" if at is None else shape[at])

    def lost(self, value: ir.Value) -> Tensor:
        """A variable that no function makes."""
        shape = self.shape(value)
        if self.batch and shape:
            return Tensor(Variable("output", shape[1:]), 0, shape[0])
        return Tensor(Variable("output", shape), None)

    def leave(self, value: ir.Value) -> Tensor:
        """The variable of an output."""
        tensor = self.tensor(value)
        if self.batch and tensor.at is None:
            raise Refusal("it does not depend on the batch")
        return tensor

    def define(self, node: ir.Node, results: Sequence[Tensor]) -> None:
        """Keep what a node made, the last of which leaves its layer."""
        if not self.batch:
            results = [self.together(tensor) for tensor in results]
        super().define(node, results)
        self.exits[layer_of(node)] = results[0].variable
