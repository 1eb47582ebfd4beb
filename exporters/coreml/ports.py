"""Inputs and outputs of a model as Core ML has them: their names, types and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from exporters.coreml.emit import MIL, RANK, Var, plain
from exporters.coreml.library import Library

__all__ = ["Ports"]

BATCHES = 64
"""The largest batch where the model leaves it open and nobody says."""


class Ports:
    """The inputs and outputs of one model."""

    def __init__(self, model: ir.Model, library: Library) -> None:
        self.library = library
        self.graph = model.graph
        self.types: list[Any] = []
        self.placeholders: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self._ranges: dict[str, Any] = {}
        taken: set[str] = set()
        for value in model.graph.inputs:
            if value.name in model.graph.initializers or value.dtype not in MIL or value.shape is None:
                continue
            name = plain(value.name or "")
            while name in taken:
                name += "_"
            taken.add(name)
            self.names[name] = value.name or ""
            shape = [d if isinstance(d, int) else self._range(str(d.value)) for d in value.shape] or [1]
            if len(shape) > RANK:
                continue
            kind = getattr(library.types, MIL[value.dtype])
            self.types.append(library.input_types.TensorType(name=name, shape=shape, dtype=kind))
            self.placeholders[name] = library.builder.placeholder(shape=self.types[-1].shape.symbolic_shape, dtype=kind)

    def _range(self, symbol: str) -> Any:
        if symbol not in self._ranges:
            self._ranges[symbol] = self.library.input_types.RangeDim(1, BATCHES, default=1)
        return self._ranges[symbol]

    def enter(self, inputs: Mapping[str, Var]) -> dict[str, Var]:
        """The variables of the inputs by the names that ONNX has."""
        return {self.names[name]: var for name, var in inputs.items()}

    def leave(self, variables: Sequence[Var]) -> dict[str, Var]:
        """The variables of the outputs by the names that Core ML takes."""
        result = {}
        for value, var in zip(self.graph.outputs, variables, strict=True):
            name = plain(value.name or "")
            while name in result or name in self.names:
                name += "_"
            result[name] = var
        return result
