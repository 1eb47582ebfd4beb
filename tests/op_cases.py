"""Random cases of what exporters construct: by name, from a random generator to a small network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from out_nets import Build, network

from hub.errors import HubError
from hub.model import Model

__all__ = ["CASES", "SEEDS", "drawn", "normal", "pick"]

Rng = np.random.Generator
CASES: dict[str, Callable[[Rng], tuple[Build, list[int]]]] = {}
"""By name: from a random generator to a network and the shape of its input without the batch."""


def case(function: Callable[[Rng], tuple[Build, list[int]]]) -> Callable[[Rng], tuple[Build, list[int]]]:
    CASES[function.__name__] = function
    return function


def pick(rng: Rng, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def normal(rng: Rng, *shape: int) -> Any:
    return rng.normal(0, 1, shape).astype(np.float32)


def image(rng: Rng, channels: int = 4) -> list[int]:
    return [channels, int(rng.integers(6, 12)), int(rng.integers(6, 12))]


@case
def convolution(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    kernel = [int(k) for k in rng.integers(1, 5, 2)]
    dilation = [int(d) for d in rng.integers(1, 3, 2)] if rng.random() < 0.4 else [1, 1]
    strides = [int(s) for s in rng.integers(1, 4, 2)]
    pads = [int(p) for p in rng.integers(0, 4, 4)]
    group = pick(rng, 1, 1, 2, 4)
    weight = normal(rng, 8, 4 // group, *kernel)
    if any(
        n + a + b < (k - 1) * d + 1
        for n, a, b, k, d in zip(shape[1:], pads[:2], pads[2:], kernel, dilation, strict=True)
    ):
        return convolution(rng)

    def build(g: Any, x: Any) -> Any:
        inputs = [g.constant(weight, "w")] + ([g.constant(normal(rng, 8), "b")] if rng.random() < 0.5 else [])
        return g.op(
            "Conv", x[0], *inputs, kernel_shape=kernel, strides=strides, pads=pads, dilations=dilation, group=group
        )

    return build, shape


@case
def convolution_1d_and_3d(rng: Rng) -> tuple[Build, list[int]]:
    axes = pick(rng, 1, 3)
    shape = [3, *(int(n) for n in rng.integers(5, 8, axes))]
    kernel, strides = ([int(k) for k in rng.integers(1, 4, axes)] for _ in range(2))
    pads = [int(p) for p in rng.integers(0, 3, 2 * axes)]
    weight = normal(rng, 5, 3, *kernel)
    return lambda g, x: g.op(
        "Conv", x[0], g.constant(weight, "w"), kernel_shape=kernel, strides=strides, pads=pads
    ), shape


@case
def transposed_convolution(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    kernel = [int(k) for k in rng.integers(1, 5, 2)]
    dilation = [int(d) for d in rng.integers(1, 3, 2)] if rng.random() < 0.3 else [1, 1]
    strides = [int(s) for s in rng.integers(1, 4, 2)]
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    pads = [int(rng.integers(0, reach[i % 2] + 1)) for i in range(4)]
    extra = [int(rng.integers(0, s)) for s in strides]
    group = pick(rng, 1, 2, 4)
    weight, bias = normal(rng, 4, 3, *kernel), normal(rng, 3 * group)
    return lambda g, x: g.op(
        "ConvTranspose",
        x[0],
        g.constant(weight, "w"),
        g.constant(bias, "b"),
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilation,
        group=group,
        output_padding=extra,
    ), shape


def _pool(rng: Rng, axes: int = 2) -> tuple[list[int], dict[str, Any]]:
    shape = [3, *(int(n) for n in rng.integers(5, 12, axes))]
    kernel = [int(k) for k in rng.integers(1, 5, axes)]
    strides = [int(s) for s in rng.integers(1, 4, axes)]
    pads = [int(rng.integers(0, kernel[i % axes])) for i in range(2 * axes)]
    return shape, {"kernel_shape": kernel, "strides": strides, "pads": pads}


@case
def max_pooling(rng: Rng) -> tuple[Build, list[int]]:
    shape, options = _pool(rng, pick(rng, 1, 2, 2, 2, 3))
    ceil = pick(rng, 0, 1)
    return lambda g, x: g.op("MaxPool", x[0], ceil_mode=ceil, **options), shape


@case
def average_pooling(rng: Rng) -> tuple[Build, list[int]]:
    shape, options = _pool(rng, pick(rng, 1, 2, 2, 2, 3))
    include, ceil = pick(rng, 0, 1), pick(rng, 0, 0, 1)
    return lambda g, x: g.op("AveragePool", x[0], count_include_pad=include, ceil_mode=ceil, **options), shape


@case
def global_pooling(rng: Rng) -> tuple[Build, list[int]]:
    op = pick(rng, "GlobalAveragePool", "GlobalMaxPool")
    shape = [3, *(int(n) for n in rng.integers(2, 7, pick(rng, 1, 2, 3)))]
    return lambda g, x: g.op(op, x[0]), shape


@case
def padding(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    mode = pick(rng, "constant", "constant", "edge", "reflect", "wrap")
    low = -2 if mode == "constant" else 0
    axes = pick(rng, [1, 2, 3], [2, 3], [3], [-1, 2])
    pads = [int(p) for p in rng.integers(low, 4, 2 * len(axes))]
    value = pick(rng, 0.0, 1.5, -2.0)

    def build(g: Any, x: Any) -> Any:
        fill = g.constant(np.float32(value), "v") if mode == "constant" else None
        return g.op("Pad", x[0], g.ints(pads, "p"), fill, g.ints(axes, "a"), mode=mode)

    return build, shape


@case
def pads_before_a_layer(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    pads = [0, 0, *(int(p) for p in rng.integers(0, 3, 2)), 0, 0, *(int(p) for p in rng.integers(0, 3, 2))]
    op = pick(rng, "Conv", "MaxPool", "MaxPool after Relu", "AveragePool")
    weight = normal(rng, 5, 4, 3, 3)

    def build(g: Any, x: Any) -> Any:
        source = g.op("Relu", x[0]) if op.endswith("Relu") else x[0]
        padded = g.op("Pad", source, g.ints(pads, "p"))
        if op == "Conv":
            return g.op("Conv", padded, g.constant(weight, "w"), kernel_shape=[3, 3], strides=[2, 1])
        options = {"count_include_pad": 1} if op == "AveragePool" else {}
        return g.op(op.split()[0], padded, kernel_shape=[3, 3], strides=[2, 2], **options)

    return build, shape


@case
def batch_normalization(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)[: int(rng.integers(1, 4))]
    weights = [normal(rng, 4), normal(rng, 4), normal(rng, 4), rng.uniform(0.01, 2, 4).astype(np.float32)]
    epsilon = pick(rng, 1e-5, 1e-3)
    return lambda g, x: g.op(
        "BatchNormalization", x[0], *(g.constant(w, f"w{i}") for i, w in enumerate(weights)), epsilon=epsilon
    ), [4, *shape[1:]]


@case
def normalization(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    op = pick(rng, "Layer", "Layer", "Instance", "Group", "RMS", "Lp", "LRN", "MVN")
    small = pick(rng, 1.0, 0.01)  # where an epsilon outside of the root would show

    def build(g: Any, x: Any) -> Any:
        y = g.op("Mul", x[0], g.constant(np.float32(small), "small"))
        if op in ("Layer", "RMS"):
            axis = int(rng.integers(1, 4))
            weights = [g.constant(normal(rng, *shape[axis - 1 :]), f"w{i}") for i in range(2)]
            return g.op(f"{op}Normalization", y, *weights[: 2 if op == "Layer" else 1], axis=axis, epsilon=1e-3)
        weights = [g.constant(normal(rng, 4), f"w{i}") for i in range(2)]
        if op == "Instance":
            return g.op("InstanceNormalization", y, *weights, epsilon=1e-3)
        if op == "Group":
            return g.op("GroupNormalization", y, *weights, epsilon=1e-3, num_groups=2)
        if op == "Lp":
            return g.op("LpNormalization", y, axis=pick(rng, 1, 2, -1), p=pick(rng, 1, 2))
        if op == "LRN":
            return g.op("LRN", y, size=pick(rng, 3, 5), alpha=0.5, beta=0.7, bias=pick(rng, 1.0, 2.0))
        return g.op("MeanVarianceNormalization", y, axes=pick(rng, [2, 3], [1, 2, 3]))

    return build, shape


PLAIN = "Relu Sigmoid Tanh Softplus Abs Exp Neg Sign Softsign HardSwish Mish Gelu Erf Identity Selu".split()


@case
def activation(rng: Rng) -> tuple[Build, list[int]]:
    options: dict[str, dict[str, float]] = {
        **{op: {} for op in PLAIN},
        "LeakyRelu": {"alpha": 0.3},
        "Elu": {"alpha": 0.7},
        "Celu": {"alpha": 0.6},
        "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
        "ThresholdedRelu": {"alpha": 0.5},
        "Shrink": {"bias": 0.2, "lambd": 0.4},
    }
    op = pick(rng, *options)
    return lambda g, x: g.op(op, x[0], **options[op]), image(rng)


@case
def limits(rng: Rng) -> tuple[Build, list[int]]:
    low, high = pick(rng, (0, 6), (0, 1), (-0.5, 0.7), (None, 0.3), (0.2, None), (-1, None), (0.5, -0.5))

    def build(g: Any, x: Any) -> Any:
        bounds = [None if v is None else g.constant(np.float32(v), f"bound{i}") for i, v in enumerate((low, high))]
        return g.op("Clip", x[0], *bounds)

    return build, image(rng)


@case
def slopes(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    slope = normal(rng, *pick(rng, [1], [4, 1, 1], [1, shape[1], 1], shape, [shape[2]]))
    return lambda g, x: g.op("PRelu", x[0], g.constant(slope, "slope")), shape


@case
def arithmetic_with_constants(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    c, h, w = shape
    operand = rng.uniform(0.5, 2, pick(rng, [], [1], [c, 1, 1], [1, h, w], [w], [c, 1, w], [1, h, 1], shape))
    op = pick(rng, "Add", "Sub", "Mul", "Div", "Max", "Min", "Greater", "LessOrEqual")
    swap = rng.random() < 0.4

    def build(g: Any, x: Any) -> Any:
        constant = g.constant(operand.astype(np.float32), "c")
        source = g.op("Add", g.op("Abs", x[0]), g.constant(np.float32(0.5), "half")) if op == "Div" else x[0]
        pair = [constant, source] if swap else [source, constant]
        result = g.op(op, *pair)
        return g.op("Cast", result, to=1) if op in ("Greater", "LessOrEqual") else result

    return build, shape


@case
def arithmetic_with_each_other(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    op = pick(rng, "Add", "Sub", "Mul", "Max", "Min", "Div", "Sum", "Mean")
    kind = pick(rng, "same", "channels", "pixels", "rows", "one", "batch")

    def build(g: Any, x: Any) -> Any:
        other = g.op("Sigmoid", x[0])
        if kind != "same":
            axes = {"channels": [2, 3], "pixels": [1], "rows": [1, 3], "one": [1, 2, 3], "batch": [1, 2, 3]}[kind]
            other = g.op("ReduceMean", other, g.ints(axes, "axes"))
        pair = [x[0], other] if rng.random() < 0.5 or op == "Div" else [other, x[0]]
        return g.op(op, *pair)

    return build, shape


@case
def scale_and_shift_of_one_layer(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    size = pick(rng, [], [4, 1, 1], shape)
    factor, shift = normal(rng, *size), normal(rng, *pick(rng, size, size, []))
    op = pick(rng, "Add", "Sub")
    return lambda g, x: g.op(op, g.op("Mul", x[0], g.constant(factor, "f")), g.constant(shift, "s")), shape


@case
def choice(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    mask = rng.random(pick(rng, shape, shape[1:], [4, 1, 1])) < 0.5
    fill = normal(rng, *pick(rng, [1], shape))
    return lambda g, x: g.op("Where", g.constant(mask, "m"), x[0], g.constant(fill, "f")), shape


@case
def permutation(rng: Rng) -> tuple[Build, list[int]]:
    shape = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 5)))]
    perm = [0, *(int(i) + 1 for i in rng.permutation(len(shape)))]
    # what is around it keeps it from being taken off the ends
    return lambda g, x: g.op(
        "Tanh",
        g.op(
            "Transpose",
            g.op("ReduceMax", g.op("Unsqueeze", x[0], g.ints([1], "u")), g.ints([1], "r"), keepdims=0),
            perm=perm,
        ),
    ), shape


@case
def slicing(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng, 6)
    axes = pick(rng, [1], [2], [3], [2, 3], [-1, 1])
    steps = [pick(rng, 1, 1, 2, 3, -1, -2) for _ in axes]
    starts = [int(rng.integers(0, 3)) if s > 0 else -1 - int(rng.integers(0, 3)) for s in steps]
    ends = [pick(rng, 5, 1 << 40, -1) if s > 0 else pick(rng, 0, -(1 << 40)) for s in steps]
    return lambda g, x: g.op(
        "Slice", x[0], *(g.ints(v, n) for v, n in ((starts, "s"), (ends, "e"), (axes, "a"), (steps, "t")))
    ), shape


@case
def gathering(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng, int(rng.integers(2, 80)))
    axis = int(rng.integers(1, 4))
    count = int(rng.integers(1, 50))
    indices = rng.integers(-shape[axis - 1], shape[axis - 1], pick(rng, [count], [count], []))
    return lambda g, x: g.op("Gather", x[0], g.constant(indices.astype(np.int64), "i"), axis=axis), shape


@case
def splitting(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng, 6)

    def build(g: Any, x: Any) -> Any:
        a, b, c = g.ops("Split", x[0], g.ints([1, 3, 2], "s"), outputs=3, axis=1)
        return [c, g.op("Relu", a)] if rng.random() < 0.5 else g.op("Concat", b, c, a, b, axis=1)

    return build, shape


@case
def reshaping(rng: Rng) -> tuple[Build, list[int]]:
    shape = [4, 6, 2]
    target = pick(rng, [0, -1], [0, 8, 6], [-1, 48], [-1, 6, 2], [-1, 2], [0, 2, 2, 12], [0, 0, 12], [-1, 1, 4, 12])
    return lambda g, x: g.op("Reshape", x[0], g.ints(target, "s")), shape


@case
def blocks_of_pixels(rng: Rng) -> tuple[Build, list[int]]:
    op = pick(rng, "DepthToSpace", "SpaceToDepth", "SpaceToDepth")
    block = pick(rng, 2, 3)
    options = {"mode": pick(rng, "DCR", "CRD")} if op == "DepthToSpace" else {}
    shape = [2 * block**2, 3, 4] if options else [3, 2 * block, 3 * block]
    return lambda g, x: g.op(op, x[0], blocksize=block, **options), shape


@case
def channel_shuffle(rng: Rng) -> tuple[Build, list[int]]:
    groups = pick(rng, 2, 3, 4)

    def build(g: Any, x: Any) -> Any:
        split = g.op("Reshape", x[0], g.ints([0, groups, 12 // groups, 5, 7], "s"))
        return g.op("Reshape", g.op("Transpose", split, perm=[0, 2, 1, 3, 4]), g.ints([0, 12, 5, 7], "t"))

    return build, [12, 5, 7]


@case
def resizing(rng: Rng) -> tuple[Build, list[int]]:
    shape = image(rng)
    mode = pick(rng, "nearest", "linear", "cubic")
    by_scales = rng.random() < 0.5
    how = pick(
        rng, "half_pixel", "asymmetric" if by_scales else "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"
    )
    nearest = {"nearest_mode": pick(rng, "floor", "ceil", "round_prefer_floor")} if mode == "nearest" else {}
    sizes = [int(n * pick(rng, 0.5, 1.0, 1.4, 2, 3)) for n in shape[1:]]
    factors = [1.0, 1.0, *(pick(rng, 2.0, 3.0, 0.5, 1.7) for _ in range(2))]

    def build(g: Any, x: Any) -> Any:
        options = {"mode": mode, "coordinate_transformation_mode": how, **nearest}
        if by_scales:
            return g.op("Resize", x[0], None, g.constant(np.array(factors, np.float32), "f"), **options)
        return g.op("Resize", x[0], None, None, g.ints(sizes, "s"), axes=[2, 3], **options)

    return build, shape


@case
def reduction(rng: Rng) -> tuple[Build, list[int]]:
    op = "Reduce" + pick(rng, *"Mean Sum Max Min L1 L2 SumSquare LogSumExp".split())
    axes = pick(rng, [1], [2], [3], [-1], [2, 3], [1, 2], [1, 3], [1, 2, 3])
    keep = pick(rng, 0, 1)
    return lambda g, x: g.op(op, x[0], g.ints(axes, "a"), keepdims=keep), image(rng)


@case
def soft_maximum(rng: Rng) -> tuple[Build, list[int]]:
    op, axis = pick(rng, "Softmax", "LogSoftmax"), pick(rng, 1, 2, 3, -1)

    def build(g: Any, x: Any) -> Any:
        return g.op(op, g.op("Mul", x[0], g.constant(np.float32(pick(rng, 1, 200)), "hot")), axis=axis)

    return build, image(rng)


@case
def index_of_the_largest(rng: Rng) -> tuple[Build, list[int]]:
    op, axis = pick(rng, "ArgMax", "ArgMin"), pick(rng, 1, 2, 3)
    last, keep = pick(rng, 0, 1), pick(rng, 0, 1)

    def build(g: Any, x: Any) -> Any:
        tied = g.op("Relu", x[0])  # many equal zeros
        return g.op(op, tied, axis=axis, select_last_index=last, keepdims=keep)

    return build, image(rng, pick(rng, 3, 40))


@case
def dense(rng: Rng) -> tuple[Build, list[int]]:
    shape = pick(rng, [6], [3, 6], [2, 3, 6])
    weight, bias = normal(rng, 6, 5), normal(rng, 5)
    kind = pick(rng, "MatMul", "MatMul and Add", "Gemm", "left")

    def build(g: Any, x: Any) -> Any:
        if kind == "Gemm" and len(shape) == 1:
            turned = pick(rng, 0, 1)
            matrix = g.constant(weight.T.copy() if turned else weight, "w")
            alpha, beta = pick(rng, (1.0, 1.0), (0.5, 2.0))
            offset = g.constant(pick(rng, bias, bias[None], bias[:1]), "b")
            return g.op("Gemm", x[0], matrix, offset, transB=turned, alpha=alpha, beta=beta)
        if kind == "left" and len(shape) > 1:
            return g.op("MatMul", g.constant(normal(rng, 4, shape[-2]), "w"), x[0])
        product = g.op("MatMul", x[0], g.constant(weight, "w"))
        return g.op("Add", product, g.constant(bias, "b")) if kind.endswith("Add") else product

    return build, shape


@case
def products_of_computed_matrices(rng: Rng) -> tuple[Build, list[int]]:
    shape = pick(rng, [4, 6], [2, 4, 6])

    def build(g: Any, x: Any) -> Any:
        turned = g.op("Transpose", g.op("Tanh", x[0]), perm=[*range(len(shape) - 1), len(shape), len(shape) - 1])
        attention = g.op("Softmax", g.op("MatMul", x[0], turned), axis=-1)
        return g.op("MatMul", attention, x[0])

    return build, shape


@case
def running_sum(rng: Rng) -> tuple[Build, list[int]]:
    axis, options = pick(rng, 1, 2, 3), {"exclusive": pick(rng, 0, 1), "reverse": pick(rng, 0, 1)}
    return lambda g, x: g.op("CumSum", x[0], g.ints(axis, "a"), **options), image(rng)


SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))]
"""The draws of each case, a few of which are fast enough."""


def drawn(name: str, seed: int) -> tuple[Model, list[int], Rng]:
    """A random model of a case, the shape of its input without the batch, and the generator as it is by then."""
    rng = np.random.default_rng([seed, *name.encode()])
    while True:  # some draws leave nothing of the input, which shape inference refuses
        build, shape = CASES[name](rng)
        try:
            model = network(build, ["N", *shape])
        except HubError:
            continue
        if all(size != 0 for info in model.outputs for size in info.shape):
            return model, shape, rng
