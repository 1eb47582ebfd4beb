"""Walks a Keras network in the order of its data and emits canonical ONNX."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.canonical import LAYER, LAYOUT, PERMUTATION
from hub.errors import HubError, InvalidModel, Refusal, UnsupportedOps, UsageError
from hub.layout import sink_transposes
from hub.model import Model
from importers.keras import ops  # noqa: F401  (registers the layers)
from importers.keras.config import Call, Layer, Network, Origin, Ref, references
from importers.keras.layers import MASKED, OPERATIONS, USES_MASK, Context, apply, bind, check_dtype, find
from importers.keras.weights import WeightStore

__all__ = ["build"]

LAYOUTS = {3: "NWC", 4: "NHWC", 5: "NDHWC"}
TRAINS = frozenset(
    """BatchNormalization Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout
    GaussianDropout GaussianNoise StochasticDepth LSTM GRU SimpleRNN RNN Bidirectional TimeDistributed
    MultiHeadAttention GroupedQueryAttention GroupQueryAttention Attention AdditiveAttention""".split()
)
"""Layers that compute something else in training."""

DTYPES = {
    "float32": ir.DataType.FLOAT,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
    None: ir.DataType.FLOAT,
}


def build(
    network: Network,
    store: WeightStore | None,
    origin: Origin,
    shapes: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str] = (),
) -> Model:
    """The canonical model of a Keras network, or of what `outputs` (layers, `model/layer`, values) need of it.

    Raises:
        UnsupportedOps: naming every layer that is refused, all at once.
        UsageError: one of `outputs` does not exist.
    """
    walker = _Walker(network, store, origin, list(dict.fromkeys(outputs)))
    for name, value in walker.run(shapes).items():
        walker.builder.output(value, name)
    model = walker.builder.model()
    for node in reversed(list(model.graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            model.graph.remove(node, safe=True)
    sink_transposes(model.graph)
    _mark_layouts(model.graph, network)
    unused = store.unused() if store is not None and not outputs else []
    if unused:
        raise InvalidModel(
            f"{store.where if store else ''}: {len(unused)} weights belong to no layer of the architecture: "
            f"{', '.join(unused[:5])}; the two do not fit together"
        )
    return Model(model, "keras", walker.warnings)


class _Walker:
    def __init__(self, network: Network, store: WeightStore | None, origin: Origin, chosen: Sequence[str] = ()) -> None:
        self.network = network
        self.store = store
        self.results: dict[str, ir.Value] = {}
        """By the name of a layer, with those of the models around it: what its first call gives."""
        self.origin = origin
        self.builder = GraphBuilder(network.name)
        self.refused: list[tuple[str, str, Refusal]] = []
        self.warnings: list[str] = []
        self.cache: dict[tuple[str, str], ir.Value] = {}
        self.masked: set[ir.Value] = set()
        """Values that Keras has a mask for."""
        named = _output_names(network)
        self.chosen: dict[str, Ref | None] = {name: self.ref(name, named) for name in chosen} if chosen else {**named}
        self.needed = _needed(network, self.chosen)

    def ref(self, name: str, named: Mapping[str, Ref]) -> Ref | None:
        """The output or layer of that name in the outermost model; None for what only the walk can tell."""
        layer = self.network.layers.get(name)
        if name in named or layer is None or layer.class_name == "InputLayer":
            return named.get(name)
        return Ref(name, 0, 0)

    def run(self, shapes: Mapping[str, Sequence[int | str | None]]) -> dict[str, ir.Value]:
        """The chosen outputs by name."""
        self.refuse_unknown(self.network, "")
        values = {ref: self.input(self.network.layers[ref.layer], shapes) for ref in self.network.inputs}
        unknown = sorted(set(shapes) - {ref.layer for ref in self.network.inputs})
        if unknown:
            names = ", ".join(ref.layer for ref in self.network.inputs)
            raise UsageError(f"there is no input {unknown[0]!r}; inputs are {names}")
        if not self.refused:
            self.walk(self.network, values, [])
        if self.refused:
            refused = {(layer, str(refusal)): (op, layer, refusal) for op, layer, refusal in self.refused}
            raise UnsupportedOps.collect("The Keras model cannot be converted:", refused.values())
        return {name: self.find(name) if ref is None else values[ref] for name, ref in self.chosen.items()}

    def find(self, name: str) -> ir.Value:
        """The result of a layer of a nested model, or any value, by its name."""
        if name in self.results:
            return self.results[name]
        values = {value.name or "": value for node in self.builder.nodes for value in node.outputs}
        if name not in values:
            near = difflib.get_close_matches(name, [*self.results, *values], 5, 0.5)
            raise UsageError(f"there is no output or layer {name!r}; near are {', '.join(near) or 'none'}")
        return values[name]

    def refuse_unknown(self, network: Network, prefix: str) -> None:
        """Name every layer without a function before any work is done."""
        for layer in network.layers.values():
            if network is self.network and not any((layer.name, n) in self.needed for n in range(len(layer.calls))):
                continue
            if layer.network is not None:
                self.refuse_unknown(layer.network, f"{prefix}{layer.name}/")
                continue
            function, known = layer.class_name, find(layer.class_name) is not None
            if layer.is_op or "OpLambda" in layer.class_name:
                function = str(layer.config.get("function", layer.class_name))
                known = function in OPERATIONS
            if not known and layer.class_name != "InputLayer":
                context = Context(self.builder, None, layer, [], prefix + layer.name, self.origin, self.cache)
                try:
                    apply(context, [], {})
                except Refusal as refusal:
                    self.refused.append((function, prefix + layer.name, refusal))

    def input(self, layer: Layer, shapes: Mapping[str, Sequence[int | str | None]]) -> ir.Value:
        config = layer.config
        shape = _input_shape(layer)
        given = shapes.get(layer.name)
        if shape is None and given is None:
            raise InvalidModel(
                f"input {layer.name!r} has no shape in the file; give it with inputs={{{layer.name!r}: (...)}}"
            )
        if shape is not None and given is not None:
            # The batch may be another: Keras records that of the first call, and does not insist on it.
            if len(given) != len(shape) or any(
                a is not None and b != a for a, b in zip(shape[1:], given[1:], strict=True)
            ):
                raise UsageError(f"input {layer.name!r} has the shape {tuple(shape)}, which {tuple(given)} contradicts")
        if shape is not None and not (
            isinstance(shape, list | tuple) and all(size is None or type(size) is int for size in shape)
        ):
            raise InvalidModel(f"input {layer.name!r} has the shape {str(shape)[:40]}, which is none")
        final = list(given if given is not None else shape or ())
        sizes = [
            size if isinstance(size, int | str) else "N" if axis == 0 else f"{layer.name}_dim{axis}"
            for axis, size in enumerate(final)
        ]
        if any(isinstance(size, int) and size < 0 for size in sizes):
            raise InvalidModel(f"input {layer.name!r} has the shape {tuple(final)}")
        dtype = config.get("dtype")
        name = dtype if dtype is None or isinstance(dtype, str) else dtype.get("config", {}).get("name")
        if name not in DTYPES:
            self.refused.append(("InputLayer", layer.name, Refusal(f"inputs of type {name} are not supported yet")))
            name = None
        return self.builder.input(layer.name, DTYPES[name], sizes)

    def walk(self, network: Network, values: dict[Ref, ir.Value], scope: list[Layer]) -> list[ir.Value]:
        """Emit every call whose inputs are there, in the order of the file among those that are ready."""
        calls = [
            (layer, number, call)
            for layer in network.layers.values()
            for number, call in enumerate(layer.calls)
            if Ref(layer.name, number, 0) not in values and (scope or (layer.name, number) in self.needed)
        ]
        waiting: list[int] = []
        needed_by: dict[Ref, list[int]] = {}
        ready: list[int] = []
        for index, (_, _, call) in enumerate(calls):
            missing = {ref for ref in references([call.args, call.kwargs]) if ref not in values}
            waiting.append(len(missing))
            for ref in missing:
                needed_by.setdefault(ref, []).append(index)
            if not missing:
                ready.append(index)
        heapq.heapify(ready)
        done = 0
        while ready:
            layer, number, call = calls[heapq.heappop(ready)]
            done += 1
            results = self.call(layer, call, values, scope)
            if results is None:
                continue  # refused: what depends on it waits for ever
            for tensor, value in enumerate(results):
                ref = Ref(layer.name, number, tensor)
                values[ref] = value
                for index in needed_by.pop(ref, []):
                    waiting[index] -= 1
                    if waiting[index] == 0:
                        heapq.heappush(ready, index)
        if self.refused:
            unseen = {layer.name: layer for index, (layer, _, _) in enumerate(calls) if waiting[index]}
            self.refuse_configurations(unseen.values(), scope)
            return []
        if done != len(calls):
            stuck = next(layer.name for i, (layer, _, _) in enumerate(calls) if waiting[i])
            raise InvalidModel(
                f"layer {stuck!r} of {network.name!r} waits for itself, or for an output that no layer has"
            )
        refs = network.outputs if scope else [ref for ref in self.chosen.values() if ref is not None]
        missing_outputs = [ref.layer for ref in refs if ref not in values]
        if missing_outputs:
            raise InvalidModel(f"output {missing_outputs[0]!r} of {network.name!r} does not exist")
        return [values[ref] for ref in refs]

    def refuse_configurations(self, layers: Iterable[Layer], scope: list[Layer]) -> None:
        """Behind a refused layer no input is known; what its configuration alone says is refused as well."""
        for layer in layers:
            if layer.network is not None:
                self.refuse_configurations(layer.network.layers.values(), [*scope, layer])
            elif not layer.is_op and "OpLambda" not in layer.class_name and layer.class_name != "InputLayer":
                try:
                    bind(layer)
                except Refusal as refusal:
                    self.refused.append((layer.class_name, "/".join([*(s.name for s in scope), layer.name]), refusal))

    def call(self, layer: Layer, call: Call, values: dict[Ref, ir.Value], scope: list[Layer]) -> list[ir.Value] | None:
        args, kwargs = _resolve(call.args, values), _resolve(call.kwargs, values)
        name = "/".join([*(outer.name for outer in scope), layer.name])
        try:
            if layer.class_name == "InputLayer":
                raise InvalidModel(f"input {name!r} is not among the inputs of its model")
            args, kwargs = self.inference(layer, args, kwargs, name)
            if layer.network is not None:
                return self.nested(layer, args, kwargs, scope, name)
            context = Context(self.builder, self.store, layer, scope, name, self.origin, self.cache)
            masked = any(value in self.masked for value in _values([args, kwargs]))
            if masked and layer.class_name in USES_MASK and not layer.is_op:
                raise Refusal(*MASKED)
            with self.builder.layer(name, layer.class_name):
                result = apply(context, args, kwargs)
        except Refusal as refusal:
            self.refused.append((layer.class_name, name, refusal))
            return None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
            raise InvalidModel(
                f"layer {name!r} ({layer.class_name}): its configuration is damaged: {error!r}"
            ) from error
        except HubError as error:
            if name in str(error):
                raise
            raise type(error)(f"layer {name!r}: {error}") from error
        results = list(result) if isinstance(result, list | tuple) else [result]
        if (masked and layer.class_name != "Flatten") or layer.config.get("mask_zero"):
            self.masked.update(results)
        self.settle_name(results[0], name)
        self.results.setdefault(name, results[0])
        return results

    def inference(
        self, layer: Layer, args: list[Any], kwargs: dict[str, Any], name: str
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call without `training`, where that changes nothing.

        Keras 3 overrules `training=True` of a call in `predict`; before, the layer then trains for ever.
        """
        training = kwargs.get("training")
        if layer.network is not None and len(args) > 1:
            args, training = args[:1], args[1]
        if training and not isinstance(training, ir.Value) and any(part.class_name in TRAINS for part in _parts(layer)):
            if self.origin.version < 3:
                raise Refusal(
                    "it is called with training=True: it trains for ever, in predict as well",
                    "call it without training in the model",
                )
            self.warnings.append(f"layer {name!r} is called with training=True; it is converted as `predict` runs it")
        return args, {key: value for key, value in kwargs.items() if key != "training"}

    def nested(
        self, layer: Layer, args: list[Any], kwargs: dict[str, Any], scope: list[Layer], name: str
    ) -> list[ir.Value] | None:
        assert layer.network is not None
        if any(isinstance(value, ir.Value) for value in _values([kwargs])):
            raise Refusal(f"call arguments {', '.join(kwargs)} are not supported")
        check_dtype(
            (layer.config.get("dtype") or {}).get("config") if isinstance(layer.config.get("dtype"), dict) else None
        )
        wanted, keys = layer.network.inputs, layer.network.keys
        if len(args) == 1 and isinstance(args[0], dict):
            # By key, or by the names of the inputs if these are a list.
            names = [ref.layer for ref in wanted] if keys is None else keys
            if not set(names) <= set(args[0]):
                raise InvalidModel(f"the model {name!r} has the inputs {names} and is called with {list(args[0])}")
            args = [[args[0][key] for key in names]]
        inputs = _values(args)
        if len(inputs) != len(wanted):
            raise InvalidModel(f"the model {name!r} has {len(wanted)} inputs and is called with {len(inputs)}")
        for ref, value in zip(wanted, inputs, strict=True):
            shape = _input_shape(layer.network.layers[ref.layer])
            if shape is not None and value.shape is not None and len(shape) != len(value.shape):
                raise Refusal(f"its input {ref.layer!r} has {len(shape)} axes and is given {len(value.shape)}")
        outputs = self.walk(layer.network, dict(zip(wanted, inputs, strict=True)), [*scope, layer])
        if self.refused:
            return None
        self.results.setdefault(name, outputs[0])
        return outputs

    def settle_name(self, value: ir.Value, name: str) -> None:
        """The value that a layer gives carries the layer's name, before any Transpose back to its layout."""
        node = _producer(value, name)
        back: list[int] | None = None
        while node is not None and node.op_type == "Transpose":
            inner = node.inputs[0]
            before = _producer(inner, name) if inner is not None else None
            if inner is None or before is None:
                break
            perm = list(node.attributes.get_ints("perm"))
            back = perm if back is None else [perm[i] for i in back]
            value, node = inner, before
        if node is not None:
            self.builder.rename(value, name)
            if back is not None and back != sorted(back):
                value.metadata_props[PERMUTATION] = ",".join(map(str, back))


