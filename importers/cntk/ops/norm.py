"""What normalizes over a batch."""

from __future__ import annotations

import onnx_ir as ir

from importers.cntk.context import Context, Tensor
from importers.cntk.table import function

__all__: list[str] = []


@function("BatchNormalization")
def batch_normalization(
    cntk: Context,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    count: Tensor | None = None,
    *,
    spatial: bool = False,
    epsilon: float = 1e-5,
) -> Tensor:
    """With the running statistics, of each channel with `spatial`, of each place without."""
    sizes = cntk.shape(x)
    cntk.require(bool(sizes), "an input without static axes")
    vectors = [_vector(cntk, value, x) for value in (scale, bias, mean, variance)]
    if spatial or len(sizes) == 1:
        value, back = cntk.merged(x)
        return back(cntk.op("BatchNormalization", value, *vectors, epsilon=float(epsilon)))
    value, back = cntk.merged(x)
    flat = cntk.reshape(value, [0, -1])
    y = cntk.op("BatchNormalization", flat, *vectors, epsilon=float(epsilon))
    return back(cntk.reshape(y, [0, *(-1 if size is None else size for size in sizes)]))


def _vector(cntk: Context, parameter: Tensor, x: Tensor) -> ir.Value:
    """A parameter as a vector, of the type of the input."""
    cntk.require(parameter.dynamic == 0, "a parameter that is computed")
    value = parameter.value if cntk.rank(parameter) == 1 else cntk.reshape(parameter, [-1])
    return value
