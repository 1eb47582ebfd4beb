"""What the op functions ask and say: blobs, constants, layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from exporters.caffe.net import Blob, Layer, Size
from exporters.constants import Array, Constant
from hub.canonical import layer_of
from hub.errors import Refusal

__all__ = ["BATCH_HINT", "SIZES_HINT", "Emitter", "Known", "elements", "floats"]

Known: TypeAlias = "Constant | Blob"

BATCH_HINT = "fix the batch size: batch=1"
SIZES_HINT = "give the sizes of the inputs: inputs=, --input"


class Emitter:
    """The first argument of every op function: it knows the values made so far and collects layers."""

    def __init__(self, model: ir.Model, dialect: str) -> None:
        self.graph = model.graph
        self.opsets = dict(model.graph.opset_imports)
        self.dialect = dialect
        self.known: dict[ir.Value, Known] = {}
        self.layers: list[Layer] = []
        self.node: ir.Node | None = None
        self.exits: dict[str, Blob] = {}
        self._parameters: dict[ir.Value, Blob] = {}
        self._notes: dict[str, list[str]] = {}
        self.absorbed: dict[ir.Node, Blob] = {}
        self._named: set[str] = set()

    # -- values ---------------------------------------------------------------------------------

    def constant(self, value: ir.Value | None) -> Constant | None:
        """The constant that `value` is, or None if it is computed (or absent)."""
        known = self.known.get(value) if value is not None else None
        return known if isinstance(known, Constant) else None

    def array(self, value: ir.Value | None) -> Array | None:
        """The data of a constant."""
        constant = self.constant(value)
        return None if constant is None else constant.numpy()

    def weight(self, value: ir.Value | None, what: str) -> Constant:
        """A constant of float32.

        Raises:
            Refusal: it is computed at run time.
        """
        constant = self.constant(value)
        if constant is None:
            raise Refusal(f"{what} is computed at run time; in Caffe it is part of the layer")
        return floats(constant)

    def ints(self, value: ir.Value | None, what: str) -> list[int]:
        """A constant list of ints, such as axes.

        Raises:
            Refusal: it is computed at run time.
        """
        array = self.array(value)
        if array is None:
            raise Refusal(f"{what} is computed at run time", "make it a constant of the model")
        return [int(e) for e in array.reshape(-1)]

    def scalar(self, value: ir.Value | None, what: str) -> float:
        """A constant of one element."""
        array = self.array(value)
        if array is None or array.size != 1:
            raise Refusal(f"{what} is not one constant number")
        return float(array.reshape(-1)[0])

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

    def shape(self, value: ir.Value) -> tuple[Size, ...]:
        """The shape of a value; a size that is not known has a name."""
        known = self.known.get(value)
        if known is not None:
            return tuple(known.shape)
        if value.shape is None:
            raise Refusal("the number of dimensions is not known")
        return tuple(d if isinstance(d, int) else str(d.value or f"?{i}") for i, d in enumerate(value.shape))

    def result(self, index: int = 0) -> tuple[Size, ...]:
        """The shape of an output of the current node."""
        assert self.node is not None
        return self.shape(self.node.outputs[index])

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

    # -- what has to be said ---------------------------------------------------------------------

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


def elements(sizes: Sequence[int]) -> int:
    """The product of sizes."""
    result = 1
    for size in sizes:
        result *= size
    return result


def floats(constant: Constant) -> Constant:
    """The constant in float32, converted when it is written."""
    if constant.dtype == ir.DataType.FLOAT:
        return constant
    load = constant.load
    return Constant(constant.shape, ir.DataType.FLOAT, lambda: load().astype(np.float32), constant.root)
