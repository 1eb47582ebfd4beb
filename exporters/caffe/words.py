"""Layers that came from Caffe, said again in their own words: those of SSD, which ONNX says in many nodes.

As long as the words hold (`hub/origin.py`), the nodes of such a layer are replaced by one of a domain of its
own, which no rule touches and which becomes the layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import onnx_ir as ir

from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.constants import floats
from hub.canonical import LAYER, SOURCE_OP, layer_of, tidy
from hub.errors import Refusal
from hub.origin import Origin
from hub.schemas import messages

__all__ = ["DOMAIN", "PARAMETERS", "named", "put", "say"]

DOMAIN = "hub.caffe"
"""The domain of nodes that are Caffe layers: inputs are the bottoms, then the blobs."""

PARAMETERS = {
    "Normalize": "norm_param",
    "PriorBox": "prior_box_param",
    "DetectionOutput": "detection_output_param",
}
"""The layer types that are said in words, and the field in which their parameters are."""


def put(model: ir.Model, found: Iterable[Origin]) -> None:
    """Replace the layers whose words hold by nodes of `DOMAIN`, in place."""
    replaced: dict[ir.Value, ir.Value] = {}
    for origin in found:
        if origin.stale or _parameters(origin.kind, origin.text) is None:
            continue
        before, old = origin.node, origin.node.outputs[0]
        bottoms = [replaced.get(value, value) for value in origin.bottoms]
        metadata = {key: before.metadata_props[key] for key in (LAYER, SOURCE_OP) if key in before.metadata_props}
        attributes = [
            ir.AttrString("parameters", origin.text),
            ir.AttrInt64("bottoms", len(bottoms)),
            ir.AttrString("shapes", json.dumps([shape for _, shape in origin.blobs])),
        ]
        inputs = [*bottoms, *(value for value, _ in origin.blobs)]
        new = ir.Value(name=old.name, type=old.type, shape=old.shape, metadata_props=dict(old.metadata_props))
        node = ir.Node(
            DOMAIN, origin.kind, inputs, attributes, outputs=[new], name=before.name, metadata_props=metadata
        )
        model.graph.insert_before(before, node)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name, before.name = f"{old.name}/replaced", f"{before.name}/replaced"
        replaced[old] = new
    if replaced:
        tidy(model)


def say(emit: Emitter, node: ir.Node) -> Blob:
    """The layer that a node of `DOMAIN` is."""
    parameters = _parameters(node.op_type, node.attributes.get_string("parameters", ""))
    assert parameters is not None
    count = node.attributes.get_int("bottoms", 0)
    values = [value for value in node.inputs if value is not None]
    bottoms = [emit.blob(value) for value in values[:count]]
    blobs = []
    for value, shape in zip(values[count:], json.loads(node.attributes.get_string("shapes", "[]")), strict=True):
        constant = emit.weight(value, "a weight of it")
        same = list(constant.shape) == shape
        blobs.append(floats(constant if same else constant.viewed(_shaped(shape), tuple(shape), f"blob{shape}")))
    result = bottoms[0].shape if node.op_type == "Normalize" else emit.result()
    return emit.layer(node.op_type, bottoms, result, None, blobs, **parameters)


def _shaped(shape: Sequence[int]) -> Any:
    return lambda array: array.reshape(shape)


def named(refusals: Sequence[tuple[str, str, Refusal]], found: Iterable[Origin]) -> list[tuple[str, str, Refusal]]:
    """The refusals, those of the nodes of a layer that could be said in words as one of that layer."""
    said = {layer for op, layer, _ in refusals if op in PARAMETERS}
    layers = {layer_of(origin.node): origin for origin in found if origin.kind in PARAMETERS}
    layers = {layer: origin for layer, origin in layers.items() if layer not in said}
    result = [entry for entry in refusals if entry[1] not in layers]
    for layer, origin in layers.items():
        ops = list(dict.fromkeys(op for op, at, _ in refusals if at == layer))
        if not ops:
            continue
        shown = ", ".join(ops[:4]) + (", ..." if len(ops) > 4 else "")
        reason = f"plain Caffe has no form of {shown}, of which it is made"
        if origin.stale:
            refusal = Refusal(f"{reason}, and {origin.kind} it can no longer be called: {origin.stale}")
        else:
            refusal = Refusal(reason, 'dialect="ssd" (dialect=ssd) has this layer')
        result.append((origin.kind, layer, refusal))
    return result


def _parameters(kind: str, text: str) -> dict[str, dict[str, Any]] | None:
    """The parameters of a layer; None if the text, which may be from any file, says anything else."""
    from google.protobuf import text_format

    field = PARAMETERS.get(kind)
    if field is None:
        return None
    message = messages("caffe").LayerParameter()
    try:
        text_format.Parse(text, message)
    except (text_format.ParseError, RecursionError, ValueError):
        return None
    if any(descriptor.name != field for descriptor, _ in message.ListFields()):
        return None
    return {field: _fields(getattr(message, field))} if message.HasField(field) else {}


def _fields(message: Any) -> dict[str, Any]:
    """The fields of a message that are set, as plain values."""
    result = {}
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            result[descriptor.name] = list(value) if hasattr(value, "append") else value
        else:
            result[descriptor.name] = [_fields(v) for v in value] if hasattr(value, "add") else _fields(value)
    return result
