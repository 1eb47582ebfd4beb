"""The layers of Keras, by family; importing this package registers them."""

from importers.keras.ops import (
    activation,
    attention,
    conv,
    dense,
    merge,
    norm,
    operations,
    pool,
    recurrent,
    shape,
    wrapper,
)

__all__ = [
    "activation",
    "attention",
    "conv",
    "dense",
    "merge",
    "norm",
    "operations",
    "pool",
    "recurrent",
    "shape",
    "wrapper",
]