def _output_names(network: Network) -> dict[str, Ref]:
    """The outputs by the names of their layers."""
    named: dict[str, Ref] = {}
    for ref in network.outputs:
        name = ref.layer if ref.layer not in named else f"{ref.layer}_{ref.call}_{ref.tensor}"
        if ref in network.inputs or name in named:
            name = f"{name}_output_{len(named)}"
        named[name] = ref
    return named


def _needed(network: Network, chosen: Mapping[str, Ref | None]) -> set[tuple[str, int]]:
    """The calls that the chosen outputs need; all of them, if one is not known before the walk."""
    refs: list[Ref] = []
    for name, ref in chosen.items():
        layer = network.layers.get(name.split("/")[0])
        if ref is not None:
            refs.append(ref)
        elif layer is not None:
            refs.extend(Ref(layer.name, number, 0) for number in range(len(layer.calls)))
        else:
            refs.extend(Ref(other.name, n, 0) for other in network.layers.values() for n in range(len(other.calls)))
    needed: set[tuple[str, int]] = set()
    while refs:
        ref = refs.pop()
        layer = network.layers.get(ref.layer)
        if layer is None or (ref.layer, ref.call) in needed or ref.call >= len(layer.calls):
            continue
        needed.add((ref.layer, ref.call))
        call = layer.calls[ref.call]
        refs.extend(references([call.args, call.kwargs]))
    return needed


