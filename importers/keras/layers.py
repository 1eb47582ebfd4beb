"""The table of Keras layers, and the context in which a layer function works.

A layer is one plain function: positional parameters are the context and the input values (as
`*inputs` for a merge), keyword-only ones the layer's configuration. What the configuration has and
the function does not name is refused, unless it cannot matter at inference (`IGNORABLE`):

    @layer("Dense")
    def dense(keras, x, *, units, activation, use_bias): ...
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub import tensors
from hub.builder import GraphBuilder
from hub.errors import HubError, InvalidModel, Refusal
from hub.optable import bind_attributes, parameters_of
from hub.tensors import ViewTensor
from importers.keras import keras1
from importers.keras.config import Layer, Origin, class_name_of
from importers.keras.weights import PartWeights, WeightStore

__all__ = ["CALLS", "LAYERS", "OPERATIONS", "Context", "Part", "apply", "bind", "find", "layer", "operation", "plain"]

Function = Callable[..., Any]

LAYERS: dict[str, Function] = {}
"""Class name of a layer -> function."""

CALLS: dict[str, frozenset[str]] = {}
"""Class name of a layer -> the arguments of its call, beside the first, that its function takes."""

OPERATIONS: dict[str, Function] = {}
"""Class name of a Keras 3 operation, or name of a tf.keras one -> function of (context, *args, **kwargs)."""

IGNORABLE = frozenset(
    """name trainable batch_input_shape batch_shape input_shape input_dim input_dtype input_length
    build_config sparse ragged optional autocast seed activity_regularizer kernel_regularizer
    bias_regularizer depthwise_regularizer pointwise_regularizer gamma_regularizer beta_regularizer
    alpha_regularizer recurrent_regularizer embeddings_regularizer kernel_initializer bias_initializer
    depthwise_initializer pointwise_initializer gamma_initializer beta_initializer
    moving_mean_initializer moving_variance_initializer alpha_initializer recurrent_initializer
    embeddings_initializer kernel_constraint bias_constraint depthwise_constraint pointwise_constraint
    gamma_constraint beta_constraint alpha_constraint recurrent_constraint embeddings_constraint momentum
    synchronized fused virtual_batch_size noise_shape unit_forget_bias supports_masking W_regularizer
    b_regularizer U_regularizer W_constraint b_constraint U_constraint init inner_init forget_bias_init
    W_learning_rate_multiplier b_learning_rate_multiplier query_shape key_shape value_shape""".split()
)
"""Configuration that only matters to training or to building the layer."""

DEFAULTS = {
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "adjustment": None,
    "quantization_config": None,
    "lora_rank": None,
    "lora_alpha": None,
    "implementation": None,
    "adapt_stat": None,
    "mode": 0,
    "groups": 1,
}
"""Values at which configuration that no function names says nothing."""


MASKED = (
    "it is given a mask of the steps that count, and hub does not follow masks",
    "give sequences of one length, without mask_zero=True and without Masking, or cut the model before it (outputs=)",
)
"""Why a layer with a mask is refused, and the way out."""

USES_MASK = frozenset(
    """LSTM GRU SimpleRNN RNN Bidirectional TimeDistributed ConvLSTM1D ConvLSTM2D ConvLSTM3D CuDNNLSTM CuDNNGRU
    MultiHeadAttention GroupQueryAttention GroupedQueryAttention Attention AdditiveAttention GlobalAveragePooling1D
    GlobalAvgPool1D Softmax Lambda""".split()
)
"""Layers that compute something else where their input has a mask; the others pass it on or drop it."""

MOVES = frozenset("Flatten Reshape Permute RepeatVector Identity Concatenate Embedding".split())
"""Layers that take integers as they are."""

COMPARISONS = frozenset(["NotEqual", "math.not_equal"])
"""Operations that take integers as they are."""


def layer(*names: str, call: Sequence[str] = ()) -> Callable[[Function], Function]:
    """Register a function for layer classes; a second registration is an error.

    Arguments of the layer's call that are named in `call` go to the parameters of these names, where the function has
    them, and are further inputs where it has not.
    """
    CALLS.update(dict.fromkeys(names, frozenset(call)))
    return _register(LAYERS, names)


def operation(*names: str) -> Callable[[Function], Function]:
    """Register a function for operations on tensors."""
    return _register(OPERATIONS, names)


def _register(table: dict[str, Function], names: Sequence[str]) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        for name in names:
            if name in table:
                raise ValueError(f"Keras {name} is registered twice")
            table[name] = function
        return function

    return register


@dataclass(frozen=True)
class Part:
    """A sublayer: where Keras 3 keeps its weights, its name in those of other files, and its weights by name."""

    path: str
    name: str
    shapes: Mapping[str, Sequence[int | None] | None]


class Context:
    """What a layer function needs: emit ONNX, get the layer's weights, change layout."""

    def __init__(
        self,
        builder: GraphBuilder,
        store: WeightStore | None,
        layer: Layer,
        scope: Sequence[Layer],
        name: str,
        origin: Origin,
        cache: dict[tuple[str, str], ir.Value],
    ) -> None:
        self.builder = builder
        self.store = store
        self.layer = layer
        self.scope = scope
        self.name = name
        self.origin = origin
        self._cache = cache

    @property
    def version(self) -> int:
        """Major version of the Keras that wrote the file: it decides what `hard_sigmoid` means."""
        return self.origin.version

    @property
    def theano(self) -> bool:
        """Whether Theano wrote the file: its kernels are turned, and SAME pads otherwise."""
        return self.origin.backend == "theano"

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Emit a node of this layer."""
        return self.builder.op(op_type, *inputs, **attributes)

    def weights(self, part: str = "", **shapes: Sequence[int | None] | None) -> list[ViewTensor]:
        """The weights of the layer, in the order given; a shape of None means that there is no such weight.

        Raises:
            InvalidModel: the file has another number of weights, or one of another shape or name.
        """
        if all(shape is None for shape in shapes.values()):
            return []
        return self._checked(self._store.of(self.layer, self.scope, part), shapes)

    def weights_of(self, parts: Sequence[Part]) -> list[list[ViewTensor]]:
        """The weights of the sublayers of the layer, in the order of Keras; as `weights`, a list for each."""
        if not self._store.whole:
            return [self._checked(self._store.of(self.layer, self.scope, p.path), p.shapes) for p in parts]
        found = self._store.of(self.layer, self.scope)
        called = {word for stored, _ in found for word in stored.split("/")[:-1]}
        counts = [sum(shape is not None for shape in p.shapes.values()) for p in parts]
        if len(found) != sum(counts):
            raise InvalidModel(f"{self._where} needs {sum(counts)} weights, the file has {len(found)}")
        result = []
        for part, count in zip(parts, counts, strict=True):
            mine, found = found[:count], found[count:]
            if part.name in called and not all(part.name in stored.split("/") for stored, _ in mine):
                raise InvalidModel(f"{self._where}: weight {mine[0][0]!r} stands where one of {part.name!r} should")
            result.append(self._checked(mine, part.shapes))
        return result

    def sublayer(self, path: str, layer: Layer) -> Context:
        """The context of the only layer inside of this one, which has all of its weights."""
        store = None if self.store is None else PartWeights(self.store, self.layer, self.scope, path)
        scope = [*self.scope, self.layer]
        return Context(self.builder, store, layer, scope, self.name, self.origin, self._cache)

    @property
    def _store(self) -> WeightStore:
        if self.store is None:
            raise InvalidModel(f"layer {self.name!r} has weights, and no weights were given")
        return self.store

    @property
    def _where(self) -> str:
        return f"{self._store.where}: layer {self.name!r} ({self.layer.class_name})"

    def _checked(
        self, found: list[tuple[str, ViewTensor]], shapes: Mapping[str, Sequence[int | None] | None]
    ) -> list[ViewTensor]:
        """The weights that were found, if they are those of these names and shapes."""
        expected = [(name, tuple(shape)) for name, shape in shapes.items() if shape is not None]
        where = self._where
        if len(found) != len(expected):
            names = ", ".join(name for name, _ in expected)
            raise InvalidModel(f"{where} needs {len(expected)} weights ({names}), the file has {len(found)}")
        turned = keras1.kernels(
            self.layer.class_name, self.layer.config, [t for _, t in found], self.version, self.theano
        )
        found = [(stored, tensor) for (stored, _), tensor in zip(found, turned, strict=True)]
        for (name, shape), (stored, tensor) in zip(expected, found, strict=True):
            actual = tuple(tensor.shape.numpy())
            if len(actual) != len(shape) or any(a != b for a, b in zip(actual, shape, strict=True) if b is not None):
                text = ", ".join("?" if d is None else str(d) for d in shape)
                raise InvalidModel(f"{where}: weight {name} has the shape {actual}, not ({text})")
            if stored and not _agrees(stored, name):
                raise InvalidModel(f"{where}: weight {stored!r} stands where {name} should")
        return [tensor for _, tensor in found]

    def weight(
        self,
        name: str,
        tensor: ViewTensor | npt.NDArray[Any],
        permutation: Sequence[int] | None = None,
        split: Sequence[int] | None = None,
    ) -> ir.Value:
        """A weight as initializer, transposed (after `split`) on write; one for all calls of the layer."""
        key = ("/".join([*(s.name for s in self.scope), self.layer.name]), name)
        if key not in self._cache:
            data: Any = tensor
            if isinstance(tensor, ViewTensor):
                data = tensor.transformed(tensor.array, tensor.shape.numpy())
                if data.dtype != ir.DataType.FLOAT:
                    raise Refusal(f"weight {name} has the type {data.dtype.numpy()}, only float32 is supported yet")
                if permutation is not None:
                    data = tensors.view(data, permutation, split)
            self._cache[key] = self.builder.constant(data, name, "weight")
        return self._cache[key]

    def constant(self, data: npt.ArrayLike, name: str) -> ir.Value:
        """A float32 constant."""
        return self.builder.constant(np.asarray(data, np.float32), name)

    def ints(self, data: Sequence[int] | int, name: str) -> ir.Value:
        """An int64 constant."""
        return self.builder.ints(data, name)

    def shape(self, value: ir.Value) -> list[int | None]:
        """The shape of a value; None for a size that is not known."""
        if value.shape is None:
            raise HubError(f"layer {self.name!r}: the rank of its input is not known")
        return [size if isinstance(size, int) else None for size in value.shape]

    def size(self, value: ir.Value, axis: int) -> int:
        """The size of one axis, which must be known."""
        size = self.shape(value)[axis]
        if size is None:
            raise Refusal(f"the size of axis {axis} of its input is not known", "give the input's shape with inputs=")
        return size

    def first(self, value: ir.Value, data_format: str | None) -> ir.Value:
        """Channels first: (N, ..., C) to (N, C, ...), if the layer works on channels last."""
        if data_format not in (None, "channels_last", "channels_first"):
            raise Refusal(f"data_format {data_format} is not supported")
        rank = len(self.shape(value))
        if data_format == "channels_first" or rank < 3:
            return value
        return self.op("Transpose", value, name="first", perm=[0, rank - 1, *range(1, rank - 1)])

    def last(self, value: ir.Value, data_format: str | None) -> ir.Value:
        """Back to the layer's own layout."""
        rank = len(self.shape(value))
        if data_format == "channels_first" or rank < 3:
            return value
        return self.op("Transpose", value, name="last", perm=[0, *range(2, rank), 1])


