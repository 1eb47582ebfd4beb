"""Names, sizes and layouts of the source, in what tf2onnx made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from hub.canonical import LAYER, LAYOUT, OPSET
from hub.guard import Origin

__all__ = ["finish", "origin", "prepare"]

LAYOUTS = {3: "NWC", 4: "NHWC", 5: "NDHWC"}
ADDED = re.compile(r"(__\d+|_castback|:\d+)+$")
"""What tf2onnx puts behind a name."""
MADE = re.compile(r"__\d+$")
"""What tf2onnx puts behind the name of a constant of its own."""
CALLED = re.compile(r"^((?:Stateful)?PartitionedCall(?:_\d+)?/)+")


def prepare(model: ir.Model, answer: Mapping[str, Any], given: Mapping[str, Sequence[int | str | None]]) -> None:
    """Take away the engine's names of sizes, and give those of inputs: N for the batch, or what the user says."""
    ports = {port["name"]: port for port in answer["inputs"]}
    for graph in model.graphs():
        for value in ir.convenience.create_value_mapping(graph).values():
            if value.shape is not None and value.const_value is None:
                value.shape = ir.Shape([size if isinstance(size, int) else None for size in value.shape])
    images = sum(value.shape is not None and len(value.shape) == 4 for value in model.graph.inputs)
    for value in model.graph.inputs:
        port = ports.get(value.name or "")
        if port is None or value.shape is None:
            continue
        names = next((given[key] for key in (port["name"], port["tensor"], f"{port['name']}:0") if key in given), ())
        value.shape = ir.Shape(
            [
                size if isinstance(size, int) else _named(value, axis, names, images)
                for axis, size in enumerate(value.shape)
            ]
        )


def _named(value: ir.Value, axis: int, names: Sequence[int | str | None], images: int) -> str:
    said = names[axis] if axis < len(names) else None
    if isinstance(said, str):
        return said
    if axis == 0:
        return "N"
    if value.shape is not None and len(value.shape) == 4 and images == 1 and axis in (1, 2):
        return "HW"[axis - 1]
    return f"{value.name}_{axis}"


def origin(model: ir.Model, operators: Mapping[str, str]) -> Origin:
    """The node of the source that a node comes from: its own name without what the engine added, or else that of the
    first node that uses it, or of what it uses."""
    known: dict[ir.Node, str] = {}
    nodes = [node for graph in model.graphs() for node in graph]
    sources = {name: name for name in operators} | {CALLED.sub("", name): name for name in operators}
    for node in nodes:
        for name in (node.name, *(value.name for value in node.outputs)):
            base = ADDED.sub("", name or "")
            if found := sources.get(base) or sources.get(CALLED.sub("", base)):
                known[node] = found
                break
    for node in reversed(nodes):
        if node not in known:
            users = [user for value in node.outputs for user, _ in value.uses() if user in known]
            if users:
                known[node] = known[users[0]]
    for node in nodes:
        if node not in known:
            makers = [v.producer() for v in node.inputs if v is not None and v.producer() in known]
            if makers and makers[0] is not None:
                known[node] = known[makers[0]]

    def of(node: ir.Node) -> tuple[str, str]:
        name = known.get(node, "")
        return CALLED.sub("", name), operators.get(name, "")

    return of


def finish(model: ir.Model, answer: Mapping[str, Any]) -> None:
    """Names of the source for values and nodes, and the layout of images."""
    _rename(model)
    _name_weights(model)
    formats = set(answer["formats"])
    if len(formats) != 1:
        return
    channels_last = formats == {"NHWC"}
    for value in (*model.graph.inputs, *model.graph.outputs):
        rank = len(value.shape) if value.shape is not None else 0
        if rank == 4 or (rank in LAYOUTS and f"rank{rank}" in answer.get("ranks", ())):
            last = LAYOUTS[rank]
            value.metadata_props[LAYOUT] = last if channels_last else "NC" + last[1:-1]


def _name_weights(model: ir.Model) -> None:
    """Name weights that the engine made by the layer that uses them and what they are to it: `conv1/Conv2D/W`."""
    graph = model.graph
    taken = {name for g in model.graphs() for name in ir.convenience.create_value_mapping(g)}
    for name, value in list(graph.initializers.items()):
        uses = list(value.uses())
        if not MADE.search(name) or not uses or value.is_graph_input() or value.is_graph_output():
            continue
        node, index = uses[0]
        layer = node.metadata_props.get(LAYER, "")
        schema = onnx.defs.get_schema(node.op_type, OPSET) if node.domain == "" else None
        if not layer or schema is None or index >= len(schema.inputs):
            continue
        wanted = f"{layer}/{schema.inputs[index].name}"
        if wanted not in taken:
            taken.add(wanted)
            del graph.initializers[name]
            value.name = wanted
            graph.initializers[wanted] = value


def _rename(model: ir.Model) -> None:
    """Take what calls of functions put before names, and what the engine put behind them, away where that is unique."""
    values = {v.name: v for g in model.graphs() for v in ir.convenience.create_value_mapping(g).values()}
    kept = {v.name for v in (*model.graph.inputs, *model.graph.outputs)}
    taken = set(values)
    for name, value in values.items():
        if name in kept or name is None:
            continue
        short = CALLED.sub("", name).removesuffix(":0")
        if short != name and short and short not in taken:
            taken.add(short)
            if name in model.graph.initializers:
                del model.graph.initializers[name]
                value.name = short
                model.graph.initializers[short] = value
            else:
                value.name = short
    names = {node.name for g in model.graphs() for node in g}
    for node in (node for g in model.graphs() for node in g):
        short = CALLED.sub("", node.name or "")
        if short != node.name and short and short not in names:
            names.add(short)
            node.name = short
