"""The ONNX operators that Core ML can say: one plain function each, in families."""

from __future__ import annotations

from exporters.coreml.ops import (
    activation,
    control,
    conv,
    dense,
    indexing,
    merge,
    norm,
    pool,
    quantize,
    recurrent,
    reduce,
    resize,
    shape,
)
from exporters.coreml.ops.table import OPS

__all__ = [
    "OPS",
    "activation",
    "control",
    "conv",
    "dense",
    "indexing",
    "merge",
    "norm",
    "pool",
    "quantize",
    "recurrent",
    "reduce",
    "resize",
    "shape",
]
