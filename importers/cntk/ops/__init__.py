"""The functions of CNTK, by family; importing this package registers them."""

from importers.cntk.ops import activation, conv, elementwise, norm, pool, product, reduce, sequence, shape

__all__ = ["activation", "conv", "elementwise", "norm", "pool", "product", "reduce", "sequence", "shape"]
