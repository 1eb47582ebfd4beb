"""What is done to a model before CNTK's op functions see it, in order, and why."""

from __future__ import annotations

import onnx_ir as ir

from exporters.cntk.ops import OPS
from exporters.rules.expand_functions import expand_functions
from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.static_shapes import static_shapes
from exporters.rules.zero_states import zero_states

__all__ = ["legalize"]


def legalize(model: ir.Model) -> None:
    """Bring a copy of a canonical model to what CNTK can say."""
    expand_functions(model, OPS)  # what is defined by operators that CNTK has,
    zero_states(model)  # states for any batch are made of its size, and CNTK computes no shapes:
    fold_shapes(model)  # some are known,
    static_shapes(model)  # others are known but for the batch
