"""The table of Caffe layers, and the context in which a layer function works.

A layer is one plain function: positional parameters are the context and the bottoms (as `*bottoms`
where their number varies), keyword-only ones the fields of the layer's own `*_param` message, with
Caffe's defaults. A field that is set and that the function does not name is refused, unless it
cannot matter at inference (`IGNORABLE`):

    @layer("ELU", param="elu_param")
    def elu(caffe, x, *, alpha=1.0): ...
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import InvalidModel, Refusal
from hub.optable import bind_attributes, parameters_of
from hub.origin import record
from hub.schemas import messages
from hub.tensors import ViewTensor
from importers.caffe.net import Layer
from importers.caffe.wire import Blob

__all__ = ["LAYERS", "Context", "Entry", "apply", "layer", "record_words"]

Function = Callable[..., Any]


class Entry:
    """A registered function and the field of a layer in which its parameters are.

    `words`: ONNX says the layer in many nodes, so that its own words are recorded (`hub/origin.py`).
    """

    def __init__(self, function: Function, param: str | None, words: bool = False) -> None:
        self.function = function
        self.param = param
        self.words = words


LAYERS: dict[str, Entry] = {}
"""Layer type -> function."""

IGNORABLE = frozenset(
    """engine weight_filler bias_filler filler scale_filler force_nd_im2col stable_prod_grad
    moving_average_fraction debug_info""".split()
)
"""Fields that only matter to training, to the start of training or to speed."""

IN_PLACE = frozenset(
    """BNLL BatchNorm Bias Clip Dropout ELU Exp Log MVN PReLU Power ReLU ReLU6 Scale Sigmoid Softmax Swish TanH
    Threshold""".split()
)
"""Layers that Caffe does right where a top has the name of its bottom; others overwrite what they still need."""

MOST_NUMBERS = (1 << 31) - 1
"""Numbers in a blob; Caffe counts them in an int."""


def layer(*types: str, param: str | None = None, words: bool = False) -> Callable[[Function], Function]:
    """Register a function for layer types; a second registration is an error. See `Entry`."""

    def register(function: Function) -> Function:
        for name in types:
            if name in LAYERS:
                raise ValueError(f"Caffe {name} is registered twice")
            LAYERS[name] = Entry(function, param, words)
        return function

    return register


class Weights:
    """The blobs of the layers, and what layers share of them."""

    def __init__(self, random: bool = False) -> None:
        self.random = random
        self.by_layer: dict[str, tuple[int, list[Blob]]] = {}
        self.shared: dict[str, list[tuple[str, int]]] = {}
        """By the name of a shared param: the (layer, number) that hold it, in the order of the net."""
        self.ambiguous: set[str] = set()
        self.missing: list[str] = []
        self.values: dict[tuple[Any, ...], ir.Value] = {}

    def of(self, layer: Layer, number: int) -> tuple[Blob | None, tuple[str, int]]:
        """The blob `number` of a layer and whose it is; of a shared one Caffe keeps the last in the file."""
        holders = [(layer.name, number)]
        if number < len(layer.message.param) and (name := layer.message.param[number].name):
            holders = self.shared.get(name, holders)
        found = [
            (self.by_layer[holder][0], holder)
            for holder, index in holders
            if holder in self.by_layer and index < len(self.by_layer[holder][1])
        ]
        key = holders[0]
        if not found:
            return None, key
        _, last = max(found)
        index = dict(reversed(holders))[last]
        return self.by_layer[last][1][index], key


class Context:
    """What a layer function needs: emit ONNX, get the layer's weights."""

    def __init__(self, builder: GraphBuilder, layer: Layer, weights: Weights, warnings: list[str]) -> None:
        self.builder = builder
        self.layer = layer
        self.store = weights
        self.warnings = warnings
        self.asked = 0
        self.used: dict[int, tuple[ir.Value, tuple[int, ...]]] = {}
        """By number, the blobs that became initializers, and the shapes they have in Caffe."""

    @property
    def tops(self) -> int:
        """How many tops the layer has."""
        return len(self.layer.message.top)

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Emit a node of this layer."""
        return self.builder.op(op_type, *inputs, **attributes)

    def blobs(self, **shapes: Sequence[int] | None) -> dict[str, Blob | None]:
        """The layer's blobs in Caffe's order, checked; a shape of None means that there is no such blob.

        A blob is None where the layer's weights are missing (that is collected) or to be random.

        Raises:
            InvalidModel: the file has another number of blobs, or one of another shape.
        """
        expected = {name: tuple(int(s) for s in shape) for name, shape in shapes.items() if shape is not None}
        self.asked = len(expected)
        own = self.store.by_layer.get(self.layer.name)
        if own is not None and len(own[1]) != len(expected):
            names = ", ".join(expected) or "none"
            raise InvalidModel(f"{self.layer} needs {len(expected)} blobs ({names}), the file has {len(own[1])}")
        if expected and self.layer.name in self.store.ambiguous:
            raise InvalidModel(
                f"{self.layer}: several layers have this name, so whose weights are whose cannot be told"
            )
        result: dict[str, Blob | None] = {}
        for number, (name, shape) in enumerate(expected.items()):
            found, _ = self.store.of(self.layer, number)
            if found is None:
                self.lacking()
            elif not found.fits(shape) and not (self._permissive(number) and found.numbers.size == np.prod(shape)):
                raise InvalidModel(f"{self.layer}: blob {number} ({name}) has the shape {found.shape}, not {shape}")
            result[name] = found
        return result

    def warn(self, text: str) -> None:
        """Tell the user, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def lacking(self) -> None:
        """Note that the layer's weights are missing, unless they are to be random."""
        if not self.store.random and self.layer.name not in self.store.missing:
            self.store.missing.append(self.layer.name)

    def _permissive(self, number: int) -> bool:
        params = self.layer.message.param
        return number < len(params) and params[number].share_mode == params[number].PERMISSIVE

    def weights(self, **shapes: Sequence[int] | None) -> dict[str, ir.Value]:
        """The blobs of the layer as initializers, by name; see `blobs`."""
        found = self.blobs(**shapes)
        return {
            name: self.weight(name, shapes[name] or (), blob, number)
            for number, (name, blob) in enumerate(found.items())
        }

    def weight(
        self,
        name: str,
        shape: Sequence[int],
        blob: Blob | None,
        number: int,
        view: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
        form: str = "",
    ) -> ir.Value:
        """Blob `number` as an initializer of `shape`; one for all layers that share it.

        `view` makes another view of the array of that shape, `form` names that view.
        """
        _, owner = self.store.of(self.layer, number)
        key = (owner, tuple(shape), form)
        if key not in self.store.values:
            self.store.values[key] = self.builder.constant(self._tensor(name, shape, blob, owner, view), name, "weight")
        self.used[number] = self.store.values[key], tuple(shape)
        return self.store.values[key]

    def _tensor(
        self,
        name: str,
        shape: Sequence[int],
        blob: Blob | None,
        owner: tuple[str, int],
        view: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None,
    ) -> ir.TensorProtocol:
        turn = view if view is not None else (lambda array: array)
        if blob is None:
            empty = turn(np.broadcast_to(np.float32(0), tuple(shape)))
            if not self.store.random:
                return ViewTensor(empty)
            seed = zlib.crc32(f"{owner[0]}/{owner[1]}".encode())
            return _lazy(lambda: turn(random_weight(name, shape, seed)), empty.shape)
        array = turn(blob.numbers.reshape(tuple(shape)))
        if array.dtype == np.float32:
            return ViewTensor(array, mapping=blob.mapping)
        return _lazy(lambda: array.astype(np.float32), array.shape)

    def numbers(self, name: str, shape: Sequence[int], blob: Blob | None, number: int) -> npt.NDArray[np.float32]:
        """The numbers of a small blob, for what has to be computed from them."""
        if blob is not None:
            return np.asarray(blob.numbers, np.float32).reshape(tuple(shape))
        if not self.store.random:
            return np.broadcast_to(np.float32(0), tuple(shape))
        _, owner = self.store.of(self.layer, number)
        return random_weight(name, shape, zlib.crc32(f"{owner[0]}/{owner[1]}".encode()))

    def constant(self, data: npt.ArrayLike, name: str) -> ir.Value:
        """A float32 constant."""
        return self.builder.constant(np.asarray(data, np.float32), name)

    def ints(self, data: Sequence[int] | int, name: str) -> ir.Value:
        """An int64 constant."""
        return self.builder.ints(data, name)

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """A Reshape to `shape`, with 0 and -1 as ONNX has them."""
        return self.op("Reshape", value, self.ints(list(shape), "shape"))

    def shape(self, value: ir.Value) -> list[int | None]:
        """The shape of a value; None for a size that is not known."""
        if value.shape is None:
            raise Refusal("the number of axes of its bottom is not known")
        return [size if isinstance(size, int) else None for size in value.shape]

    def rank(self, value: ir.Value) -> int:
        """How many axes a value has."""
        return len(self.shape(value))

    def size(self, value: ir.Value, axis: int) -> int:
        """The size of one axis, which must be known."""
        size = self.shape(value)[axis]
        if size is None:
            raise Refusal(
                f"the size of axis {axis} of its bottom is not known", "give sizes of the inputs with inputs="
            )
        return size

    def sizes(self, value: ir.Value, start: int = 0, end: int | None = None) -> list[int]:
        """The sizes of axes from `start` to `end`, which must be known."""
        return [self.size(value, axis) for axis in range(self.rank(value))[start:end]]

    def axis(self, value: ir.Value, axis: int, what: str = "axis", beyond: bool = False) -> int:
        """A checked axis, counted from the front; with `beyond`, the one behind the last is one as well."""
        rank = self.rank(value)
        if not -rank <= axis < rank + beyond:
            raise InvalidModel(f"{self.layer}: {what} {axis} of a bottom with {rank} axes")
        return axis % rank if axis < 0 else axis

    def require(self, holds: bool, what: str) -> None:
        """InvalidModel, naming the layer, unless `holds`."""
        if not holds:
            raise InvalidModel(f"{self.layer}: {what}")

    def not_in_training(self, what: str) -> None:
        """Refuse a layer whose own phase in a prototxt is TRAIN: it trains for ever.

        A caffemodel has the phase of the training that wrote it in each layer, where it means nothing.
        """
        message = self.layer.message
        if self.layer.written_as_text and message.HasField("phase") and message.phase == 0:
            raise Refusal(f"its phase is TRAIN, in which it {what}", "take `phase: TRAIN` out of the layer")

    def broadcastable(self, value: ir.Value, rank: int, axis: int, name: str) -> ir.Value:
        """A value whose axes stand at `axis` of `rank`, with ones around, to be broadcast."""
        own = self.rank(value)
        if axis + own == rank:
            return value
        shape = [*[1] * axis, *(0 if i == axis == 0 else s for i, s in enumerate(self.shape(value)))]
        shape += [1] * (rank - axis - own)
        if any(s is None for s in shape):
            raise Refusal("sizes of its second bottom are not known", "give sizes of the inputs with inputs=")
        return self.op("Reshape", value, self.ints([int(s or 0) for s in shape], f"{name}_shape"))


