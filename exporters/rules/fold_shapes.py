"""Arithmetic on shapes that are known.

Shape(x) is a constant where all sizes of x are, and so is a part of it whose sizes are; and whatever is computed
from constants alone, as long as it counts (integers, or few). What could not be inferred before because a shape
was computed is then inferred, in the order of the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.constants import Array, Constant, fold_constant
from exporters.rules import Applied, constant
from exporters.rules.sizes import entries
from hub.builder import infer
from hub.canonical import layer_of, tidy
from hub.errors import HubError

__all__ = ["fold_shapes"]

MOST = 1024
"""Integers up to which a result counts as arithmetic on shapes."""

FEW = 8
"""The same of other numbers: sizes are divided, and roots taken of them."""

PICKING = frozenset("Slice Gather Squeeze Unsqueeze Identity".split())
"""Operators that take some sizes of those of a shape."""


def fold_shapes(model: ir.Model) -> Applied:
    """Replace what is computed from known shapes by constants, in place."""
    applied = Applied()
    graph = model.graph
    for node in list(graph):
        if node.domain != "" or len(node.outputs) != 1:
            continue
        array = _value(node, graph.opset_imports.get("", 1))
        if array is not None and not node.outputs[0].is_graph_output():
            known = constant(graph, array, f"{node.outputs[0].name}/known")
            node.outputs[0].replace_all_uses_with(known)
            applied.changed.append(layer_of(node))
        elif node.outputs[0].shape is None or not all(isinstance(size, int) for size in node.outputs[0].shape):
            if not _infer(node):
                applied.left[layer_of(node)] = "its shape is not known"
    if applied.changed:
        tidy(model)
    return applied


def _value(node: ir.Node, opset: int) -> Array | None:
    """The few integers that a node gives, if they are known."""
    if node.op_type == "Shape":
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        ends = [node.attributes.get_int(name) if name in node.attributes else None for name in ("start", "end")]
        sizes = None if shape is None else list(shape)[slice(*ends)]
        if sizes is None or not all(isinstance(size, int) for size in sizes):
            return None
        return np.array(sizes, np.int64)
    if node.op_type in PICKING and (part := _sizes(node.outputs[0])) is not None:
        return part
    tensors = [None if value is None else value.const_value for value in node.inputs]
    given = [tensor for tensor, value in zip(tensors, node.inputs, strict=True) if value is not None]
    if not given or any(tensor is None or tensor.size > MOST for tensor in given):
        return None
    if node.op_type in ("Constant", "ConstantOfShape", "Range") and given[0] is not None and given[0].size > 8:
        return None
    inputs = [None if t is None else Constant(tuple(t.shape.numpy()), t.dtype, t.numpy) for t in tensors]
    folded = fold_constant(node, inputs, opset)
    if folded is None or folded[0].size > (MOST if folded[0].dtype.numpy().kind in "iub" else FEW):
        return None
    return folded[0].numpy()


def _sizes(value: ir.Value) -> Array | None:
    """Sizes that are computed from shapes, if all of these are known."""
    if value.shape is None or len(value.shape) > 1 or value.dtype != ir.DataType.INT64:
        return None
    found = entries(value)
    if not found or not all(isinstance(size, int) for size in found) or (not len(value.shape) and len(found) > 1):
        return None
    return np.array(found, np.int64).reshape([len(found)] * len(value.shape))


def _infer(node: ir.Node) -> bool:
    """Infer a shape again from what is known by now; whether its rank is known. No size is forgotten."""
    (out,) = node.outputs
    before, kind = out.shape, out.type
    try:
        infer(node)
    except HubError:
        out.shape = None
    if out.shape is None or (before is not None and len(before) != len(out.shape)):
        out.shape, out.type = before, kind
    elif before is not None:
        out.shape = ir.Shape([b if isinstance(b, int) else a for a, b in zip(before, out.shape, strict=True)])
    if out.shape is not None and node.op_type == "Reshape":
        asked = entries(node.inputs[1]) or []
        if len(asked) == len(out.shape):  # 0 and -1 say no size
            out.shape = ir.Shape(
                [a if isinstance(a, int) and a > 0 else b for a, b in zip(asked, out.shape, strict=True)]
            )
    return out.shape is not None
