"""A model as `net.prototxt` and `net.caffemodel`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

import hub
from exporters.caffe.ends import Port, preprocess
from exporters.caffe.files import net_message, write_prototxt, write_weights
from exporters.caffe.finish import finish
from exporters.caffe.lower import Lowering
from exporters.caffe.net import Layer
from exporters.caffe.target import legalize
from exporters.rules.fold_batchnorm import FOLDED
from exporters.written import Written
from hub.canonical import PERMUTATION, layer_of
from hub.errors import HubError, Refusal, UnsupportedOps, UsageError
from hub.formats import find
from hub.origin import origins
from hub.schemas.caffe import DIALECTS, dialect_of

if TYPE_CHECKING:
    from hub.model import Model

__all__ = ["write"]


def write(
    model: Model,
    dst: Path,
    *,
    dialect: str = "caffe",
    batch: int | None = None,
    fold: bool = False,
    mean: float | Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
    channel_order: str | None = None,
) -> Written:
    """Write `dst` and the other one of `.prototxt` and `.caffemodel` beside it.

    Args:
        model: its sizes must be known but for the batch, which is 1 in the prototxt and any at run time.
        dst: either of the two files.
        dialect: "caffe" for plain Caffe 1.0; "bvlc" and "ssd" may use layers of those. In "ssd", layers of SSD
            that were read from Caffe are written as such.
        batch: fixes the batch, which some constructions need.
        fold: fold every BatchNormalization into the layer before it where there is one.
        mean, scale: the net takes pixels p where the source takes (p - mean) * scale; one number, or one for
            each channel in the order in which the net takes them.
        channel_order: "bgr" if the net takes images with the channels in the reverse of the source's order.

    Raises:
        UnsupportedOps: listing everything that Caffe cannot say exactly.
        UsageError: an option has a value that it cannot have.
    """
    if dialect not in DIALECTS:
        raise UsageError(f"dialect={dialect!r}; it is one of {', '.join(DIALECTS)}")
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise UsageError(f"batch={batch!r}; it is a number of samples")
    if not isinstance(fold, bool):
        raise UsageError(f"fold={fold!r}; it is true or false")
    copied = model.ir.clone()
    found = list(origins(copied.graph, "caffe"))
    inputs, outputs = legalize(copied, batch=batch, fold=fold, words=found if dialect == "ssd" else ())
    preprocess(copied.graph, inputs, mean, scale, channel_order)
    emitter = Lowering(copied, dialect, found)
    blobs = emitter.run()
    layers = _inputs(emitter, inputs)
    tops = [layer.tops[0] for layer in layers]
    results = {}
    for port, blob in zip(outputs, blobs, strict=True):
        results[port.name] = blob
        if not port.shape:  # ONNX does not say
            port.shape = [blob.shape[i] for i in port.perm or range(blob.rank)]
    layers += finish(emitter.layers, tops, results, emitter.exits)
    net = net_message(copied.graph.name or "net", layers)
    _judge(net, dialect)
    prototxt, weights = dst.with_suffix(".prototxt"), dst.with_suffix(".caffemodel")
    write_prototxt(prototxt, net, _head(model, dialect, inputs, outputs, _layers(model, copied)))
    write_weights(weights, net, layers)
    paths = [prototxt, weights] if dst.suffix != ".caffemodel" else [weights, prototxt]
    return Written(paths, [*_changes(inputs, outputs), *emitter.said()])


def _inputs(emitter: Lowering, ports: Sequence[Port]) -> list[Layer]:
    """The Input layers; an open batch is 1 in the file."""
    layers, refusals = [], []
    values = {value.name: value for value in emitter.graph.inputs}
    for port in ports:
        blob = emitter.blob(values[port.name])
        if any(not isinstance(size, int) for size in blob.shape[1:]):
            hint = f"give them: inputs={{{port.name!r}: [...]}}, --input {port.name}:..."
            refusals.append(("input", port.name, Refusal("sizes other than the batch are open", hint)))
            continue
        dims = [size if isinstance(size, int) else 1 for size in blob.shape]
        layer = Layer("Input", [], [blob], {"input_param": {"shape": [{"dim": dims}]}}, name=port.name)
        layers.append(layer)
    if refusals:
        raise UnsupportedOps.collect("Caffe cannot say exactly:", refusals)
    return layers


def _judge(net: object, dialect: str) -> None:
    """The strict lint: the net needs no more than the dialect that was asked for."""
    needed = dialect_of(net)
    if needed not in ("caffe", dialect):
        raise HubError(f"the net is not {DIALECTS[dialect]}: it needs {DIALECTS.get(needed or '', 'several dialects')}")


def _layers(model: Model, legal: ir.Model) -> dict[str, dict[str, Any]]:
    """What a program needs to compare layers: the order of axes, and whose value one holds that was folded into it."""
    found: dict[str, dict[str, Any]] = {name: {"perm": perm} for name, perm in _turned(model, legal).items()}
    for node in legal.graph:
        if FOLDED in node.metadata_props:
            found.setdefault(layer_of(node), {})["holds"] = node.metadata_props[FOLDED]
    return found


def _turned(model: Model, legal: ir.Model) -> dict[str, list[int]]:
    """By source layer, the permutation that takes what leaves it in the net to what leaves it in the model.

    Both know the way back to the source's layout, where that is another one.
    """
    ends, before = {layer_of(node): node.outputs[0] for node in legal.graph}, _exits(model.ir)
    turned = {}
    for layer, value in ends.items():
        ours, theirs = (_back(v) for v in (value, before.get(layer, value)))
        if len(ours) == len(theirs):
            perm = [ours[theirs.index(axis)] for axis in range(len(ours))]
            if perm != sorted(perm):
                turned[layer] = perm
    return turned


def _exits(model: ir.Model) -> dict[str, ir.Value]:
    """What leaves each layer: its last value, or that of which it is a Transpose where others take that one."""
    exits = {}
    for node in model.graph:
        value, source = node.outputs[0], node.inputs[0] if node.inputs else None
        turned = node.op_type == "Transpose" and source is not None and source.producer() is not None
        if turned and source is not None and PERMUTATION in source.metadata_props:
            others = {layer_of(user) for user, _ in source.uses()} - {layer_of(node)}
            value = source if others or source.is_graph_output() else value
        exits[layer_of(node)] = value
    return exits


def _back(value: ir.Value) -> list[int]:
    perm = value.metadata_props.get(PERMUTATION)
    return [int(i) for i in perm.split(",")] if perm else list(range(len(value.shape or ())))


def _head(
    model: Model,
    dialect: str,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    layers: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """The comments at the top: for people, and one line for programs."""
    changed: dict[str, Any] = {
        kind: {port.name: port.to_dict() for port in ports}
        for kind, ports in (("inputs", inputs), ("outputs", outputs))
    }
    if layers:
        changed["layers"] = dict(layers)
    lines = [f"Converted from {find(model.source).title} by hub {hub.__version__}, for {DIALECTS[dialect]}."]
    return [*lines, *_changes(inputs, outputs), f"hub: {json.dumps(changed)}"]


def _changes(inputs: Sequence[Port], outputs: Sequence[Port]) -> list[str]:
    """How the net's inputs and outputs differ from the source's, a sentence each."""
    lines = []
    for kind, ports in (("input", inputs), ("output", outputs)):
        for port in ports:
            if port.perm is not None:
                lines.append(f"the {kind} {port.name!r} is transpose{tuple(port.perm)} of the source's")
            if port.reverse_channels:
                lines.append(f"the {kind} {port.name!r} has its channels in the order B, G, R")
            if port.mean is not None or port.scale is not None:
                pixels = "p" if port.mean is None else f"(p - {port.mean})"
                factor = "" if port.scale is None else f" * {port.scale}"
                lines.append(f"the {kind} {port.name!r} takes pixels p; the source takes {pixels}{factor}")
            if port.dtype != "float32":
                lines.append(f"the {kind} {port.name!r} is float32 in Caffe; it is {port.dtype} in the source")
    return lines
