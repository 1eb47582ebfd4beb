"""Resize as a fixed linear map along each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.constants import Array
from exporters.lowering import Values
from hub.builder import GraphBuilder
from hub.errors import Refusal
from hub.model import Model

__all__ = ["axis_matrices", "picks_of"]


def axis_matrices(
    emit: Values[Any],
    scales: ir.Value | None,
    shape: Sequence[int | str],
    axes: Sequence[int] | None,
    options: Mapping[str, Any],
) -> dict[int, Array]:
    """By axis that changes, in order, the (new, old) matrix that the current node, a Resize, multiplies with.

    Each is what ONNX Runtime makes of the identity. `options` are the attributes of the node that matter to one axis.

    Raises:
        Refusal: the map is not fixed, or is not the same in ONNX Runtime and in the standard's reference.
    """
    coordinates = options["coordinate_transformation_mode"]
    if coordinates == "tf_crop_and_resize":
        raise Refusal("a crop whose place is an input")
    outputs = emit.result()
    given = emit.array(scales)
    if scales is not None and given is None:
        raise Refusal("its scales are computed at run time", "make them a constant of the model")
    which = [a % len(shape) for a in axes] if axes else list(range(len(shape)))
    factors: dict[int, float] = {}
    if given is not None and given.size:
        factors = dict(zip(which, [float(f) for f in given.reshape(-1)], strict=True))
    matrices = {}
    for axis in sorted(a for a in which if (factors[a] != 1 if factors else shape[a] != outputs[a])):
        n, m = shape[axis], outputs[axis]
        if not isinstance(n, int) or not isinstance(m, int):
            raise Refusal("a resize of an open size", "give the sizes of the inputs: inputs=, --input")
        if m == 0:
            raise Refusal("a tensor without elements")
        if coordinates == "align_corners" and abs(factors.get(axis, 1.0) * n % 1) > 1e-5:
            raise Refusal("aligned corners with a broken size, where ONNX Runtime and the standard's reference differ")
        matrices[axis] = _matrix(n, m, factors.get(axis), options)
    return matrices


def _matrix(n: int, m: int, factor: float | None, options: Mapping[str, Any]) -> Array:
    """The (m, n) matrix of a resize from n to m: what ONNX Runtime makes of the identity, row by row."""
    graph = GraphBuilder("resize")
    x = graph.input("x", ir.DataType.FLOAT, [1, n, 1, n])
    by = None if factor is None else graph.constant(np.array([1, 1, 1, factor], np.float32), "scales")
    to = graph.ints([1, n, 1, m], "sizes") if factor is None else None
    graph.output(graph.op("Resize", x, None, by, to, **options), "y")
    result = Model(graph.model()).run(np.eye(n, dtype=np.float32).reshape(1, n, 1, n))["y"]
    if result.shape != (1, n, 1, m):
        raise Refusal(f"a resize from {n} to {m} by {factor}")
    return np.ascontiguousarray(result[0, :, 0].T)


def picks_of(matrix: Array) -> list[int] | None:
    """The column that each row picks, if that is all it does."""
    if not np.all((matrix == 0) | (matrix == 1)) or not np.all(matrix.sum(axis=1) == 1):
        return None
    return [int(i) for i in matrix.argmax(axis=1)]
