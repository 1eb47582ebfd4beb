"""Normalizations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import OPEN, Mil
from importers.coreml.table import Ints, op

__all__: list[str] = []


def _of_channels(mil: Mil, x: ir.Value, given: ir.Value | None, number: float, name: str) -> ir.Value:
    """A number for each channel: what is given, or the same for all."""
    if given is not None:
        return mil.cast(given, mil.dtype(x))
    channels = mil.sizes(x)[1]
    if channels is None:
        raise Refusal("the number of channels is open", OPEN)
    return mil.array(np.full(channels, number), x, name)


@op("batch_norm")
def batch_norm(
    mil: Mil,
    x: ir.Value,
    mean: ir.Value,
    variance: ir.Value,
    gamma: ir.Value | None = None,
    beta: ir.Value | None = None,
    *,
    epsilon: float = 1e-5,
) -> ir.Value:
    """BatchNormalization."""
    scale, shift = _of_channels(mil, x, gamma, 1, "ones"), _of_channels(mil, x, beta, 0, "zeros")
    mean, variance = mil.cast(mean, mil.dtype(x)), mil.cast(variance, mil.dtype(x))
    return mil.op("BatchNormalization", x, scale, shift, mean, variance, epsilon=epsilon)


@op("instance_norm")
def instance_norm(
    mil: Mil, x: ir.Value, gamma: ir.Value | None = None, beta: ir.Value | None = None, *, epsilon: float = 1e-5
) -> ir.Value:
    """InstanceNormalization."""
    scale, shift = _of_channels(mil, x, gamma, 1, "ones"), _of_channels(mil, x, beta, 0, "zeros")
    return mil.op("InstanceNormalization", x, scale, shift, epsilon=epsilon)


@op("layer_norm")
def layer_norm(
    mil: Mil,
    x: ir.Value,
    gamma: ir.Value | None = None,
    beta: ir.Value | None = None,
    *,
    axes: Ints | None = None,
    epsilon: float = 1e-5,
) -> ir.Value:
    """LayerNormalization over the last axes where there is a gamma; otherwise from means."""
    rank = mil.rank(x)
    along = [mil.axis(axis, rank) for axis in (range(rank) if axes is None else axes)]
    if along != sorted(set(along)):
        raise Refusal(f"its axes {along} are not in order")
    gamma, beta = (None if one is None else mil.cast(one, mil.dtype(x)) for one in (gamma, beta))
    if along and along == list(range(along[0], rank)) and gamma is not None:
        return mil.op("LayerNormalization", x, gamma, beta, axis=along[0], epsilon=epsilon)
    over = mil.ints(along, "axes")
    centered = mil.op("Sub", x, mil.op("ReduceMean", x, over))
    variance = mil.op("ReduceMean", mil.op("Mul", centered, centered), over)
    y = mil.op("Div", centered, mil.op("Sqrt", mil.op("Add", variance, mil.scalar(epsilon, x, "epsilon"))))
    between = [axis for axis in range(along[0] if along else 0, rank) if axis not in along]
    y = y if gamma is None else mil.op("Mul", y, mil.unsqueeze(gamma, *_inside(between, along)) if between else gamma)
    return y if beta is None else mil.op("Add", y, mil.unsqueeze(beta, *_inside(between, along)) if between else beta)


def _inside(between: list[int], along: list[int]) -> list[int]:
    """Where, among the axes from the first one on, those are that nothing is done along."""
    return [axis - along[0] for axis in between]


@op("l2_norm")
def l2_norm(mil: Mil, x: ir.Value, *, epsilon: float = 1e-6) -> ir.Value:
    """x / sqrt(the sum of its squares over the last three axes + epsilon)."""
    rank = mil.rank(x)
    over = mil.ints(list(range(max(rank - 3, 0), rank)), "axes")
    total = mil.op("ReduceSumSquare", x, over)
    return mil.op("Div", x, mil.op("Sqrt", mil.op("Add", total, mil.scalar(epsilon, x, "epsilon"))))


@op("local_response_norm")
def local_response_norm(
    mil: Mil, x: ir.Value, *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> ir.Value:
    """LRN over the third axis from the end, for odd sizes.

    The documentation has the second axis, which is the same of images. Of three axes the numbers in Apple's tests are
    those of the third from the end, as in the layer of neural networks, which coremltools takes for the same. Which
    channels an even size takes Apple says nowhere.
    """
    mil.require(size > 0, f"a size of {size}")
    rank, sizes = mil.rank(x), mil.sizes(x)
    mil.require(rank >= 3, f"an input of {rank} axes")
    if size % 2 == 0 and sizes[-3] != 1:
        raise Refusal(f"its size is {size}: which channels an even one takes is not documented")
    alpha, size = (alpha / size, 1) if sizes[-3] == 1 else (alpha, size)  # each number by itself
    if rank == 4:
        return mil.op("LRN", x, size=size, alpha=alpha, beta=beta, bias=k)
    mil.warn("local_response_norm of other than four axes goes over the third from the end, as Apple's tests do")
    if rank == 3:
        return mil.squeeze(mil.op("LRN", mil.unsqueeze(x, 0), size=size, alpha=alpha, beta=beta, bias=k), 0)
    whole = [mil.size(x, i) for i in range(rank)]
    flat = mil.reshape(x, [mil.product(whole[:-3]), *whole[-3:]])
    return mil.reshape(mil.op("LRN", flat, size=size, alpha=alpha, beta=beta, bias=k), whole)