def random_weight(name: str, shape: Sequence[int], seed: int) -> npt.NDArray[np.float32]:
    """Seeded numbers of a size with which signals neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    if name in ("variance", "factor"):
        return np.ones(tuple(shape), np.float32) if name == "factor" else _uniform(rng, shape)
    fan_in = int(np.prod(list(shape)[1:])) if len(shape) > 1 else 10
    return np.asarray(rng.standard_normal(tuple(shape)) / max(fan_in, 1) ** 0.5, np.float32)


def _uniform(rng: np.random.Generator, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    return np.asarray(rng.uniform(0.5, 1.5, tuple(shape)), np.float32)


def _lazy(make: Callable[[], npt.NDArray[Any]], shape: Sequence[int]) -> ir.TensorProtocol:
    """A float32 tensor that is computed each time that it is written."""

    def tensor() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(make(), np.float32))

    return ir.LazyTensor(tensor, dtype=ir.DataType.FLOAT, shape=ir.Shape(list(shape)))


def record_words(context: Context, bottoms: Sequence[ir.Value], result: ir.Value) -> None:
    """Record the layer's own words where ONNX says it in many nodes, of which the last gives `result`."""
    entry, node = LAYERS[context.layer.type], result.producer()
    if not entry.words or entry.param is None or node is None or sorted(context.used) != list(range(context.asked)):
        return
    from google.protobuf import text_format

    message = messages("caffe").LayerParameter()
    if context.layer.message.HasField(entry.param):
        getattr(message, entry.param).CopyFrom(getattr(context.layer.message, entry.param))
    text = text_format.MessageToString(message, as_one_line=True)
    record(node, "caffe", context.layer.type, text, bottoms, [blob for _, blob in sorted(context.used.items())])


