"""The ONNX operators that Caffe can say: one plain function each, in families."""

from __future__ import annotations

from exporters.caffe.ops import activation, conv, dense, merge, norm, pool, recurrent, reduce, resize, shape
from exporters.caffe.ops.table import OPS

__all__ = ["OPS", "activation", "conv", "dense", "merge", "norm", "pool", "recurrent", "reduce", "resize", "shape"]
