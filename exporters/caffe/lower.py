"""The walk over the graph: every node becomes layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import onnx_ir as ir

from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops import OPS
from exporters.caffe.words import DOMAIN, named, say
from exporters.constants import Constant, fold_constant
from hub.builder import infer
from hub.canonical import layer_of
from hub.errors import HubError, Refusal, UnsupportedOps
from hub.origin import Origin

__all__ = ["Lowering"]

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
"""What may compute with values other than float32, which Caffe holds as float32: truth values, and numbers
that count or point to something and so are far from 2 ** 24, where float32 is no longer exact."""


class Lowering(Emitter):
    """Makes the layers of one model whose shapes are known but for the batch."""

    def __init__(self, model: ir.Model, dialect: str, origins: Sequence[Origin] = ()) -> None:
        super().__init__(model, dialect)
        self.origins = origins

    def run(self) -> list[Blob]:
        """All nodes as `layers`; returns the blobs of the outputs.

        Raises:
            UnsupportedOps: listing everything that Caffe cannot say exactly.
        """
        refusals: list[tuple[str, str, Refusal]] = []
        for value in self.graph.inputs:
            if value.name in self.graph.initializers:
                continue
            if value.shape is None:
                refusals.append(("input", str(value.name), Refusal("the number of its dimensions is not known")))
                value.shape = ir.Shape([])
            self.known[value] = Blob(self.shape(value), None, value.name or "")
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
                self._lower(node)
            except Refusal as refusal:
                refusals.append((node.op_type, layer_of(node), refusal))
                for output in node.outputs:
                    if output.shape is None:
                        lost.add(output)
                    else:
                        self.known[output] = Blob(self.shape(output))
        blobs = []
        for output in self.graph.outputs:
            self.node = output.producer()  # a constant is called after what it comes from
            try:
                if output not in lost:
                    blobs.append(self.blob(output))
            except Refusal as refusal:
                refusals.append(("output", output.name or "", refusal))
        self.node = None
        if refusals:
            raise UnsupportedOps.collect("Caffe cannot say exactly:", named(refusals, self.origins))
        return blobs

    def _lower(self, node: ir.Node) -> None:
        if node in self.absorbed:
            self._define(node, [self.absorbed[node]])
            return
        if node.domain == DOMAIN:
            self._define(node, [say(self, node)])
            return
        inputs = [None if v is None else self.known[v] for v in node.inputs]
        if inputs and all(v is None or isinstance(v, Constant) for v in inputs):
            constants = [v for v in inputs if v is None or isinstance(v, Constant)]
            folded = fold_constant(node, constants, self.opsets.get("", 1))
            if folded is not None:
                self.known.update(zip(node.outputs, folded, strict=True))
                return
        self._check_types(node)
        self._follow_open_sizes(node)
        result = OPS.bind(node, self.opsets.get(node.domain, 1))(self)
        self._define(node, result if isinstance(result, list) else [result])

    def _define(self, node: ir.Node, results: Sequence[Blob]) -> None:
        for value, blob in zip(node.outputs, results, strict=False):
            expected = blob.shape if value.shape is None else self.shape(value)
            if len(expected) != blob.rank or any(
                isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(expected, blob.shape, strict=True)
            ):
                raise Refusal(f"its result has the shape {list(blob.shape)} here and {list(expected)} in ONNX")
            self.known[value] = blob
            value.shape = ir.Shape(blob.shape)
            self.exits[layer_of(node)] = blob

    def _follow_open_sizes(self, node: ir.Node) -> None:
        """Name open sizes of what a node gives as those of its inputs are by now.

        Shape inference gives a size that it cannot follow, such as that of a batch through a Resize or a Tile, a
        name of its own; the layers know better.
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

    def _check_types(self, node: ir.Node) -> None:
        for value in [*node.inputs, *node.outputs]:
            if value is None or value.dtype in (None, ir.DataType.FLOAT) or isinstance(self.known.get(value), Constant):
                continue
            if not (value.uses() or value.is_graph_output()):
                continue
            if node.op_type not in HELD.get(value.dtype, ()):
                raise Refusal(f"Caffe computes in float32, not in {value.dtype.name.lower()}")
            if value.is_graph_input() and value.dtype != ir.DataType.BOOL and node.op_type != "Gather":
                raise Refusal(f"Caffe computes in float32, not in {value.dtype.name.lower()}")
        if any(isinstance(v.type, ir.SequenceType | ir.OptionalType) for v in node.outputs):
            raise Refusal("Caffe has tensors only")
