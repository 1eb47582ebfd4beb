"""An initial state of zeros is none: LSTM(x, initial_h = 0) = LSTM(x), and so for initial_c, GRU and RNN.

Zeros are constants, and what moves, repeats or takes parts of zeros, whatever size that is at run time: so a
state that programs make for the batch that comes is gone, with all that computed its shape.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.rules import Applied, each

__all__ = ["zero_states"]

STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Which inputs are initial states."""

MOVING = frozenset("Cast Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split())
"""Operators of which each element is one of their first input."""

MOST = 1 << 20
"""Elements up to which a constant is looked at."""


def zero_states(model: ir.Model) -> Applied:
    """Leave out initial states that are zeros, in place."""
    return each(model, STATES, _leave_out)


def _leave_out(node: ir.Node) -> str | None:
    given = [i for i in STATES[node.op_type] if i < len(node.inputs) and node.inputs[i] is not None]
    zeros = [i for i in given if _is_zero(node.inputs[i])]
    for index in zeros:
        node.replace_input_with(index, None)
    if zeros or not given:
        return "" if zeros else None
    return "its initial state is not zeros"


def _is_zero(value: ir.Value | None) -> bool:
    """Whether all elements are known to be 0."""
    seen: set[ir.Value] = set()
    while value is not None and value not in seen:
        seen.add(value)
        if value.const_value is not None:
            tensor = value.const_value
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
