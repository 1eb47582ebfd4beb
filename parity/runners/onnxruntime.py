"""ONNX Runtime, graph optimisation off: the numerical reference."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hub.errors import HubError
from parity.runners import BEFORE, SQUASHING, Array, Description, LoadFailed, Port, RunFailed, need, single_line

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["OnnxRuntimeRunner", "available", "exits", "open"]

_COMPUTING = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "GroupNormalization"}
)
"""Operators that are a layer of their own in other frameworks; what follows them in a layer is its activation."""


def available() -> str | None:
    """None if ONNX Runtime can be used here, else why not."""
    return need(["onnxruntime", "onnx_ir"], "ONNX Runtime", "pip install onnxruntime onnx-ir")


def open(source: Any) -> OnnxRuntimeRunner:
    """A `hub.Model`, an `onnx_ir.Model` or the path of an `.onnx` file, ready to run.

    Raises:
        LoadFailed: the file is not ONNX.
    """
    import onnx_ir as ir

    if isinstance(source, (str, os.PathLike)):
        try:
            model = ir.load(source)
        except Exception as error:  # protobuf, onnx_ir and the file system each have their own
            raise LoadFailed(single_line(error)) from error
        return OnnxRuntimeRunner(model, Path(source))
    if hasattr(source, "SerializeToString"):  # an onnx.ModelProto
        source = ir.serde.deserialize_model(source)
    return OnnxRuntimeRunner(source if isinstance(source, ir.Model) else source.ir, None)


class OnnxRuntimeRunner(Description):
    """Runs `model`; from `path`, if there is one and no taps are asked for."""

    def __init__(self, model: ir.Model, path: Path | None) -> None:
        import onnxruntime

        super().__init__("onnxruntime", onnxruntime.__version__, onnx=True)
        self.model, self.path = model, path
        initializers = model.graph.initializers
        self.inputs = [_port(value) for value in model.graph.inputs if value.name not in initializers]
        layers = _layers(model.graph)
        self._values = _layer_values(model.graph, layers)
        self._cores = _cores(model.graph, layers, self._values)
        self.layers = {name: _op(value) for name, value in self._values.items()}
        self._before = _before_activations(model.graph)
        self.perms = {f"layer:{name}": perm for name, value in self._values.items() if (perm := _perm(value))}
        self.perms |= {f"before:{name}": perm for name, (_, perm, _) in self._before.items() if perm}
        self.ops = {str(value.name): _op(value) for value in model.graph.outputs}
        self.ops |= {f"before:{name}": op for name, (_, _, op) in self._before.items()}
        self.flow = _flow(model.graph, layers)
        self._session: tuple[tuple[str, ...], Any] | None = None

    def bytes_of(self, layer: str, feeds: Mapping[str, Array]) -> int | None:
        """See `parity.runners.Runner.bytes_of`."""
        value = self._values.get(layer)
        if value is None or value.shape is None or value.dtype is None:
            return None
        sizes: dict[Any, int] = {}
        for given in self.model.graph.inputs:
            if given.name in feeds and given.shape is not None:
                pairs = zip(given.shape, feeds[str(given.name)].shape, strict=False)
                sizes |= {getattr(size, "value", size): found for size, found in pairs}
        shape = [d if isinstance(d, int) else sizes.get(d.value) for d in value.shape]
        known = [size for size in shape if size is not None]
        return math.prod(known) * value.dtype.bitwidth // 8 if len(known) == len(shape) else None

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        wanted = {}
        for tap in taps:
            if (value := self.value(tap)) is not None:
                wanted[tap] = value
        if BEFORE in taps:
            wanted |= {f"before:{name}": value for name, (value, _, _) in self._before.items()}
        outputs = [str(value.name) for value in self.model.graph.outputs]
        names = list(dict.fromkeys([*outputs, *(str(value.name) for value in wanted.values())]))
        session = self._open(names, extra=len(names) > len(outputs))
        try:
            arrays = session.run(names, dict(feeds))
        except Exception as error:  # its exceptions derive from Exception, one class a status
            raise RunFailed(single_line(error)) from error
        found = {name: _array(value) for name, value in zip(names, arrays, strict=True)}
        return {name: found[name] for name in outputs} | {tap: found[str(value.name)] for tap, value in wanted.items()}

    def value(self, tap: str) -> ir.Value | None:
        """The value of the graph that a tap "layer:NAME" or "core:NAME" is; None if there is no one."""
        kind, _, name = tap.partition(":")
        return {"layer": self._values, "core": self._cores}.get(kind, {}).get(name)

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _open(self, names: list[str], extra: bool) -> Any:
        if self._session and self._session[0] == tuple(names):
            return self._session[1]
        self._session = None  # before the next one is made: one copy of the weights at a time
        opened = _from_file(self.path) if self.path is not None and not extra else _from_model(self.model, names)
        self._session = (tuple(names), opened)
        return opened


def _from_model(model: ir.Model, names: Sequence[str]) -> Any:
    from hub.model import session

    try:
        return session(model, optimize=False, taps=names)
    except HubError as error:
        raise LoadFailed(single_line(error)) from error


def _from_file(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions derive from Exception, one class a status
        raise LoadFailed(single_line(error)) from error


def _array(value: Any) -> Array:
    """An output as an array; a sequence or a map of tensors is none and cannot be compared here."""
    if not isinstance(value, np.ndarray):
        raise RunFailed(f"an output is a {type(value).__name__}, not a tensor")
    return value


def _port(value: ir.Value) -> Port:
    shape = None
    if value.shape is not None:
        shape = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
    dtype = value.dtype.numpy().name if value.dtype is not None else None
    declared = value.metadata_props.get("hub.range")
    bounds = tuple(float(part) for part in declared.split(",")) if declared else _index_range(value)
    return Port(str(value.name), dtype, shape, (bounds[0], bounds[1]) if bounds else None)


_MOVING = frozenset("Cast Identity Reshape Squeeze Unsqueeze Expand Transpose Concat".split())
"""Operators whose result has the numbers of their input."""

_INDEXED = {"Gather": 0, "GatherElements": 0, "ScatterElements": 0, "GatherND": None, "ScatterND": None}
"""Operators whose second input indexes their first: along an axis with this default, or with tuples."""


def exits(graph: ir.Graph) -> dict[str, ir.Value]:
    """By layer of the source: the value that leaves it, where it is one."""
    return _layer_values(graph, _layers(graph))


def _index_range(value: ir.Value) -> tuple[float, ...] | None:
    """0 .. size - 1 where an input only picks what has that size, as token ids do of an embedding."""
    bounds = []
    for node, index in value.uses():
        if node.op_type in _MOVING and len(node.outputs) == 1 and (index == 0 or node.op_type == "Concat"):
            inner = _index_range(node.outputs[0])
            bounds += [inner[1]] if inner else []
        elif (
            node.op_type in _INDEXED and index == 1 and (data := node.inputs[0]) is not None and data.shape is not None
        ):
            bounds += [float(size - 1) for size in _indexed(node, data.shape) if isinstance(size, int) and size]
    return (0.0, min(bounds)) if bounds else None


def _indexed(node: ir.Node, shape: ir.Shape) -> list[Any]:
    """The sizes that the second input of a node indexes."""
    default = _INDEXED[node.op_type]
    if default is not None:
        return [shape[node.attributes.get_int("axis", default)]]
    skipped = node.attributes.get_int("batch_dims", 0)
    places = node.inputs[1].shape if node.inputs[1] is not None else None
    count = places[-1] if places is not None and len(places) else None
    return list(shape[skipped : skipped + count]) if isinstance(count, int) else list(shape)


def _perm(value: ir.Value) -> tuple[int, ...] | None:
    text = value.metadata_props.get("hub.perm")
    return tuple(int(part) for part in text.split(",")) if text else None


Layers = Mapping["ir.Node", str]
"""The layer of the source that each node belongs to; "" for those of none."""


def _layers(graph: ir.Graph) -> Layers:
    """As the metadata says; in a model without any, each node is one."""
    layers = {node: node.metadata_props.get("hub.layer", "") for node in graph.all_nodes()}
    return layers if any(layers.values()) else {node: node.name or "" for node in graph.all_nodes()}


def _op(value: ir.Value) -> str:
    node = value.producer()
    if node is None:
        return ""
    return node.metadata_props.get("hub.source_op") or node.op_type


def _layer_values(graph: ir.Graph, layers: Layers) -> dict[str, ir.Value]:
    """The value that leaves each source layer. A layer that several leave (it is used more than
    once, or has several outputs) has no single one and is left out."""
    exits: dict[str, list[ir.Value]] = {}
    for node in graph:
        layer = layers[node]
        if not layer:
            continue
        for value in node.outputs:
            if "hub.columns" in value.metadata_props:
                continue  # its columns are in another order than the source's
            others = {layers.get(user, "") for user, _ in value.uses()} - {layer}
            if value.is_graph_output() or others:
                exits.setdefault(layer, []).append(value)
    values = {}
    for layer, candidates in exits.items():
        # A Transpose of the layout pass leaves the layer beside the value that it transposes.
        moved = [v for v in candidates if not _transposes_one_of(v, candidates)]
        if len(moved) == 1:
            values[layer] = moved[0]
    return values


def _flow(graph: ir.Graph, layers: Layers) -> dict[str, list[str]]:
    """By layer of the source, those that feed it, also through nodes of no layer."""
    reached: dict[ir.Node, dict[str, None]] = {}
    flow: dict[str, dict[str, None]] = {}
    for node in graph:
        makers = [value.producer() for value in [*node.inputs, *_captured(node)] if value is not None]
        feeding = {layer: None for maker in makers if maker is not None for layer in reached.get(maker, {})}
        layer = layers[node]
        if layer:
            flow.setdefault(layer, {}).update({other: None for other in feeding if other != layer})
        reached[node] = {layer: None} if layer else feeding
    return {layer: list(others) for layer, others in flow.items()}


def _captured(node: ir.Node) -> list[ir.Value]:
    """What the bodies of a node take from outside."""
    bodies = [attribute.as_graph() for attribute in node.attributes.values() if attribute.type.name == "GRAPH"]
    inside = {inner for body in bodies for inner in body.all_nodes()}
    values = [value for inner in inside for value in inner.inputs if value is not None]
    return [value for value in values if value.producer() is not None and value.producer() not in inside]


def _cores(graph: ir.Graph, layers: Layers, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
    """What each layer computes before its activation, if it includes one. A layer of several computing
    operators has no such value, one of none is all there is."""
    computing: dict[str, list[ir.Node]] = {}
    for node in graph:
        if node.op_type in _COMPUTING and (layer := layers[node]):
            computing.setdefault(layer, []).append(node)
    cores = {name: value for name, value in values.items() if name not in computing}
    for layer, nodes in computing.items():
        if layer in values and len(nodes) == 1:
            value = nodes[0].outputs[0]
            users = [node for node, _ in value.uses()]
            if (
                len(users) == 1
                and users[0].op_type == "Add"
                and layers.get(users[0]) == layer
                and _adds_weight(users[0])
            ):
                value = users[0].outputs[0]
            cores[layer] = value
    return cores


def _adds_weight(node: ir.Node) -> bool:
    return any(value is not None and value.is_initializer() for value in node.inputs)


def _transposes_one_of(value: ir.Value, others: Sequence[ir.Value]) -> bool:
    node = value.producer()
    if node is None or node.op_type != "Transpose":
        return False
    source = node.inputs[0]
    return source is not None and "hub.perm" in source.metadata_props and any(source is other for other in others)


def _before_activations(graph: ir.Graph) -> dict[str, tuple[ir.Value, tuple[int, ...] | None, str]]:
    """For each output that a squashing activation produces: what goes into it, the permutation that takes
    that to the source's layout, and the activation.

    Between the activation and the output there may be Identity, Cast and Transpose.
    """
    found = {}
    for output in graph.outputs:
        value: ir.Value | None = output
        perm: tuple[int, ...] | None = None
        while value is not None and (node := value.producer()) is not None:
            if node.op_type.lower() in SQUASHING and (source := node.inputs[0]) is not None:
                if source.producer() is not None:
                    found[str(output.name)] = (source, _perm(source) or perm, node.op_type)
                break
            if node.op_type == "Transpose":
                own = node.attributes.get_ints("perm", tuple(reversed(range(len(value.shape or ())))))
                perm = tuple(own[i] for i in perm) if perm else tuple(own)
            elif node.op_type not in ("Identity", "Cast"):
                break
            value = node.inputs[0]
    return found