def apply(context: Context, bottoms: Sequence[ir.Value]) -> list[ir.Value]:
    """Call the function of a layer: its bottoms, and its parameters bound to keywords.

    Raises:
        Refusal: there is none, or it does not name a field that is set.
        InvalidModel: the layer does not fit its bottoms or its weights.
    """
    entry, keywords = bind(context.layer)
    _check_in_place(context.layer)
    parameters = parameters_of(entry.function)[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    least = sum(p.default is p.empty for p in positional)
    most = 1 << 30 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    if not least <= len(bottoms) <= most:
        raise InvalidModel(f"{context.layer} has {len(bottoms)} bottoms, {least} are needed")
    result = entry.function(context, *bottoms, **keywords)
    if context.asked == 0 and context.layer.name in context.store.by_layer:
        context.blobs()
    values = list(result) if isinstance(result, list | tuple) else [result]
    if len(values) != context.tops:
        raise InvalidModel(f"{context.layer} has {context.tops} tops, it gives {len(values)}")
    for value in values:
        count = 1
        for size in context.shape(value):
            context.require(size is None or size > 0, f"a top of the shape {context.shape(value)} has no numbers")
            count *= 1 if size is None else size
        context.require(count <= MOST_NUMBERS, f"a top of {count} numbers is more than Caffe holds")
    return values


def _check_in_place(layer: Layer) -> None:
    message = layer.message
    shared = any(top == bottom for top, bottom in zip(message.top, message.bottom, strict=False))
    product = layer.type == "Eltwise" and message.eltwise_param.operation == message.eltwise_param.PROD
    if shared and layer.type not in IN_PLACE and not product:
        raise Refusal(
            "it works in place of its bottom, where Caffe overwrites what it still needs, or ends",
            "give its top a name of its own",
        )


def bind(layer: Layer) -> tuple[Entry, dict[str, Any]]:
    """The function of a layer and its parameters as keywords; what can be said without its bottoms.

    Raises:
        Refusal: as `apply`.
    """
    entry = LAYERS.get(layer.type)
    if entry is None:
        raise Refusal(*_why_unknown(layer.type))
    if _unknown_fields(layer.message):
        raise Refusal(
            "its message has fields that are unknown here", "give the prototxt as well: (prototxt, caffemodel)"
        )
    if entry.param is None or not layer.message.HasField(entry.param):
        return entry, bind_attributes(entry.function, {}, {})
    message = getattr(layer.message, entry.param)
    if _unknown_fields(message):
        raise Refusal(f"its {entry.param} has fields that are unknown here", "a prototxt would name them")
    given = {field.name: _plain(field, value) for field, value in message.ListFields()}
    named = {p.name for p in parameters_of(entry.function) if p.kind is p.KEYWORD_ONLY}
    defaults = {
        field.name: _plain(field, field.default_value)
        for field in message.DESCRIPTOR.fields
        if field.name not in named and field.has_default_value
    }
    return entry, bind_attributes(entry.function, given, defaults, IGNORABLE)


def _plain(field: Any, value: Any) -> Any:
    """A field as Python has it: enums by name, repeated fields as lists."""
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _unknown_fields(message: Any) -> bool:
    from google.protobuf.unknown_fields import UnknownFieldSet

    return len(UnknownFieldSet(message)) > 0


def _why_unknown(kind: str) -> tuple[str, str]:
    way = "cut the net before it with outputs=, or register a function with importers.caffe.layers.layer"
    if kind == "Python":
        return "it runs Python code, which is never executed", way
    return ("it has no type" if not kind else "this layer type is not supported yet"), way
