"""The names of the source in what torch.onnx wrote."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from hub.canonical import LAYER
from hub.guard import Origin

__all__ = ["free_outputs", "name_inputs", "name_outputs", "name_recurrences", "origin", "scripted_origin"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"


def origin(node: ir.Node) -> tuple[str, str]:
    """The module that a node comes from, and its class; of a function's, the module's name and the function's."""
    scopes, classes = (_listed(node.metadata_props.get(key)) for key in (_SCOPES, _CLASSES))
    if len(scopes) < 2 or len(scopes) != len(classes) or "metadata_hook" in scopes[0]:
        return (scopes[-1] if scopes else "", "")
    module, kind = scopes[-2], classes[-2].rpartition(".")[2]
    if module and _leaf(classes[-2]):
        return module, kind
    return f"{module}/{scopes[-1]}".lstrip("/"), classes[-1].split(".")[1] if "." in classes[-1] else ""


def _leaf(kind: str) -> bool:
    """Whether a class is one of PyTorch's layers, whose operators together are the layer."""
    return kind.startswith("torch.nn.modules.") and not kind.startswith("torch.nn.modules.container")


def _listed(text: str | None) -> list[str]:
    try:
        found = ast.literal_eval(text or "[]")
    except (ValueError, SyntaxError):
        return []
    return [str(part) for part in found] if isinstance(found, list) else []


def scripted_origin(layers: Mapping[str, str]) -> Origin:
    """The same for TorchScript, whose nodes are named by their modules: /layer1/layer1.0/conv/Conv."""

    def found(node: ir.Node) -> tuple[str, str]:
        path = ""
        for part in (node.name or "").strip("/").split("/")[:-1]:
            joined = f"{path}.{part}" if path else part
            shorter = next((p for p in (joined, part) if p in layers), None)
            if shorter is None and path.rpartition(".")[2] and part.startswith(f"{path.rpartition('.')[2]}."):
                whole = f"{path.rpartition('.')[0]}.{part}".lstrip(".")
                shorter = whole if whole in layers else None
            path = shorter or path
        last = (node.name or "").rpartition("/")[2]
        inner = any(name.startswith(f"{path}.") for name in layers)
        return (path, layers[path]) if path and not inner else (f"{path}/{last}".lstrip("/"), "")

    return found


def name_inputs(model: ir.Model, inputs: Sequence[Mapping[str, Any]]) -> None:
    """The names and the free sizes of the inputs: `shape` as in `importers.torch.given.Given`."""
    renamed: dict[str, str] = {}
    for value, one in zip(model.graph.inputs, inputs, strict=False):
        _rename(model, value, one["name"])
        shape = one.get("called") or one["shape"]
        for axis, (dim, wanted) in enumerate(zip(value.shape or (), shape, strict=False)):
            if isinstance(wanted, int) or isinstance(dim, int):
                continue
            text = str(dim.value)
            if re.fullmatch(r".*\bs\d+\b.*", wanted):  # a symbol of PyTorch's, which nobody has named
                wanted = "N" if axis == 0 and "N" not in renamed.values() else f"{one['name']}_{axis}"
            renamed.setdefault(text, wanted)
    _rename_sizes(model, renamed)


def _rename_sizes(model: ir.Model, renamed: Mapping[str, str]) -> None:
    def one(dim: Any) -> int | str | None:
        if isinstance(dim, int):
            return dim
        text = str(dim.value) if dim.value is not None else None
        if text is None or text in renamed:
            return None if text is None else renamed[text]
        return re.sub(r"\bs\d+\b", lambda match: renamed.get(match.group(0), match.group(0)), text)

    for value in [*model.graph.inputs, *(v for node in model.graph.all_nodes() for v in node.outputs)]:
        if value.shape is not None:
            value.shape = ir.Shape([one(dim) for dim in value.shape])


def free_outputs(model: ir.Model) -> None:
    """Forget the sizes that TorchScript's exporter has seen in one run; shape inference finds those that hold."""
    inputs = set(model.graph.inputs)
    for value in [v for node in model.graph.all_nodes() for v in node.outputs]:
        if value not in model.graph.outputs:
            value.shape = None
    for value in model.graph.outputs:
        if value.shape is not None and value not in inputs:
            value.shape = ir.Shape([f"{value.name}_{axis}" for axis in range(len(value.shape))])


def name_outputs(model: ir.Model, names: Sequence[str]) -> None:
    """The names of the outputs; one that is an input, or another output too, becomes a copy of it."""
    graph = model.graph
    seen: set[ir.Value] = set()
    for i, (value, name) in enumerate(zip(list(graph.outputs), names, strict=False)):
        if value in seen or value.producer() is None:
            node = ir.node("Identity", [value], name=f"{name}/copy")
            node.metadata_props[LAYER] = name
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.append(node)
            graph.outputs[i] = value = node.outputs[0]
        seen.add(value)
        _rename(model, value, name)


def _rename(model: ir.Model, value: ir.Value, name: str) -> None:
    if value.name == name:
        return
    graph = model.graph
    if name in graph.initializers:
        held = graph.initializers.pop(name)
        held.name = f"{name}/weight"
        graph.register_initializer(held)
    for other in [*graph.inputs, *(v for node in graph.all_nodes() for v in node.outputs)]:
        if other.name == name and other is not value:
            other.name = f"{name}/inner"
    value.name = name


def name_recurrences(model: ir.Model) -> None:
    """The weights of a recurrence, which ONNX wants in another order, are called after its module."""
    count: dict[str, int] = {}
    for node in model.graph:
        if node.op_type in ("LSTM", "GRU", "RNN") and (layer := node.metadata_props.get(LAYER)):
            number = count[layer] = count.get(layer, -1) + 1
            for i, part in ((1, "W"), (2, "R"), (3, "B")):
                value = node.inputs[i] if i < len(node.inputs) else None
                name = f"{layer}.{part}_l{number}"
                if value is not None and value.name in model.graph.initializers and len(value.uses()) == 1:
                    if name not in model.graph.initializers:
                        del model.graph.initializers[str(value.name)]
                        value.name = name
                        model.graph.register_initializer(value)
