"""The ONNX operators that CNTK can say: one plain function each, in families."""

from __future__ import annotations

from exporters.cntk.ops import activation, conv, dense, indexing, merge, norm, pool, recurrent, reduce, resize, shape
from exporters.cntk.ops.table import OPS

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
