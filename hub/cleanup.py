"""What other projects' converters leave behind, taken away: nothing here changes a number.

1. identities and casts to the type that a value has already;
2. what is computed from constants alone;
3. axes of a Slice of which all is kept;
4. transpositions, which are sunk through the graph until they cancel (`hub/layout.py`);
5. shapes that are computed at run time and are known but for one size (`hub/sizes.py`).
"""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir

from hub.canonical import infer_shapes, lift_constants, tidy
from hub.layout import sink_transposes
from hub.sizes import name_sizes, settle_reshapes

__all__ = ["clean"]

LARGEST = 1 << 40
"""Numbers in a constant, above which it is not computed at conversion: none is."""


def clean(model: ir.Model) -> None:
    """Clean a canonical model, in place."""
    drop_idle(model)
    fold_constants(model)
    trim_slices(model)
    lift_constants(model)
    drop_idle(model)
    sink_transposes(model.graph)
    name_sizes(model)
    settle_reshapes(model)
    drop_idle(model)
    tidy(model)
    infer_shapes(model)
    name_sizes(model)


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
    if node.op_type == "Reshape":
        return _same(given.shape, node.outputs[0].shape)
    if node.op_type == "Slice":
        axes = ir.convenience.get_const_tensor(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
        return axes is not None and axes.size == 0
    if node.op_type == "Dropout":
        return len(node.inputs) < 3 or node.inputs[2] is None
    return node.op_type == "Cast" and given.dtype is not None and given.dtype == node.attributes.get_int("to")


def _same(one: ir.Shape | None, other: ir.Shape | None) -> bool:
    """Whether two shapes are known to be the same; of two open sizes, only their order would be."""
    if one is None or other is None or len(one) != len(other):
        return False
    open_sizes = [size for size in one if not isinstance(size, int)]
    known = all(isinstance(a, int) or a.value is not None for a in one)
    return known and len(open_sizes) < 2 and list(one) == list(other)


def trim_slices(model: ir.Model) -> None:
    """Let Slices say nothing of axes of which they keep all; targets that know no batch take them for more."""
    for graph in model.graphs():
        for node in list(graph):
            if node.op_type != "Slice" or node.domain != "" or len(node.inputs) < 4:
                continue
            given = [None if v is None else ir.convenience.get_const_tensor(v) for v in node.inputs[1:]]
            if any(v is not None and tensor is None for v, tensor in zip(node.inputs[1:], given, strict=True)):
                continue
            parts = [tensor.numpy().reshape(-1).tolist() if tensor is not None else None for tensor in given]
            starts, ends, axes, steps = [*parts, None][:4]
            if starts is None or ends is None or axes is None:
                continue
            steps = steps or [1] * len(axes)
            rows = [row for row in zip(starts, ends, axes, steps, strict=True) if not _all(node, *row)]
            if len(rows) < len(axes):
                columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], [], []]
                _replace(graph, node, columns)


def _all(node: ir.Node, start: int, end: int, axis: int, step: int) -> bool:
    given = node.inputs[0].shape if node.inputs[0] is not None else None
    size = given[axis] if given is not None and -len(given) <= axis < len(given) else None
    return start == 0 and step == 1 and (end >= 10**9 or (isinstance(size, int) and end >= size))


def _replace(graph: ir.Graph, node: ir.Node, columns: list[list[int]]) -> None:
    for index, (name, column) in enumerate(zip(("starts", "ends", "axes", "steps"), columns, strict=True), 1):
        if index >= len(node.inputs):
            break
        tensor = ir.tensor(np.array(column, np.int64), name=f"{node.name}/{name}")
        constant = ir.node("Constant", [], {"value": tensor}, name=f"{node.name}/{name}")
        constant.outputs[0].name = f"{node.name}/{name}"
        constant.outputs[0].const_value = tensor
        constant.outputs[0].type, constant.outputs[0].shape = ir.TensorType(tensor.dtype), ir.Shape([len(column)])
        graph.insert_before(node, constant)
        node.replace_input_with(index, constant.outputs[0])


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
