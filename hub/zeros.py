"""Values that are nothing but zeros, whatever their size when the model runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["is_zero"]

MOVING = frozenset(
    """Cast CastLike Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze""".split()
)
"""Operators of which each element is one of their first input."""

MOST = 1 << 22
"""Elements up to which a constant is looked at."""


def is_zero(value: ir.Value | None) -> bool:
    """Whether all elements are known to be 0: those of a constant, or of what moves, repeats or takes parts of one."""
    seen: set[ir.Value] = set()
    while value is not None and value not in seen:
        seen.add(value)
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return 0 < tensor.size <= MOST and not np.any(tensor.numpy())
        node = value.producer()
        if node is None or node.domain != "":
            return False
        if node.op_type == "ConstantOfShape":
            fill = node.attributes.get("value")
            return fill is None or not np.any(fill.as_tensor().numpy())
        if node.op_type not in MOVING:
            return False
        value = node.inputs[0]
    return False
