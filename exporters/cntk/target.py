"""What is done to a model before CNTK's op functions see it, in order, and why."""

from __future__ import annotations

import onnx_ir as ir

from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.static_shapes import static_shapes

__all__ = ["legalize"]


def legalize(model: ir.Model) -> None:
    """Bring a copy of a canonical model to what CNTK can say."""
    fold_shapes(model)  # CNTK computes no shapes: some are known,
    static_shapes(model)  # others are known but for the batch
