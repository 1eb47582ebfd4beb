"""A network that is ready to be written, and how its inputs and outputs differ from the source's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from exporters.cntk.lower import Lowering
from exporters.cntk.net import Tensor, Variable

__all__ = ["Network"]


@dataclass
class Network:
    """`outputs` are the named variables of `graph.outputs`, `tensors` what they are in ONNX."""

    emit: Lowering
    outputs: list[Variable]
    graph: ir.Graph
    tensors: Sequence[Tensor]

    def interface(self) -> str:
        """What a program needs to feed it in the source's form, as JSON; nothing where that is its own form."""
        ports: dict[str, Any] = {"inputs": {}, "outputs": {}, "layers": {}}
        for kind, name, value, tensor in self._ports():
            entry: dict[str, Any] = {}
            if value.dtype is not None and value.dtype != ir.DataType.FLOAT:
                entry["dtype"] = value.dtype.numpy().name
            if tensor.at:
                entry["perm"] = _to_front(tensor) if kind == "inputs" else _from_front(tensor)
            if entry:
                ports[kind][name] = {"shape": list(tensor.shape), **entry}
        for layer, variable in self.emit.exits.items():
            name = variable.function.name if variable.function is not None else ""
            if name and self.emit.named.get(variable) == layer and name != layer:
                ports["layers"][name] = {"holds": layer}
        said = {kind: entries for kind, entries in ports.items() if entries}
        return json.dumps(said) if said else ""

    def changes(self) -> list[str]:
        """The same, a sentence each."""
        lines = []
        for kind, name, value, tensor in self._ports():
            what = f"the {kind[:-1]} {name!r}"
            if value.dtype is not None and value.dtype != ir.DataType.FLOAT:
                lines.append(f"{what} is float32 in CNTK; it is {value.dtype.numpy().name} in the source")
            if tensor.at:
                lines.append(f"{what} has the batch first; it is axis {tensor.at} in the source")
        return lines

    def _ports(self) -> Iterator[tuple[str, str, ir.Value, Tensor]]:
        inputs = [value for value in self.graph.inputs if value.name not in self.graph.initializers]
        for variable, value in zip(self.emit.inputs, inputs, strict=True):
            tensor = self.emit.known[value]
            assert isinstance(tensor, Tensor)
            yield "inputs", variable.name, value, tensor
        for variable, value, tensor in zip(self.outputs, self.graph.outputs, self.tensors, strict=True):
            yield "outputs", variable.function.name if variable.function else "", value, tensor


def _to_front(tensor: Tensor) -> list[int]:
    """The permutation that puts the batch first."""
    assert tensor.at is not None
    return [tensor.at, *(axis for axis in range(tensor.rank) if axis != tensor.at)]


def _from_front(tensor: Tensor) -> list[int]:
    """The permutation that puts the batch, which is first, where it was."""
    order = _to_front(tensor)
    return [order.index(axis) for axis in range(tensor.rank)]
