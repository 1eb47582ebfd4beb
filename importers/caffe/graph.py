"""Walks a Caffe net in its own order and emits canonical ONNX."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import HubError, InvalidModel, Refusal, UnsupportedOps, UsageError
from hub.model import Model
from importers.caffe import ops  # noqa: F401  (registers the layers)
from importers.caffe.inputs import Shapes, shape_of
from importers.caffe.layers import Context, Weights, apply, bind, record_words
from importers.caffe.memory import Overwritten, overwritten
from importers.caffe.net import DATA, Layer, Ref, Resolved, resolve

__all__ = ["build"]

SOURCES = DATA | {"Input"}


def build(
    name: str,
    layers: Sequence[Layer],
    others: Sequence[Layer],
    weights: Weights,
    shapes: Shapes,
    outputs: Sequence[str] = (),
) -> Model:
    """The canonical model of the layers that are in the net at TEST, or of what `outputs` need of it.

    `others`: the layers that are not.

    Raises:
        UnsupportedOps: naming every layer that is refused, all at once.
        InvalidModel: the net does not fit together, or weights are missing.
        UsageError: one of `outputs` or `shapes` does not exist.
    """
    resolved = resolve(layers, shapes, others)
    chosen = {name: _find(name, resolved) for name in dict.fromkeys(outputs)} or _named(resolved.outputs)
    if not chosen:
        raise InvalidModel("the net has no outputs: its layers give nothing, or nothing that is left at inference")
    walker = _Walker(name, resolved, others, weights, shapes)
    walker.stale = {entry.reader: entry for entry in overwritten(resolved.layers)}
    walker.walk(_needed(resolved.layers, chosen.values()))
    walker.check_weights()
    for blob, ref in chosen.items():
        walker.output(blob, ref)
    model = walker.builder.model()
    for node in reversed(list(model.graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            model.graph.remove(node, safe=True)
    walker.name_nodes(model)
    return Model(model, "caffe", walker.warnings)


def _named(refs: Iterable[Ref]) -> dict[str, Ref]:
    return {ref.blob: ref for ref in refs}


def _find(name: str, resolved: Resolved) -> Ref:
    """What a layer, or the last one that writes the blob, of that name gives."""
    by_layer = {layer.name: Ref(layer.message.top[0], layer) for layer in resolved.layers if layer.message.top}
    by_blob = {blob: Ref(blob, layer, i) for layer in resolved.layers for i, blob in enumerate(layer.message.top)}
    ref = by_layer.get(name) or by_blob.get(name)
    if ref is None:
        near = difflib.get_close_matches(name, [*by_layer, *by_blob], 5, 0.5)
        raise UsageError(f"there is no output or layer {name!r}; near are {', '.join(near) or 'none'}")
    return ref


def _needed(layers: Sequence[Layer], outputs: Iterable[Ref]) -> list[Layer]:
    wanted = {ref.layer for ref in outputs}
    result = []
    for layer in reversed(layers):
        if layer in wanted or layer.type == "Input":
            result.append(layer)
            wanted.update(ref.layer for ref in layer.bottoms)
    return result[::-1]


class _Walker:
    def __init__(
        self, name: str, resolved: Resolved, others: Sequence[Layer], weights: Weights, shapes: Shapes
    ) -> None:
        self.builder = GraphBuilder(name)
        self.others = others
        self.weights = weights
        self.shapes = shapes
        self.warnings = list(resolved.warnings)
        self.values: dict[Ref, ir.Value] = {}
        self.refused: list[tuple[str, str, Refusal]] = []
        self.mains: dict[ir.Node, str] = {}
        self.stale: dict[Layer, Overwritten] = {}
        self.with_weights = 0

    def walk(self, layers: Sequence[Layer]) -> None:
        """Declare the inputs, then emit every layer."""
        self.inputs(layers)
        for layer in layers:
            if layer.type not in SOURCES and layer.type != "Silence":
                self.emit(layer)
        if self.refused:
            raise UnsupportedOps.collect("The Caffe net cannot be converted:", self.refused)

    def inputs(self, layers: Sequence[Layer]) -> None:
        """Tops of Input layers, data that a layer reads, and blobs that nothing produces."""
        read = {ref for layer in layers for ref in layer.bottoms}
        refs = [
            Ref(blob, layer, index)
            for layer in layers
            if layer.type in SOURCES
            for index, blob in enumerate(layer.message.top)
            if layer.type == "Input" or Ref(blob, layer, index) in read
        ]
        refs += [ref for layer in layers for ref in layer.bottoms if ref.layer is None and ref not in refs]
        unknown = sorted(set(self.shapes) - {ref.blob for ref in refs})
        if unknown:
            names = ", ".join(dict.fromkeys(ref.blob for ref in refs))
            raise UsageError(f"there is no input {unknown[0]!r}; inputs are {names or 'none'}")
        for ref in dict.fromkeys(refs):
            shape = shape_of(ref, self.shapes, self.others, self.channels(ref, layers))
            self.values[ref] = self.builder.input(ref.blob, ir.DataType.FLOAT, shape)
            self.warn_of_transform(ref)

    def warn_of_transform(self, ref: Ref) -> None:
        """What a data layer did to its data before the net saw them is not part of the net."""
        candidates = [ref.layer] if ref.layer is not None else self.others
        for layer in candidates:
            if layer.type in DATA and ref.blob in list(layer.message.top)[:1]:
                param = layer.message.transform_param
                done = [
                    field.name for field, _ in param.ListFields() if field.name in ("scale", "mean_file", "mean_value")
                ]
                if done:
                    self.warnings.append(
                        f"{layer} changes its data by {', '.join(done)}; the input {ref.blob!r} takes data so changed"
                    )
                return

    def channels(self, ref: Ref, layers: Sequence[Layer]) -> int | None:
        """How many channels the weights of the convolutions that read `ref` are for."""
        for layer in layers:
            if ref in layer.bottoms and layer.type == "Convolution" and layer.name in self.weights.by_layer:
                shape = self.weights.by_layer[layer.name][1][0].shape
                return shape[1] * layer.message.convolution_param.group if len(shape) > 1 else None
        return None

    def emit(self, layer: Layer) -> None:
        """Emit one layer; what is refused, here or before it, is collected."""
        label = layer.name[:200] if layer.line is None else f"{layer.name[:200]} (line {layer.line})"
        context = Context(self.builder, layer, self.weights, self.warnings)
        try:
            self.check_memory(layer)
            if any(ref not in self.values for ref in layer.bottoms):
                bind(layer)  # behind a refused layer only its own parameters can be judged
                return
            bottoms = [self.values[ref] for ref in layer.bottoms]
            with self.builder.layer(layer.name, layer.type):
                results = apply(context, bottoms)
                results = [
                    self.builder.op("Identity", value)
                    if value in bottoms or value.producer() is None or value in results[:index]
                    else value
                    for index, value in enumerate(results)
                ]
                if len(results) == 1:
                    record_words(context, bottoms, results[0])
        except Refusal as refusal:
            self.refused.append((layer.type or "(no type)", label, refusal))
            return
        except InvalidModel as error:
            raise error if str(layer) in str(error) else InvalidModel(f"{layer}: {error}") from error
        except HubError as error:
            text = str(error).removeprefix(f"layer {layer.name!r}: ")
            raise InvalidModel(f"{layer}: {text}") from error
        except (ArithmeticError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InvalidModel(f"{layer}: its parameters are damaged: {error!r}"[:600]) from error
        self.with_weights += context.asked > 0
        if results:
            self.settle(results[0], layer.name)
        for index, (blob, value) in enumerate(zip(layer.message.top, results, strict=True)):
            self.values[Ref(blob, layer, index)] = value

    def check_memory(self, layer: Layer) -> None:
        """Refuse a layer that would read numbers which another has changed in the same memory."""
        if layer in self.stale:
            blob, writer = self.stale[layer].blob, self.stale[layer].writer
            raise Refusal(
                f"it reads {blob[:60]!r} after {writer} has written over it: a layer that works in place changes what "
                "Flatten, Reshape and Split made of the same memory",
                f"give the top of {writer.name[:60]!r} a name of its own",
            )

    def settle(self, value: ir.Value, name: str) -> None:
        """What a layer gives is called as the layer is."""
        node = value.producer()
        assert node is not None
        self.builder.rename(value, name)
        self.mains[node] = name

    def check_weights(self) -> None:
        """Raise InvalidModel where layers lack weights."""
        missing = self.weights.missing
        if missing:
            shown = ", ".join(name[:60] for name in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise InvalidModel(
                f"{len(missing)} of the {self.with_weights} layers with weights have none here ({shown}); "
                "give the pair (prototxt, caffemodel), or weights='random' for the structure alone"
            )

    def output(self, blob: str, ref: Ref) -> None:
        """Make the result an output of the graph, called as its blob."""
        value = self.values[ref]
        if value in self.builder.inputs:
            raise UsageError(f"{blob!r} is an input, not an output")
        if any(blob == taken.name for taken in self.builder.inputs) or blob in self.builder.initializers:
            self.builder.rename(value, blob)
            self.warnings.append(f"the output {blob!r} is called {value.name!r}: an input or a weight has that name")
            blob = value.name or blob
        node = value.producer()
        main = self.mains.get(node) if node is not None else None
        result = self.builder.output(value, blob)
        producer = result.producer()
        if main is not None and producer is not None and producer is node:
            self.mains[producer] = main

    def name_nodes(self, model: ir.Model) -> None:
        """Name the node that gives a layer's result after the layer, where no other node is called so."""
        taken = {node.name for node in model.graph if node not in self.mains}
        for node in model.graph:
            name = self.mains.get(node)
            if name is not None:
                unique, number = name, 0
                while unique in taken:
                    number += 1
                    unique = f"{name}_{number}"
                node.name = unique
                taken.add(unique)
