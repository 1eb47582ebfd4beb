"""Names for the sizes that inference leaves open: the standard's own makes up `unk__0` where it loses sight of one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.canonical import inferred
from hub.errors import InvalidModel

__all__ = ["name_sizes", "settle_reshapes"]

FIRST = ((7, 11), (13, 17), (19, 23), (29, 31), (37, 41), (43, 47))
"""Sizes that are tried for batches."""
OTHER = 1 << 9


def name_sizes(model: ir.Model) -> None:
    """Say of each open size which of the inputs' it is, or its number, in place; what is neither has no name.

    Sizes are inferred for two sets of numbers in place of the inputs' symbols. What follows a symbol through both is
    that symbol; what stays the same is a number.
    """
    symbols: dict[str, int] = {}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                symbols.setdefault(size.value, axis)
    tried = {name: _sizes(axis, i) for i, (name, axis) in enumerate(symbols.items())}
    try:
        trials = [inferred(model, {name: sizes[k] for name, sizes in tried.items()}) for k in (0, 1)] if tried else []
    except InvalidModel:
        trials = []  # the numbers are too small, or too large, for the network
    names = {sizes: name for name, sizes in tried.items()}
    for (value, one), (_, two) in zip(*trials, strict=True) if trials else ():
        first, second = one.shape, two.shape
        if value.shape is None or first is None or second is None or len(value.shape) != len(first):
            continue
        if len(second) != len(first) or value.is_graph_input():
            continue
        value.shape = ir.Shape([_named(*sizes, names) for sizes in zip(value.shape, first, second, strict=True)])
    for graph in model.graphs():
        for value in ir.convenience.create_value_mapping(graph).values():
            if value.shape is not None and value.const_value is None and not value.shape.is_static():
                value.shape = ir.Shape([_known(size) for size in value.shape])


def _sizes(axis: int, number: int) -> tuple[int, int]:
    """Two sizes for a symbol: small ones for a batch, ones large enough for an image for the others."""
    if axis == 0:
        return FIRST[number] if number < len(FIRST) else (47 + 6 * number, 49 + 6 * number)
    return OTHER + 64 * number, 3 * OTHER + 64 * number


def _named(
    size: int | ir.SymbolicDim, one: int | ir.SymbolicDim, two: int | ir.SymbolicDim, names: dict[tuple[int, int], str]
) -> int | str | None:
    if isinstance(size, int):
        return size
    if isinstance(one, int) and isinstance(two, int):
        return one if one == two else names.get((one, two), _known(size))
    return _known(size)


def _known(size: int | ir.SymbolicDim) -> int | str | None:
    if isinstance(size, int):
        return size
    return None if size.value is None or size.value.startswith("unk__") else size.value


def settle_reshapes(model: ir.Model) -> None:
    """Make the shape of a Reshape a constant where it is computed and all sizes but one are known, in place."""
    for node in [n for n in model.graph if n.op_type == "Reshape" and n.domain == ""]:
        shape, computed = node.outputs[0].shape, node.inputs[1]
        if shape is None or computed is None or ir.convenience.get_const_tensor(computed) is not None:
            continue
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        if sizes.count(-1) > 1 or 0 in sizes:
            continue
        name = f"{node.name}/shape"
        tensor = ir.tensor(np.array(sizes, np.int64), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([len(sizes)]), const_value=tensor)
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)
