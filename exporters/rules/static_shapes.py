"""Shapes that are computed at run time but known all the same.

Reshape(x, s) = Reshape(x, c), Expand(x, s) = Expand(x, c), Resize(x, sizes=s) = Resize(x, sizes=c) where c is
the shape of the result that shape inference finds, with at most one open size: the batch, which Reshape
copies (0) or infers (-1). The nodes that computed s are then without a use.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.rules import Applied, constant, each
from exporters.rules.sizes import entries

__all__ = ["static_shapes"]


_SHAPES = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operators that take a shape, and which of their inputs it is."""


def static_shapes(model: ir.Model) -> Applied:
    """Write known shapes as constants, in place."""
    return each(model, _SHAPES, lambda node: _settle(model.graph, node))


def _settle(graph: ir.Graph, node: ir.Node) -> str | None:
    """Replace the shape that `node` is given; returns why not, if not, and None if it is not computed."""
    index = _SHAPES[node.op_type]
    computed = node.inputs[index] if len(node.inputs) > index else None
    if computed is None or computed.const_value is not None or computed.producer() is None:
        return None
    shape, before = node.outputs[0].shape, node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or before is None:
        return "the shape of its result is not known"
    open_axes = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    if node.op_type == "Resize":
        changed = [i for i in range(len(shape)) if i not in open_axes]
        given = entries(node.inputs[index])
        named = given if given is not None and len(given) == len(shape) else list(shape)
        if any(named[i] != before[i] for i in open_axes) or "axes" in node.attributes:
            return "a size of its result is open"
        if node.attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
            return "its sizes are not those of its result"
        node.attributes["axes"] = ir.AttrInt64s("axes", changed)
        target = [int(shape[i]) for i in changed]  # type: ignore[arg-type]
    else:
        if len(open_axes) > 1:
            return "several sizes of its result are open"
        if open_axes and node.op_type == "Expand" and shape[open_axes[0]] != _at(before, shape, open_axes[0]):
            return "it expands to an open size"
        absent = 1 if node.op_type == "Expand" else -1
        target = [size if isinstance(size, int) else absent for size in shape]
        if node.op_type == "Reshape" and open_axes == [0] and len(before) and before[0] == shape[0]:
            target[0] = 0
        if node.op_type == "Reshape" and 0 in shape:
            return "its result has no elements"
        node.attributes.pop("allowzero", None)  # a 0 is copied from here on
    value = constant(graph, np.array(target, np.int64), f"{node.outputs[0].name}/shape")
    node.replace_input_with(index, value)
    return ""


def _at(before: ir.Shape, shape: ir.Shape, axis: int) -> object:
    """The size that meets `axis` of the result when the two are aligned at their ends."""
    own = axis - (len(shape) - len(before))
    return before[own] if own >= 0 else 1
