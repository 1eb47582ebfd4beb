"""What is done to a model before Core ML's op functions see it, in order, and why."""

from __future__ import annotations

import onnx_ir as ir

from exporters.coreml.ops import OPS
from exporters.rules.expand_functions import expand_functions
from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.static_shapes import static_shapes

__all__ = ["legalize"]


def legalize(model: ir.Model) -> None:
    """Bring a copy of a canonical model to what Core ML can say."""
    expand_functions(model, OPS)  # what is defined by operators that Core ML has
    fold_shapes(model)  # Core ML can compute shapes, but its faster engines take only those that are known,
    static_shapes(model)  # or known but for the batch
