"""An initial state of zeros is none: LSTM(x, initial_h = 0) = LSTM(x), and so for initial_c, GRU and RNN.

Zeros are constants, and what moves, repeats or takes parts of zeros, whatever size that is at run time: so a
state that programs make for the batch that comes is gone, with all that computed its shape.
"""

from __future__ import annotations

import onnx_ir as ir

from exporters.rules import Applied, each
from hub.zeros import is_zero

__all__ = ["zero_states"]

STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Which inputs are initial states."""


def zero_states(model: ir.Model) -> Applied:
    """Leave out initial states that are zeros, in place."""
    return each(model, STATES, _leave_out)


def _leave_out(node: ir.Node) -> str | None:
    given = [i for i in STATES[node.op_type] if i < len(node.inputs) and node.inputs[i] is not None]
    zeros = [i for i in given if is_zero(node.inputs[i])]
    for index in zeros:
        node.replace_input_with(index, None)
    if zeros or not given:
        return "" if zeros else None
    return "its initial state is not zeros"
