"""The walk over the graph: every node becomes layers."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops import OPS
from exporters.caffe.words import DOMAIN, named, say
from hub.canonical import layer_of
from hub.errors import Refusal
from hub.origin import Origin

__all__ = ["Lowering"]


class Lowering(Emitter):
    """Makes the layers of one model whose shapes are known but for the batch."""

    table = OPS

    def __init__(self, model: ir.Model, dialect: str, origins: Sequence[Origin] = ()) -> None:
        super().__init__(model, dialect)
        self.origins = origins

    def enter(self, value: ir.Value) -> Blob:
        """The blob of an input."""
        return Blob(self.shape(value), None, value.name or "")

    def lost(self, value: ir.Value) -> Blob:
        """A blob that no layer makes."""
        return Blob(self.shape(value))

    def leave(self, value: ir.Value) -> Blob:
        """The blob of an output."""
        return self.blob(value)

    def operation(self, node: ir.Node) -> Sequence[Blob]:
        """The layers of one node."""
        if node in self.absorbed:
            return [self.absorbed[node]]
        if node.domain == DOMAIN:
            return [say(self, node)]
        return super().operation(node)

    def define(self, node: ir.Node, results: Sequence[Blob]) -> None:
        """Keep the blobs of a node, the last of which leaves its layer."""
        super().define(node, results)
        for blob, _ in zip(results, node.outputs, strict=False):
            self.exits[layer_of(node)] = blob

    def name(self, refusals: list[tuple[str, str, Refusal]]) -> list[tuple[str, str, Refusal]]:
        """The refusals by the names that the layers had in Caffe."""
        return named(refusals, self.origins)
