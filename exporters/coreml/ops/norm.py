"""Normalizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


@OPS("BatchNormalization")
def batch_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
    mean: ir.Value,
    var: ir.Value,
    *,
    epsilon: float,
) -> Var:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, along axis 1"""
    constant = all(emit.constant(value) is not None for value in (scale, bias, mean, var))
    rank = emit.rank(x)
    if constant and 3 <= rank <= 5:
        return emit(
            "batch_norm", x=emit.floats(x), mean=mean, variance=var, gamma=scale, beta=bias,
            epsilon=emit.number(x, epsilon),
        )  # fmt: skip
    sizes = [1, -1] + [1] * (rank - 2) if rank > 1 else [-1]
    scale_, bias_, mean_, var_ = (emit("reshape", x=v, shape=sizes) for v in (scale, bias, mean, var))
    root = emit("sqrt", x=emit("add", x=var_, y=emit.number(x, epsilon)))
    normal = emit("real_div", x=emit("sub", x=emit.floats(x), y=mean_), y=root)
    return emit("add", x=emit("mul", x=normal, y=scale_), y=bias_)


@OPS("InstanceNormalization")
def instance_normalization(emit: Emitter, x: ir.Value, scale: ir.Value, bias: ir.Value, *, epsilon: float) -> Var:
    if emit.constant(scale) is not None and emit.constant(bias) is not None and emit.rank(x) in (3, 4):
        return emit("instance_norm", x=emit.floats(x), gamma=scale, beta=bias, epsilon=emit.number(x, epsilon))
    axes = list(range(2, emit.rank(x)))
    normal = normalized(emit, emit.floats(x), axes, emit.number(x, epsilon))
    sizes = [1, -1] + [1] * len(axes)
    scaled = emit("mul", x=normal, y=emit("reshape", x=scale, shape=sizes))
    return emit("add", x=scaled, y=emit("reshape", x=bias, shape=sizes))


def normalized(emit: Emitter, x: Var, axes: list[int], epsilon: Any) -> Var:
    """(x - mean(x)) / sqrt(mean((x - mean(x)) ** 2) + epsilon)"""
    centred = emit("sub", x=x, y=emit("reduce_mean", x=x, axes=axes, keep_dims=True))
    variance = emit("reduce_mean", x=emit("square", x=centred), axes=axes, keep_dims=True)
    return emit("real_div", x=centred, y=emit("sqrt", x=emit("add", x=variance, y=epsilon)))


@OPS("LayerNormalization")
def layer_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value | None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Var:
    if stash_type != 1:
        raise Refusal(f"stash_type={stash_type}")
    rank, shape = emit.rank(x), emit.shape(x)
    axes = list(range(axis % rank, rank))
    rest = tuple(shape[a] for a in axes)
    given = [v for v in (scale, bias) if v is not None]
    if all(emit.constant(v) is not None for v in given) and all(isinstance(size, int) for size in rest):
        gamma = _spread(emit, scale, rest)
        beta = None if bias is None else _spread(emit, bias, rest)
        return emit("layer_norm", x=emit.floats(x), axes=axes, gamma=gamma, beta=beta, epsilon=emit.number(x, epsilon))
    result = emit("mul", x=normalized(emit, emit.floats(x), axes, emit.number(x, epsilon)), y=scale)
    return result if bias is None else emit("add", x=result, y=bias)


@OPS("RMSNormalization")
def rms_normalization(
    emit: Emitter, x: ir.Value, scale: ir.Value, *, axis: int, epsilon: float, stash_type: int
) -> Var:
    """x / sqrt(mean(x * x) + epsilon) * scale"""
    if stash_type != 1:
        raise Refusal(f"stash_type={stash_type}")
    axes = list(range(axis % emit.rank(x), emit.rank(x)))
    square = emit("reduce_mean", x=emit("square", x=emit.floats(x)), axes=axes, keep_dims=True)
    root = emit("sqrt", x=emit("add", x=square, y=emit.number(x, epsilon)))
    return emit("mul", x=emit("real_div", x=x, y=root), y=scale)


def _spread(emit: Emitter, value: ir.Value, shape: tuple[int | str, ...]) -> Any:
    """A constant in exactly this shape."""
    constant = emit.constant(value)
    assert constant is not None
    if constant.shape == shape:
        return value
    return np.ascontiguousarray(np.broadcast_to(emit.numbers(constant), [int(size) for size in shape]))


@OPS("LRN")
def lrn(emit: Emitter, x: ir.Value, *, alpha: float, beta: float, bias: float, size: int) -> Var:
    """x / (bias + alpha / size * sum of the squares of the size channels around) ** beta

    Core ML's own takes the middle of an even number of channels elsewhere: there the sum is a pool over channels.
    """
    if size % 2 and emit.rank(x) in (3, 4):  # it goes over the third axis from the end
        image = emit.floats(x) if emit.rank(x) == 4 else emit("expand_dims", x=emit.floats(x), axes=[-1])
        made = emit("local_response_norm", x=image, size=size, alpha=alpha, beta=beta, k=bias)
        return made if emit.rank(x) == 4 else emit("squeeze", x=made, axes=[-1])
    if emit.rank(x) != 4:
        raise Refusal(f"{emit.rank(x)} axes")
    channels = emit.static(x, "a size")[1]
    rows = np.arange(channels)
    inside = rows[None, :] - rows[:, None]
    band = ((inside >= -((size - 1) // 2)) & (inside <= size // 2)).astype(np.float32)[:, :, None, None]
    total = emit("conv", x=emit("square", x=emit.floats(x)), weight=band, pad_type="valid")
    below = emit("add", x=emit("mul", x=total, y=emit.number(x, alpha / size)), y=emit.number(x, bias))
    return emit("real_div", x=x, y=emit("pow", x=below, y=emit.number(x, beta)))


@OPS("LpNormalization")
def lp_normalization(emit: Emitter, x: ir.Value, *, axis: int, p: int) -> Var:
    if p not in (1, 2):
        raise Refusal(f"p={p}")
    norm = emit(f"reduce_l{p}_norm", x=emit.floats(x), axes=[axis], keep_dims=True)
    zero = emit("equal", x=norm, y=emit.number(x, 0))
    return emit("real_div", x=x, y=emit.select(cond=zero, a=emit.number(x, 1), b=norm))
