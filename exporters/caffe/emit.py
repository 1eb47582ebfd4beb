"""What the op functions ask and say: blobs, constants, layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from exporters.caffe.net import Blob, Layer, Size
from exporters.constants import Constant, floats
from exporters.lowering import Walk
from hub.canonical import layer_of
from hub.errors import Refusal

__all__ = ["BATCH_HINT", "SIZES_HINT", "Emitter"]

BATCH_HINT = "fix the batch size: batch=1"
SIZES_HINT = "give the sizes of the inputs: inputs=, --input"


class Emitter(Walk[Blob]):
    """The first argument of every op function: it knows the values made so far and collects layers."""

    target = "Caffe"

    def __init__(self, model: ir.Model, dialect: str) -> None:
        super().__init__(model)
        self.dialect = dialect
        self.layers: list[Layer] = []
        self.exits: dict[str, Blob] = {}
        self._parameters: dict[ir.Value, Blob] = {}
        self.absorbed: dict[ir.Node, Blob] = {}
        self._named: set[str] = set()

    # -- values ---------------------------------------------------------------------------------

    def weight(self, value: ir.Value | None, what: str) -> Constant:
        """A constant of float32.

        Raises:
            Refusal: it is computed at run time.
        """
        constant = self.constant(value)
        if constant is None:
            raise Refusal(f"{what} is computed at run time; in Caffe it is part of the layer")
        return floats(constant)

    def blob(self, value: ir.Value) -> Blob:
        """The blob that holds `value`; a constant becomes a Parameter layer."""
        known = self.known[value]
        if isinstance(known, Blob):
            return known
        if value not in self._parameters:
            self._parameters[value] = self.parameter(known)
        return self._parameters[value]

    def parameter(self, constant: Constant, role: str = "constant") -> Blob:
        """A constant as a blob of its own."""
        if not constant.size:
            raise Refusal("a constant without elements")
        shape = {"shape": {"dim": list(constant.shape)}}
        return self.layer("Parameter", [], constant.shape, role, [floats(constant)], parameter_param=shape)

    # -- layers ---------------------------------------------------------------------------------

    def layer(
        self,
        type_: str,
        bottoms: Sequence[Blob],
        shape: Sequence[Size],
        role: str | None = None,
        blobs: Sequence[Constant] = (),
        **parameters: dict[str, Any],
    ) -> Blob:
        """Add a layer with one top of `shape`. Without a `role` it is what the current node is about."""
        return self.split(type_, bottoms, [shape], role, blobs, **parameters)[0]

    def split(
        self,
        type_: str,
        bottoms: Sequence[Blob],
        shapes: Sequence[Sequence[Size]],
        role: str | None = None,
        blobs: Sequence[Constant] = (),
        **parameters: dict[str, Any],
    ) -> list[Blob]:
        """Add a layer with several tops."""
        if any(0 in shape for shape in shapes):
            raise Refusal("a tensor without elements")
        source = layer_of(self.node) if self.node is not None else ""
        if role is None:
            role = type_.lower() if source in self._named else ""
        if not role:
            self._named.add(source)
        layer = Layer(type_, list(bottoms), [], {k: v for k, v in parameters.items() if v}, blobs, source, role)
        layer.tops = [Blob(tuple(shape), layer) for shape in shapes]
        self.layers.append(layer)
        return layer.tops

    # -- sizes ----------------------------------------------------------------------------------

    def fixed(self, shape: Sequence[Size], start: int = 1) -> list[int]:
        """The sizes from axis `start` on.

        Raises:
            Refusal: one of them is open; in Caffe only the batch can be.
        """
        sizes = shape[start:]
        if not all(isinstance(size, int) for size in sizes):
            if start == 0 and all(isinstance(size, int) for size in shape[1:]):
                raise Refusal("it works along the batch, whose size is open", BATCH_HINT)
            raise Refusal("a size other than the batch is open", SIZES_HINT)
        return [size for size in sizes if isinstance(size, int)]

    def broadcast(self, a: Sequence[Size], b: Sequence[Size]) -> tuple[Size, ...]:
        """The shape of `a` and `b` broadcast against each other; an open size only meets itself or 1."""
        rank = max(len(a), len(b))
        pairs = zip((*[1] * (rank - len(a)), *a), (*[1] * (rank - len(b)), *b), strict=True)
        result: list[Size] = []
        for left, right in pairs:
            if left != right and 1 not in (left, right):
                raise Refusal(f"sizes {left} and {right} that must be the same", BATCH_HINT)
            result.append(right if left == 1 else left)
        return tuple(result)
