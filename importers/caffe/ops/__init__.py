"""The layers of Caffe, by family; importing this package registers them."""

from importers.caffe.ops import activation, conv, merge, norm, pool, shape

__all__ = ["activation", "conv", "merge", "norm", "pool", "shape"]
