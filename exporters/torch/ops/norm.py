"""Normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import ADD, MULTIPLY, Expression, Literal, Op, Use, call
from exporters.constants import Constant
from exporters.torch.ops.table import OPS, arguments
from exporters.torch.values import FLOATS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


def _number(value: float) -> float:
    """An attribute, which ONNX stores as float32, as the shortest number that is the same."""
    return float(str(np.float32(value)))


def _own(emit: Emitter, value: ir.Value | None) -> Constant | None:
    """A weight for one module; a constant of equal values that several share is copied to each."""
    owned = emit.owned(value)
    constant = emit.constant(value)
    if owned is not None or constant is None or constant.dtype not in FLOATS or not 0 < constant.size <= 1 << 16:
        return owned
    array = constant.numpy()
    return Constant.of(np.array(array), constant.dtype) if (array == array.reshape(-1)[0]).all() else None


@OPS("BatchNormalization", since=14)
def batch_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
    mean: ir.Value,
    var: ir.Value,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int,
) -> Expression:
    if training_mode:
        raise Refusal("a batch normalization that is frozen in training mode")
    names = ("weight", "bias", "running_mean", "running_var")
    state = dict(zip(names, (_own(emit, v) for v in (scale, bias, mean, var)), strict=True))
    rank = emit.rank(x)
    source, eps = emit.tensor(x), _number(epsilon)
    if any(c is None for c in state.values()) or not 2 <= rank <= 5:
        tensors = [emit.tensor(v) for v in (mean, var, scale, bias)]
        return call("F.batch_norm({}, {}, {}, {}, {}, eps={})", source, *tensors, Literal(eps, "eps"))
    channels = state["weight"].shape[0] if state["weight"] else 0
    state["num_batches_tracked"] = Constant.of(np.array(0, dtype=np.int64))
    options = [("eps", eps, 1e-5), ("momentum", round(1 - _number(momentum), 6), 0.1)]
    kind = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}[rank]
    module = emit.module(f"nn.BatchNorm{kind}", arguments([("num_features", channels)], options), state, "bn")
    return emit.apply(module, source)


@OPS("LayerNormalization", since=17)
def layer_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    b: ir.Value | None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Expression:
    shape = emit.shape(x)
    if shape is None or stash_type != 1:
        raise Refusal("the shape of its input is not known")
    sizes = tuple(d for d in shape[axis % len(shape) :] if isinstance(d, int))
    if len(sizes) != len(shape) - axis % len(shape):
        raise Refusal("it normalizes an axis whose size is known only at run time")
    weight, bias = _own(emit, scale), _own(emit, b)
    eps = ("eps", _number(epsilon), 1e-5)
    whole = weight is not None and weight.shape == sizes and (b is None or (bias is not None and bias.shape == sizes))
    if whole:
        normalized = sizes[0] if len(sizes) == 1 else sizes
        options = [eps, ("bias", b is not None, True)]
        module = emit.module(
            "nn.LayerNorm",
            arguments([("normalized_shape", normalized)], options),
            {"weight": weight, "bias": bias},
            "norm",
        )
        return emit.apply(module, emit.tensor(x))
    normal = call("F.layer_norm({}, {}, eps={})", emit.tensor(x), Literal(sizes, "shape"), Literal(eps[1], "eps"))
    scaled = call("{} * {}", Use(emit.step(normal)), emit.tensor(scale), precedence=MULTIPLY)
    return scaled if b is None else call("{} + {}", scaled, emit.tensor(b), precedence=ADD)


@OPS("RMSNormalization", since=23)
def rms_normalization(
    emit: Emitter, x: ir.Value, scale: ir.Value, *, axis: int, epsilon: float, stash_type: int
) -> Expression:
    shape = emit.shape(x)
    if shape is None or stash_type != 1:
        raise Refusal("the shape of its input is not known")
    sizes = tuple(d for d in shape[axis % len(shape) :] if isinstance(d, int))
    if len(sizes) != len(shape) - axis % len(shape):
        raise Refusal("it normalizes an axis whose size is known only at run time")
    weight, eps = _own(emit, scale), _number(epsilon)
    if weight is not None and weight.shape == sizes:
        normalized = sizes[0] if len(sizes) == 1 else sizes
        named = arguments([("normalized_shape", normalized)], [("eps", eps, None)])
        return emit.apply(emit.module("nn.RMSNorm", named, {"weight": weight}, "norm"), emit.tensor(x))
    normal = call("F.rms_norm({}, {}, eps={})", emit.tensor(x), Literal(sizes, "shape"), Literal(eps, "eps"))
    return call("{} * {}", Use(emit.step(normal)), emit.tensor(scale), precedence=MULTIPLY)


@OPS("GroupNormalization", since=21)
def group_normalization(
    emit: Emitter,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
    *,
    epsilon: float,
    num_groups: int,
    stash_type: int,
) -> Expression:
    weight, offset, eps = _own(emit, scale), _own(emit, bias), _number(epsilon)
    if stash_type != 1:
        raise Refusal("a group normalization that is not computed in float32")
    if weight is not None and offset is not None:
        named = arguments([("num_groups", num_groups), ("num_channels", weight.shape[0])], [("eps", eps, 1e-5)])
        module = emit.module("nn.GroupNorm", named, {"weight": weight, "bias": offset}, "norm")
        return emit.apply(module, emit.tensor(x))
    tensors = [emit.tensor(v) for v in (scale, bias)]
    return call("F.group_norm({}, {}, {}, {}, eps={})", emit.tensor(x), Literal(num_groups, "groups"), *tensors, eps)


@OPS("InstanceNormalization")
def instance_normalization(emit: Emitter, x: ir.Value, scale: ir.Value, b: ir.Value, *, epsilon: float) -> Expression:
    weight, bias, eps, rank = _own(emit, scale), _own(emit, b), _number(epsilon), emit.rank(x)
    if weight is not None and bias is not None and 3 <= rank <= 5:
        named = arguments([("num_features", weight.shape[0])], [("eps", eps, 1e-5), ("affine", True, False)])
        module = emit.module(f"nn.InstanceNorm{rank - 2}d", named, {"weight": weight, "bias": bias}, "norm")
        return emit.apply(module, emit.tensor(x))
    tensors = [emit.tensor(v) for v in (scale, b)]
    return call("F.instance_norm({}, weight={}, bias={}, eps={})", emit.tensor(x), *tensors, Literal(eps, "eps"))


@OPS("LpNormalization")
def lp_normalization(emit: Emitter, x: ir.Value, *, axis: int, p: int) -> Expression:
    return call("F.normalize({}, p={}, dim={})", emit.tensor(x), Literal(p, "p"), Literal(axis, "dim"))


@OPS("MeanVarianceNormalization")
def mean_variance_normalization(emit: Emitter, x: ir.Value, *, axes: list[int] | None) -> Expression:
    dims = Literal(tuple(axes or (0, 2, 3)), "dims")
    source = emit.tensor(x)
    centered = Use(emit.step(call("{} - {}.mean({}, keepdim=True)", source, source, dims, precedence=ADD)))
    return call(
        "{} / ({}.square().mean({}, keepdim=True).sqrt() + 1e-09)", centered, centered, dims, precedence=MULTIPLY
    )


@OPS("LRN")
def lrn(emit: Emitter, x: ir.Value, *, alpha: float, beta: float, bias: float, size: int) -> Expression:
    if size % 2 == 0:
        raise Refusal("local response normalization over an even number of channels")
    literals = [Literal(_number(v), name) for v, name in ((alpha, "alpha"), (beta, "beta"), (bias, "k"))]
    return Op(
        "F.local_response_norm({}, {}, alpha={}, beta={}, k={})", (emit.tensor(x), Literal(size, "size"), *literals)
    )
