"""What half precision does to a model, before it is written: its numbers, rounded after every operation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.canonical import layer_of
from hub.errors import HubError
from hub.model import session

__all__ = ["audit"]

MOST = 1 << 28
"""Bytes of all intermediate values, above which the layer that overflows first is not looked for."""


def audit(model: ir.Model, keep: Collection[str], ranges: Mapping[str, tuple[int, int]]) -> list[str]:
    """What the user should know of a canonical model in half precision, of seeded random inputs.

    Every value is cast to float16 and back, since ONNX Runtime itself computes float16 in float32. `keep`: layers and
    operator types that are not. `ranges`: the sizes that are open.
    """
    feeds = _inputs(model, ranges)
    try:
        exact = _run(model, feeds, [])
        halved = _halved(model, keep)
        rounded = _run(halved, feeds, [])
    except HubError as error:
        return [f"half precision was not tried: {str(error).splitlines()[0]}"]
    notes = []
    for name, ours in exact.items():
        theirs = rounded[name]
        if ours.dtype.kind != "f" or not ours.size or not np.isfinite(ours).any():
            continue
        if np.isfinite(ours).all() and not np.isfinite(theirs).all():
            notes.append(f"half precision: {name!r} overflows, first in {_first(model, halved, feeds)}")
            continue
        spread = float(np.ptp(ours[np.isfinite(ours)])) or 1.0
        apart = float(np.nanmax(np.abs(ours - theirs))) / spread
        notes.append(f"half precision: {name!r} is expected to differ by {apart:.1e} of its spread")
    return notes


def _inputs(model: ir.Model, ranges: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.shape is None or value.dtype is None:
            continue
        shape = [d if isinstance(d, int) else ranges.get(str(d.value), (1, 1))[0] for d in value.shape]
        kind = value.dtype.numpy()
        numbers = random.standard_normal(shape) if kind.kind == "f" else np.zeros(shape)
        feeds[value.name or ""] = numbers.astype(kind)
    return feeds


def _run(model: ir.Model, feeds: Mapping[str, Any], taps: Collection[str]) -> dict[str, Any]:
    names = list(taps) or [value.name or "" for value in model.graph.outputs]
    try:
        opened = session(model, optimize=False, taps=names, external_data=True)
        return dict(zip(names, opened.run(names, dict(feeds)), strict=True))
    except HubError:
        raise
    except Exception as error:  # its exceptions derive from Exception, one class a status
        raise HubError(f"ONNX Runtime: {' '.join(str(error).split())[:200]}") from error


def _halved(model: ir.Model, keep: Collection[str]) -> ir.Model:
    """A copy in which every value of float32 is cast to float16 and back."""
    copied = model.clone()
    graph = copied.graph
    for node in list(graph):
        if layer_of(node) in keep or node.op_type in keep:
            continue
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and (value.uses() or value.is_graph_output()):
                _round(graph, value, node)
    first = next(iter(graph), None)
    for value in [*graph.inputs, *graph.initializers.values()]:
        if value.dtype == ir.DataType.FLOAT and value.uses() and first is not None:
            if all(layer_of(node) in keep or node.op_type in keep for node, _ in value.uses()):
                continue
            _round(graph, value, None)
    return copied


def _round(graph: ir.Graph, value: ir.Value, node: ir.Node | None) -> None:
    users = list(value.uses())
    down = ir.Node("", "Cast", [value], [ir.AttrInt64("to", ir.DataType.FLOAT16.value)])
    up = ir.Node("", "Cast", [down.outputs[0]], [ir.AttrInt64("to", ir.DataType.FLOAT.value)])
    for made, kind in ((down, ir.DataType.FLOAT16), (up, ir.DataType.FLOAT)):
        made.name = f"{value.name}/{kind.name}"
        made.outputs[0].name, made.outputs[0].type, made.outputs[0].shape = made.name, ir.TensorType(kind), value.shape
    if node is not None:
        graph.insert_after(node, [down, up])
    else:
        graph.insert_before(next(iter(graph)), [down, up])
    for user, index in users:
        user.replace_input_with(index, up.outputs[0])
    for index, output in enumerate(graph.outputs):
        if output is value and node is not None:
            name = value.name
            graph.outputs[index] = up.outputs[0]
            value.name, up.outputs[0].name = f"{name}/exact", name
            up.name = f"{name}/rounded"


def _first(model: ir.Model, halved: ir.Model, feeds: Mapping[str, Any]) -> str:
    """The first layer of which a value is finite, and is not in half precision."""
    nodes = [node for node in model.graph if node.outputs[0].dtype == ir.DataType.FLOAT and node.outputs[0].uses()]
    sizes = [int(np.prod([d if isinstance(d, int) else 1 for d in node.outputs[0].shape or ()])) for node in nodes]
    if sum(sizes) * 4 > MOST or not nodes:
        return "a layer that was not looked for: the model is large"
    cast = {value.name for node in halved.graph for value in node.outputs}
    nodes = [node for node in nodes if f"{node.outputs[0].name}/FLOAT" in cast]  # the others stay in float32
    names = [node.outputs[0].name or "" for node in nodes]
    exact = _run(model, feeds, names)
    rounded = _run(halved, feeds, [f"{name}/FLOAT" for name in names])
    for node, name in zip(nodes, names, strict=True):
        if np.isfinite(exact[name]).all() and not np.isfinite(rounded[f"{name}/FLOAT"]).all():
            return f'layer {layer_of(node)!r}: keep_float32=["{layer_of(node)}"] computes it in float32'
    return "its last layer"
