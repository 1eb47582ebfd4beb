"""The ops that PyTorch code can say: one plain function an op, in families."""

from __future__ import annotations

from exporters.torch.ops import activation, conv, dense, indexing, merge, norm, pool, reduce, resize, shape
from exporters.torch.ops.table import OPS

__all__ = ["OPS", "activation", "conv", "dense", "indexing", "merge", "norm", "pool", "reduce", "resize", "shape"]
