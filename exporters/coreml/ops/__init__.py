"""The ONNX operators that Core ML can say: one plain function each, in families."""

from __future__ import annotations

from exporters.coreml.ops import activation, conv, dense, indexing, merge, norm, pool, recurrent, reduce, resize, shape
from exporters.coreml.ops.table import OPS

__all__ = [
    "OPS",
    "activation",
    "conv",
    "dense",
    "indexing",
    "merge",
    "norm",
    "pool",
    "recurrent",
    "reduce",
    "resize",
    "shape",
]
