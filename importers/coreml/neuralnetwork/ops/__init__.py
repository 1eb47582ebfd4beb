"""The layers of neural networks, by family. Importing this package registers all of them."""

from importers.coreml.neuralnetwork.ops import (  # noqa: F401
    activation,
    control,
    conv,
    dense,
    elementwise,
    fill,
    index,
    norm,
    pool,
    random,
    recurrent,
    reduce,
    resize,
    select,
    shape,
    slices,
)

__all__: list[str] = []
