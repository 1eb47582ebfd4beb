"""The operations of MIL, by family: one plain function each, registered in `importers.coreml.table`."""

from importers.coreml.ops import (  # noqa: F401
    activation,
    compressed,
    control,
    conv,
    elementwise,
    gather,
    linear,
    norm,
    pool,
    random,
    recurrent,
    reduce,
    resize,
    shape,
    slices,
    vision,
)

__all__: list[str] = []
