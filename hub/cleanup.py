"""What other projects' converters leave behind, taken away: nothing here changes a number.

1. identities and casts to the type that a value has already;
2. what is computed from constants alone;
3. transpositions, which are sunk through the graph until they cancel (`hub/layout.py`).
"""

from __future__ import annotations

import logging

import onnx_ir as ir

from hub.canonical import infer_shapes, lift_constants, tidy
from hub.layout import sink_transposes

__all__ = ["clean"]

LARGEST = 1 << 40
"""Numbers in a constant, above which it is not computed at conversion: none is."""


def clean(model: ir.Model) -> None:
    """Clean a canonical model, in place."""
    drop_idle(model)
    fold_constants(model)
    sink_transposes(model.graph)
    drop_idle(model)
    tidy(model)
    infer_shapes(model)


def drop_idle(model: ir.Model) -> None:
    """Take away Identity, Dropout, and Cast to the type that a value has."""
    for graph in model.graphs():
        for node in list(graph):
            if node.domain != "" or not node.inputs or node.inputs[0] is None:
                continue
            given, out = node.inputs[0], node.outputs[0]
            if not _idle(node, given) or any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
                continue
            if out.is_graph_output():
                if not _take_over(graph, given, out):
                    continue
            else:
                out.replace_all_uses_with(given)
            graph.remove(node, safe=True)


def _idle(node: ir.Node, given: ir.Value) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        return len(node.inputs) < 3 or node.inputs[2] is None
    return node.op_type == "Cast" and given.dtype is not None and given.dtype == node.attributes.get_int("to")


def _take_over(graph: ir.Graph, given: ir.Value, out: ir.Value) -> bool:
    """Give the output's name to what it is a copy of, if that is made here and is nothing else's name."""
    maker = given.producer()
    if maker is None or maker.graph is not graph or given.is_graph_output():
        return False
    if any(user.graph is not graph for user, _ in given.uses()):
        return False
    name, shape, kind, props = out.name, out.shape, out.type, dict(out.metadata_props)
    out.name = f"{name}/copy"
    given.name = name
    given.shape, given.type = shape if shape is not None else given.shape, kind if kind is not None else given.type
    given.metadata_props.update(props)
    for i, value in enumerate(graph.outputs):
        if value is out:
            graph.outputs[i] = given
    out.replace_all_uses_with(given)
    return True


def fold_constants(model: ir.Model) -> None:
    """Compute what depends on constants alone, by onnxscript's folder and ONNX's reference implementation."""
    from onnxscript import optimizer

    log = logging.getLogger("onnxscript.optimizer")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        optimizer.fold_constants(model, input_size_limit=LARGEST, output_size_limit=LARGEST)
    finally:
        log.setLevel(level)
    lift_constants(model)
