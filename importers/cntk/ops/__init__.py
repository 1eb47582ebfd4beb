"""The functions of CNTK, by family; importing this package registers them."""

from importers.cntk.ops import (
    activation,
    blocks,
    conv,
    elementwise,
    loss,
    norm,
    pool,
    product,
    reduce,
    sequence,
    shape,
)

__all__ = [
    "activation",
    "blocks",
    "conv",
    "elementwise",
    "loss",
    "norm",
    "pool",
    "product",
    "reduce",
    "sequence",
    "shape",
]
