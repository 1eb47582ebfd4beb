"""The layers of Caffe, by family; importing this package registers them."""

from importers.caffe.ops import activation, conv, detection, forks, merge, norm, pool, recurrent, shape

__all__ = ["activation", "conv", "detection", "forks", "merge", "norm", "pool", "recurrent", "shape"]