KNOWN_WEIGHTS = frozenset(
    """kernel bias gamma beta moving_mean moving_variance depthwise_kernel pointwise_kernel alpha
    recurrent_kernel embeddings mean variance""".split()
)


def _agrees(stored: str, name: str) -> bool:
    """Whether the name of a weight in the file can be that of the weight `name`."""
    last = stored.split("/")[-1].split(":")[0]
    if last not in KNOWN_WEIGHTS or name not in KNOWN_WEIGHTS:
        return True
    return last.endswith(name) or name.endswith(last)


def apply(context: Context, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Call the function of a layer or operation: its inputs, and its configuration bound to keywords.

    Raises:
        Refusal: there is none, or it does not name something in the configuration or the call.
    """
    layer = context.layer
    if layer.is_op:
        return _apply_operation(context, layer.class_name, args, kwargs)
    if layer.class_name in ("TFOpLambda", "SlicingOpLambda"):
        name = str(layer.config.get("function", layer.class_name))
        return _apply_operation(context, name, args, kwargs)
    function, keywords = bind(layer)
    inputs, named = _call_arguments(layer.class_name, function, args, kwargs)
    axes = re.search(r"(\d)D(?![a-z])", layer.class_name)
    for value in inputs:
        if axes and value.shape is not None and len(value.shape) != int(axes[1]) + 2:
            raise InvalidModel(f"layer {context.name!r} ({layer.class_name}) is given {len(value.shape)} axes")
    same = len({value.dtype for value in inputs}) == 1
    if function.__module__.startswith("importers.keras.") and not (layer.class_name in MOVES and same):
        check_floats(inputs)
    return function(context, *inputs, **named, **keywords)


def _call_arguments(
    class_name: str, function: Function, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[list[ir.Value], dict[str, Any]]:
    """The inputs of a call, and what it says by name."""
    taken = CALLS.get(class_name, frozenset())
    parameters = parameters_of(function)[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if taken and None in args[: max((i for i, arg in enumerate(args) if arg is not None), default=0)]:
        raise Refusal("it is called with None before other arguments", "give those by their names")
    inputs, named = list(_flatten(args)), {}
    for key, value in kwargs.items():
        given = any(v is not None for v in _leaves(value))
        if key in taken and given:
            if any(p.name == key for p in positional):
                named[key] = value
            else:
                inputs += _flatten([value])
        elif given and (key == "mask" or key.endswith("_mask")):
            raise Refusal(*MASKED)
        elif given and key not in ("training", "mask"):
            raise Refusal(f"call argument {key}={str(value)[:40]} is not supported")
    least = sum(p.default is p.empty and p.name not in named for p in positional)
    most = sum(p.name not in named for p in positional)
    if not any(p.kind is p.VAR_POSITIONAL for p in parameters) and not least <= len(inputs) <= most:
        raise Refusal(f"it is called with {len(inputs)} inputs, {least or most} are supported")
    if any(p.name in named for p in positional[: len(inputs)]):
        raise Refusal("an argument of its call is given twice")
    return inputs, named


def find(class_name: str) -> Function | None:
    """The function of a layer class; a class of somebody's own is never taken for one of Keras of the same name."""
    function = LAYERS.get(class_name)
    if function is None and ">" in class_name:
        bare = LAYERS.get(class_name.split(">")[-1])
        if bare is not None and not bare.__module__.startswith("importers.keras."):
            return bare
    return function


def bind(layer: Layer) -> tuple[Function, dict[str, Any]]:
    """The function of a layer and its configuration as keywords; what can be said without the layer's inputs.

    Raises:
        Refusal: as `apply`.
    """
    function = find(layer.class_name)
    if function is None:
        raise Refusal(*_why_unknown(layer.class_name))
    config = {key: plain(value) for key, value in layer.config.items()}
    check_dtype(config.pop("dtype", None))
    return function, bind_attributes(function, config, DEFAULTS, IGNORABLE)


def _apply_operation(context: Context, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    function = OPERATIONS.get(name)
    if function is None:
        raise Refusal(
            f"the operation {name} is not supported yet",
            "cut the model before it with outputs=, or register a function with importers.keras.layers.operation",
        )
    config = {key: plain(value) for key, value in context.layer.config.items()}
    check_dtype(config.pop("dtype", None))
    if name not in COMPARISONS:
        check_floats(_leaves([list(args), kwargs]))
    own = {key: value for key, value in config.items() if key not in ("name", "trainable", "function")}
    kwargs = {key: value for key, value in {**own, **kwargs}.items() if key != "name"}
    try:
        inspect.signature(function).bind(context, *args, **kwargs)
    except TypeError as error:
        raise Refusal(f"the operation {name} is called in a way that is not supported: {error}") from error
    return function(context, *args, **kwargs)


def _why_unknown(class_name: str) -> tuple[str, str]:
    if class_name in ("Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"):
        return (
            "it holds Python code, which is never executed",
            "replace it by Keras layers in the model, or register a function for it with importers.keras.layers.layer",
        )
    if class_name == "Masking":
        return ("it makes a mask of the steps that count, and hub does not follow masks", MASKED[1])
    return (
        "this layer class is not supported yet",
        "cut the model before it with outputs=, or register a function for it with importers.keras.layers.layer",
    )


def check_dtype(dtype: Any) -> None:
    """Refuse every dtype policy but float32: its arithmetic would be another."""
    name = dtype.get("name") if isinstance(dtype, dict) else dtype
    if name not in (None, "float32"):
        raise Refusal(f"dtype policy {name} is not supported yet", "convert a float32 copy of the model")


def check_floats(values: Sequence[Any]) -> None:
    """Refuse integers where something is computed: each layer of Keras has its own rule for them."""
    for value in values:
        if isinstance(value, ir.Value) and value.dtype not in (ir.DataType.FLOAT, None):
            kind = "unknown" if value.dtype is None else value.dtype.numpy().name
            raise Refusal(f"computing with {kind} is not supported yet", "make the input float32")


def plain(value: Any) -> Any:
    """A serialised object as its configuration, a serialised function as its name."""
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        config = value["config"]
        if isinstance(config, str):
            return config
        name = class_name_of(value)
        return {"class_name": name, **config} if isinstance(config, dict) else name
    return value


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list | tuple) else [value]


def _flatten(args: Sequence[Any]) -> list[ir.Value]:
    found: list[ir.Value] = []
    for arg in args:
        if isinstance(arg, ir.Value):
            found.append(arg)
        elif isinstance(arg, list | tuple):
            found.extend(_flatten(arg))
        elif arg is not None:
            raise Refusal(f"it is called with the constant {str(arg)[:40]}")
    return found
