"""The table of neural network layers, and the context in which a layer function works.

A layer is one plain function: positional parameters are the context and the inputs (`*inputs` where their number
varies), keyword-only ones the fields of its message, with the format's defaults: an enumeration by the name of its
value, an absent message as None. A field that is set and that the function does not name is refused:

    @layer("clip")
    def clip(net, x, *, minVal, maxVal): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import InvalidModel, Refusal
from importers.coreml.neuralnetwork.weights import Array, Weights

__all__ = ["LAYERS", "Context", "call", "layer"]

Function = Callable[..., Any]

LAYERS: dict[str, Function] = {}


def layer(*names: str) -> Callable[[Function], Function]:
    """Register the function of one or more layer types, which are names of fields in `NeuralNetworkLayer`."""

    def register(function: Function) -> Function:
        for name in names:
            if name in LAYERS:
                raise ValueError(f"{name} is registered twice")
            LAYERS[name] = function
        return function

    return register


class Context:
    """What the functions of one layer work with: `message` is the layer, `kind` its type."""

    def __init__(self, builder: GraphBuilder, message: Any, kind: str, weights: Weights, scope: Any) -> None:
        self.builder = builder
        self.message = message
        self.kind = kind
        self.weights = weights
        self.scope = scope
        """The network around, for layers that contain others."""

    def require(self, condition: bool, problem: str) -> None:
        """InvalidModel, unless the condition holds."""
        if not condition:
            raise InvalidModel(problem)

    # -- emitting ------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Emit a node."""
        return self.builder.op(op_type, *inputs, **attributes)

    def ints(self, data: Sequence[int] | int, name: str = "sizes") -> ir.Value:
        """An int64 constant."""
        return self.builder.ints(data, name)

    def number(self, value: npt.ArrayLike, name: str = "number") -> ir.Value:
        """A float32 constant."""
        return self.builder.constant(np.asarray(value, np.float32), name)

    def weight(
        self, params: Any, shape: Sequence[int], name: str, transform: Callable[[Array], Array] | None = None
    ) -> ir.Value:
        """Weights of the layer as an initializer."""
        return self.builder.constant(self.weights.tensor(params, shape, name, transform), name, "weight")

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """A Reshape, with 0 and -1 as ONNX has them."""
        return self.op("Reshape", x, self.ints(list(shape), "shape"))

    def unsqueeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """New axes of size 1."""
        return self.op("Unsqueeze", x, self.ints(list(axes), "axes"))

    def wide(self, x: ir.Value) -> ir.Value:
        """A batch of vectors as channels, with height and width of 1; layers of vectors take it as it was."""
        y = self.unsqueeze(x, [2, 3])
        self.scope.narrow[id(y)] = x
        return y

    def narrow(self, x: ir.Value) -> ir.Value | None:
        """The batch of vectors that `wide` made channels of."""
        found: ir.Value | None = self.scope.narrow.get(id(x))
        return found

    def squeeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Without these axes of size 1."""
        return self.op("Squeeze", x, self.ints(list(axes), "axes"))

    def floats(self, x: ir.Value) -> ir.Value:
        """As float32, which is all that a network computes with."""
        return x if x.dtype == ir.DataType.FLOAT else self.op("Cast", x, to=ir.DataType.FLOAT.value)

    def int64(self, x: ir.Value) -> ir.Value:
        """As whole numbers, which indices and sizes are."""
        return x if x.dtype == ir.DataType.INT64 else self.op("Cast", x, to=ir.DataType.INT64.value)

    def bool(self, x: ir.Value) -> ir.Value:
        """Where it is not zero."""
        return x if x.dtype == ir.DataType.BOOL else self.op("Cast", x, to=ir.DataType.BOOL.value)

    # -- shapes --------------------------------------------------------------------------------------------

    def shape(self, x: ir.Value) -> list[int | None]:
        """The sizes of a value; None for one that is not known."""
        if x.shape is None:
            raise Refusal("the number of axes of its input depends on numbers that are computed")
        return [size if isinstance(size, int) else None for size in x.shape]

    def rank(self, x: ir.Value) -> int:
        """How many axes a value has."""
        return len(self.shape(x))

    def size(self, x: ir.Value, axis: int) -> int:
        """One size, which must be known."""
        size = self.shape(x)[axis]
        if size is None:
            raise Refusal(f"size {axis} of its input is not known", "give sizes of the inputs with inputs=")
        return size

    def sizes(self, x: ir.Value) -> list[int]:
        """All sizes, which must be known."""
        return [self.size(x, axis) for axis in range(self.rank(x))]

    def axis(self, x: ir.Value, axis: int, beyond: int = 0) -> int:
        """An axis, which may count from the end, as a number from 0 on."""
        rank = self.rank(x) + beyond
        self.require(-rank <= axis < rank, f"axis {axis} of {rank}")
        return axis % rank

    def at_least(self, x: ir.Value, rank: int) -> None:
        """InvalidModel where the input has fewer axes than this layer needs."""
        self.require(self.rank(x) >= rank, f"its input has {self.rank(x)} axes, {rank} are needed")

    def as_rank(self, x: ir.Value, rank: int) -> tuple[ir.Value, Callable[[ir.Value], ir.Value]]:
        """The value with its first axes made one, or ones in front, so that it has `rank`; and the way back."""
        own = self.rank(x)
        if own == rank:
            return x, lambda y: y
        if own < rank:
            new = list(range(rank - own))
            return self.unsqueeze(x, new), lambda y: self.squeeze(y, new)
        extra = own - rank
        head, tail = self.shape(x)[: extra + 1], self.shape(x)[extra + 1 :]
        flat = self._resized(x, [None, *tail], [self.ints([-1])], lambda: self.op("Shape", x, start=extra + 1))

        def back(y: ir.Value) -> ir.Value:
            sizes = [*head, *self.shape(y)[1:]]
            start = [self.op("Shape", x, start=0, end=extra + 1)] if sizes.count(None) > 1 else []
            return self._resized(y, sizes, start, lambda: self.op("Shape", y, start=1))

        return flat, back

    def _resized(
        self, x: ir.Value, sizes: Sequence[int | None], head: Sequence[ir.Value], tail: Callable[[], ir.Value]
    ) -> ir.Value:
        """A Reshape to these sizes, or, where several are not known, to those of `head` and `tail`."""
        if sizes.count(None) <= 1:
            return self.reshape(x, [-1 if size is None else size for size in sizes])
        return self.op("Reshape", x, self.op("Concat", *head, tail(), axis=0))


def call(net: Context, params: Any, inputs: Sequence[ir.Value]) -> list[ir.Value]:
    """The results of a layer.

    Raises:
        Refusal: it has no form.
        InvalidModel: it contradicts itself.
    """
    function = LAYERS.get(net.kind)
    if function is None:
        raise Refusal("there is no form of this layer yet")
    signature = inspect.signature(function)
    names = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    if not any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        least = sum(p.default is p.empty for p in positional)
        if not least <= len(inputs) <= len(positional):
            raise InvalidModel(f"it has {len(inputs)} inputs, {least} to {len(positional)} are possible")
    for descriptor, _ in params.ListFields():
        if descriptor.name not in names:
            raise Refusal(f"its field {descriptor.name} is not supported")
    for unknown in _unknown(params):
        raise Refusal(f"its field of the number {unknown.field_number} is not known: it is newer than this, or damaged")
    fields = {name: _field(params, name) for name in names}
    result = function(net, *inputs, **fields)
    return [result] if isinstance(result, ir.Value) else list(result)


def _unknown(params: Any) -> Any:
    from google.protobuf.unknown_fields import UnknownFieldSet

    return UnknownFieldSet(params)


def _field(params: Any, name: str) -> Any:
    descriptor = params.DESCRIPTOR.fields_by_name[name]
    value = getattr(params, name)
    if hasattr(value, "__len__") and not isinstance(value, str | bytes):
        return list(value)
    if descriptor.message_type is not None:
        return value if params.HasField(name) else None
    if descriptor.enum_type is not None:
        known = descriptor.enum_type.values_by_number.get(value)
        if known is None:
            raise InvalidModel(f"{name} is {value}, which is none of its values")
        return known.name
    return value