def _input_shape(layer: Layer) -> Any:
    return layer.config.get("batch_shape") or layer.config.get("batch_input_shape")


def _parts(layer: Layer) -> list[Layer]:
    """The layer, or, of a nested model, all layers in it."""
    return [layer] if layer.network is None else _all_layers(layer.network)


def _producer(value: ir.Value, layer: str) -> ir.Node | None:
    """The node that gives `value`, if it belongs to `layer`."""
    node = value.producer()
    return node if node is not None and node.metadata_props.get(LAYER) == layer else None


def _resolve(value: Any, values: Mapping[Ref, ir.Value]) -> Any:
    if isinstance(value, Ref):
        return values[value]
    if isinstance(value, dict):
        return {key: _resolve(item, values) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(item, values) for item in value]
    return value


def _values(args: Any) -> list[ir.Value]:
    if isinstance(args, ir.Value):
        return [args]
    if isinstance(args, dict):
        return [value for _, item in sorted(args.items()) for value in _values(item)]
    return [value for item in args for value in _values(item)] if isinstance(args, list | tuple) else []


def _mark_layouts(graph: ir.Graph, network: Network) -> None:
    """Say the layout of images that go in: what the layers that read them call it."""
    channels_first = any(layer.config.get("data_format") == "channels_first" for layer in _all_layers(network))
    spatial = any("data_format" in layer.config for layer in _all_layers(network))
    for value in (*graph.inputs, *graph.outputs):
        rank = len(value.shape) if value.shape is not None else 0
        if spatial and rank in LAYOUTS:
            last = LAYOUTS[rank]
            value.metadata_props[LAYOUT] = "NC" + last[1:-1] if channels_first else last


def _all_layers(network: Network) -> list[Layer]:
    found = []
    for layer in network.layers.values():
        found.append(layer)
        if layer.network is not None:
            found += _all_layers(layer.network)
    return found
