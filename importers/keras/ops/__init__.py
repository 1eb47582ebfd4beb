"""The layers of Keras, by family; importing this package registers them."""

from importers.keras.ops import activation, conv, dense, merge, norm, operations, pool, shape

__all__ = ["activation", "conv", "dense", "merge", "norm", "operations", "pool", "shape"]
