"""Random ONNX graphs of what Caffe can say.

A graph grows from a pool of values, so that values are shared, used inside, given out in the middle of chains
and given out twice. Ranks are 1 to 5, sizes 1 are frequent, the batch is open or fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

import hub
from hub.builder import GraphBuilder
from hub.errors import HubError
from hub.model import Model

__all__ = ["random_model"]

LARGEST = 3000
"""Elements that a value may have, the batch apart."""
PLAIN = """Relu Sigmoid Tanh Softplus Abs Neg Softsign HardSwish Mish Selu Identity Elu LeakyRelu HardSigmoid
Gelu Erf Celu""".split()
NAMES = "a conv1 conv1 block/x y relu relu data split Silence x0 y0 y0_2 conv1/relu bn scale constant".split()


class Refused(Exception):
    """This draw is not a model."""


@dataclass
class Maker:
    """Grows one graph."""

    rng: np.random.Generator
    batch: int | str
    graph: GraphBuilder = field(default_factory=lambda: GraphBuilder("net"))
    pool: list[ir.Value] = field(default_factory=list)
    count: int = 0

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one(self, options: Sequence[Any]) -> Any:
        return options[self.number(0, len(options) - 1)]

    def normal(self, *shape: int) -> Any:
        return self.rng.normal(0, 0.7, shape).astype(np.float32)

    def weight(self, *shape: int) -> ir.Value:
        return self.graph.constant(self.normal(*shape), "w", "weight")

    def value(self, *ranks: int) -> ir.Value:
        """A value of the pool, rather a recent one."""
        found = [v for v in self.pool if not ranks or len(sizes(v)) in ranks]
        if not found:
            raise Refused
        return found[-1] if self.chance(0.6) else self.one(found)

    def input(self) -> None:
        rank = self.one([1, 2, 2, 3, 3, 4, 4, 4, 4, 5])
        shape = [self.one([1, 2, 3, 4, 5, 6, 7]) if rank < 5 else self.number(1, 4) for _ in range(rank - 1)]
        if rank == 4 and self.chance(0.8):
            shape = [self.one([1, 3, 4]), self.number(4, 9), self.number(4, 9)]
        self.pool.append(self.graph.input(f"x{len(self.graph.inputs)}", ir.DataType.FLOAT, [self.batch, *shape]))

    def grow(self, steps: int) -> None:
        done = tries = 0
        while done < steps and tries < 20 * steps:
            tries += 1
            name = f"layer{self.count}" if self.chance(0.8) else self.one(NAMES)
            before = len(self.graph.nodes)
            try:
                with self.graph.layer(name, "Test"):
                    made = self.one(KINDS)(self)
            except (Refused, HubError):
                del self.graph.nodes[before:]  # nothing else uses them
                continue
            for value in made if isinstance(made, list) else [made]:
                shape = value.shape
                if shape is None or not fits(shape):
                    continue
                self.pool.append(value)
                done += 1
                self.count += 1


def sizes(value: ir.Value) -> list[int | str]:
    assert value.shape is not None
    return [d if isinstance(d, int) else str(d.value) for d in value.shape]


def fits(shape: Any) -> bool:
    known = [d for d in shape if isinstance(d, int)]
    return len(shape) <= 5 and 0 not in known and int(np.prod(known, dtype=np.int64)) <= LARGEST


Kind = Callable[[Maker], Any]
KINDS: list[Kind] = []


def kind(weight: int) -> Callable[[Kind], Kind]:
    def register(function: Kind) -> Kind:
        KINDS.extend([function] * weight)
        return function

    return register


def channels_of(value: ir.Value) -> int:
    shape = sizes(value)
    if len(shape) < 2 or not isinstance(shape[1], int):
        raise Refused
    return shape[1]


@kind(6)
def convolution(m: Maker) -> Any:
    x = m.value(3, 4, 4, 5)
    c, n = channels_of(x), len(sizes(x)) - 2
    group = c if m.chance(0.2) else 2 if c % 2 == 0 and m.chance(0.3) else 1
    out = group * m.number(1, 3)
    kernel, strides = [m.number(1, 3) for _ in range(n)], [m.one([1, 1, 2, 3]) for _ in range(n)]
    pads, dilations = [m.one([0, 0, 1, 1, 2]) for _ in range(2 * n)], [m.one([1, 1, 1, 2]) for _ in range(n)]
    if m.chance(0.2):
        w, extra = m.weight(c, m.number(1, 3), *kernel), [m.number(0, s - 1) for s in strides]
        return m.graph.op("ConvTranspose", x, w, strides=strides, pads=[min(p, 1) for p in pads], output_padding=extra)
    inputs = [x, m.weight(out, c // group, *kernel)] + ([m.weight(out)] if m.chance(0.6) else [])
    shape = sizes(x)[2:]
    for a in range(n):
        if isinstance(shape[a], int) and shape[a] + pads[a] + pads[n + a] < (kernel[a] - 1) * dilations[a] + 1:
            raise Refused
    y = m.graph.op("Conv", *inputs, kernel_shape=kernel, strides=strides, pads=pads, dilations=dilations, group=group)
    return m.graph.op("Relu", y) if m.chance(0.3) else y


@kind(3)
def pooling(m: Maker) -> Any:
    x = m.value(3, 4, 4, 5)
    n = len(sizes(x)) - 2
    if m.chance(0.3):
        return m.graph.op(m.one(["GlobalAveragePool", "GlobalMaxPool"]), x)
    kernel = [m.number(1, 3) for _ in range(n)]
    pads = [m.number(0, kernel[i % n] - 1) for i in range(2 * n)] if m.chance(0.6) else [0] * (2 * n)
    options: dict[str, Any] = {"kernel_shape": kernel, "strides": [m.number(1, 3) for _ in range(n)], "pads": pads}
    if m.chance(0.5):
        return m.graph.op("MaxPool", x, ceil_mode=m.number(0, 1), **options)
    return m.graph.op("AveragePool", x, count_include_pad=m.number(0, 1), **options)


@kind(4)
def batch_norm(m: Maker) -> Any:
    x = m.value(2, 3, 4, 4, 5)
    c = channels_of(x)
    plain = m.chance(0.3)
    numbers = [np.ones(c), np.zeros(c)] if plain else [m.normal(c), m.normal(c)]
    numbers += [m.normal(c), m.rng.uniform(0.3, 2, c)]
    weights = [m.graph.constant(a.astype(np.float32), "w", "weight") for a in numbers]
    return m.graph.op("BatchNormalization", x, *weights, epsilon=m.one([1e-5, 1e-3]))


@kind(8)
def activation(m: Maker) -> Any:
    op = m.one(PLAIN)
    return m.graph.op(op, m.value(), alpha=0.3 if op in ("Elu", "LeakyRelu", "Celu") else None)


@kind(2)
def clip(m: Maker) -> Any:
    low, high = m.one([(0, 6), (0, 1), (-0.5, 0.7), (None, 0.3), (0.2, None)])
    bounds = [None if v is None else m.graph.constant(np.float32(v), "bound") for v in (low, high)]
    return m.graph.op("Clip", m.value(), *bounds)


@kind(1)
def slope(m: Maker) -> Any:
    x = m.value(2, 3, 4)
    c, rank = channels_of(x), len(sizes(x))
    return m.graph.op("PRelu", x, m.weight(*m.one([[1], [c, *[1] * (rank - 2)]])))


def operand_shape(m: Maker, shape: Sequence[int | str]) -> list[int]:
    """A shape that broadcasts against `shape`."""
    start = m.number(0, len(shape))
    result = [1 if m.chance(0.4) or not isinstance(d, int) else d for d in shape[start:]]
    return result if m.chance(0.9) else [1, *result]


@kind(5)
def with_constant(m: Maker) -> Any:
    x = m.value()
    c = m.weight(*operand_shape(m, sizes(x)))
    op = m.one(["Add", "Sub", "Mul", "Max", "Min"])
    return m.graph.op(op, *([x, c] if m.chance(0.7) else [c, x]))


@kind(3)
def scaled_and_shifted(m: Maker) -> Any:
    x = m.value()
    shape = operand_shape(m, sizes(x))
    other = shape if m.chance(0.7) else operand_shape(m, sizes(x))
    y = m.graph.op("Mul", x, m.weight(*shape))
    z = m.graph.op(m.one(["Add", "Sub"]), *([y, m.weight(*other)] if m.chance(0.7) else [m.weight(*other), y]))
    return [y, z] if m.chance(0.3) else z


@kind(5)
def with_each_other(m: Maker) -> Any:
    x, y = m.value(), m.one(m.pool)
    a, b = sizes(x), sizes(y)
    if any(1 not in (p, q) and p != q for p, q in zip(a[::-1], b[::-1], strict=False)):
        raise Refused
    pair = [x, y] if m.chance(0.5) else [y, x]
    op = m.one(["Add", "Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"])
    return m.graph.op(op, *pair, *([m.one(pair)] if op in ("Sum", "Mean", "Max") and m.chance(0.3) else []))


@kind(2)
def with_its_mean(m: Maker) -> Any:
    x = m.value(2, 3, 4, 5)
    rank = len(sizes(x))
    axes = sorted({m.number(1, rank - 1) for _ in range(m.number(1, 3))})
    y = m.graph.op(m.one(["ReduceMean", "ReduceMax"]), x, m.graph.ints(axes, "axes"))
    return m.graph.op(m.one(["Add", "Sub", "Mul"]), *([x, y] if m.chance(0.5) else [y, x]))


@kind(4)
def dense(m: Maker) -> Any:
    x = m.value(1, 2, 2, 3, 4)
    shape = sizes(x)
    if not isinstance(shape[-1], int):
        raise Refused
    out = m.number(1, 5)
    if len(shape) == 2 and m.chance(0.5):
        turned = m.number(0, 1)
        w = m.weight(*((out, shape[1]) if turned else (shape[1], out)))
        c = m.weight(*m.one([[out], [1, out], [1], []]))
        return m.graph.op("Gemm", x, w, c, transB=turned, alpha=m.one([1.0, 1.0, 0.5]), beta=m.one([1.0, 1.0, 2.0]))
    y = m.graph.op("MatMul", x, m.weight(shape[-1], *([out] if m.chance(0.9) else [])))
    if m.chance(0.5):
        z = m.graph.op("Add", *([y, m.weight(out)] if m.chance(0.7) else [m.weight(out), y]))
        return [y, z] if m.chance(0.2) else z
    return y


@kind(1)
def attention(m: Maker) -> Any:
    x = m.value(3, 4)
    rank = len(sizes(x))
    turned = m.graph.op("Transpose", m.graph.op("Tanh", x), perm=[*range(rank - 2), rank - 1, rank - 2])
    return m.graph.op("MatMul", m.graph.op("Softmax", m.graph.op("MatMul", x, turned), axis=-1), x)


@kind(3)
def transpose(m: Maker) -> Any:
    x = m.value(2, 3, 4, 4, 5)
    rank = len(sizes(x))
    perm = [0, *(int(a) + 1 for a in m.rng.permutation(rank - 1))]
    if m.chance(0.1):
        perm = [int(a) for a in m.rng.permutation(rank)]
    return m.graph.op("Transpose", x, perm=perm)


@kind(5)
def reshape(m: Maker) -> Any:
    x = m.value()
    shape = sizes(x)
    if m.chance(0.3):
        return m.graph.op("Flatten", x, axis=m.one([1, 1, 1, 0, len(shape), -1]))
    if m.chance(0.2):
        ones = [a for a, d in enumerate(shape) if d == 1]
        if ones and m.chance(0.5):
            return m.graph.op("Squeeze", x, m.graph.ints(ones[: m.number(1, 2)], "axes"))
        return m.graph.op("Unsqueeze", x, m.graph.ints([m.number(0, len(shape))], "axes"))
    known = [d for d in shape[1:] if isinstance(d, int)]
    if len(known) < len(shape) - 1:
        raise Refused
    rest, target = int(np.prod(known, dtype=np.int64)), []
    for _ in range(m.number(1, 3) - 1):
        size = m.one([d for d in range(1, rest + 1) if rest % d == 0])
        target.append(size)
        rest //= size
    target.insert(m.number(0, len(target)), rest)
    first = m.one([0, 0, -1])
    if m.chance(0.2) and len(target) > 1:
        first, target = -1, target[1:]  # the batch grows
    if first == 0 and m.chance(0.3):
        target[m.number(0, len(target) - 1)] = -1
    return m.graph.op("Reshape", x, m.graph.ints([first, *target], "shape"))


@kind(3)
def pieces(m: Maker) -> Any:
    x = m.value(2, 3, 4)
    axis = m.number(1, len(sizes(x)) - 1)
    size = sizes(x)[axis]
    if not isinstance(size, int) or size < 2:
        raise Refused
    at = m.number(1, size - 1)
    if m.chance(0.5):
        a, b = m.graph.ops("Split", x, m.graph.ints([at, size - at], "sizes"), outputs=2, axis=axis)
        return [a, b]
    step = m.one([1, 1, 2, -1])
    bounds = [m.number(0, at - 1), m.number(at, size)] if step > 0 else [-1, -(1 << 40)]
    return m.graph.op("Slice", x, *(m.graph.ints([v], n) for v, n in zip([*bounds, axis, step], "seat", strict=True)))


@kind(3)
def join(m: Maker) -> Any:
    x = m.value(2, 3, 4, 5)
    axis = m.number(1, len(sizes(x)) - 1)

    def alike(v: ir.Value) -> bool:
        a, b = sizes(v), sizes(x)
        return len(a) == len(b) and all(p == q for k, (p, q) in enumerate(zip(a, b, strict=True)) if k != axis)

    found = [v for v in m.pool if alike(v)]
    return m.graph.op("Concat", x, *(m.one(found) for _ in range(m.number(1, 2))), axis=axis)


@kind(2)
def pad(m: Maker) -> Any:
    x = m.value(2, 3, 4, 4, 5)
    rank = len(sizes(x))
    first = 2 if rank > 2 and m.chance(0.8) else 1
    pads = [0 if a % rank < first else m.one([0, 1, 2, -1]) for a in range(2 * rank)]
    fill = m.graph.constant(np.float32(m.one([0, 0, 1.5, -10.0])), "fill")
    y = m.graph.op("Pad", x, m.graph.ints(pads, "pads"), fill)
    if rank == 4 and m.chance(0.6):
        if not all(isinstance(d, int) and d > 2 for d in sizes(y)[2:]):
            raise Refused
        if m.chance(0.5):
            return m.graph.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
        return m.graph.op("Conv", y, m.weight(3, channels_of(y), 3, 3), kernel_shape=[3, 3], strides=[2, 1])
    return y


@kind(2)
def soft(m: Maker) -> Any:
    x = m.value(2, 3, 4, 5)
    return m.graph.op(m.one(["Softmax", "Softmax", "LogSoftmax"]), x, axis=m.number(1, len(sizes(x)) - 1))


@kind(2)
def reduction(m: Maker) -> Any:
    x = m.value(1, 2, 3, 4, 5)
    rank = len(sizes(x))
    low = 1 if rank > 1 and m.chance(0.9) else 0
    axes = sorted({m.number(low, rank - 1) for _ in range(m.number(1, 3))})
    op = "Reduce" + m.one("Mean Sum Max Min L1 L2 SumSquare LogSumExp".split())
    return m.graph.op(op, x, m.graph.ints(axes, "axes"), keepdims=m.number(0, 1))


@kind(2)
def norm(m: Maker) -> Any:
    x = m.value(2, 3, 4)
    shape = sizes(x)
    axis = m.number(1, len(shape) - 1)
    inner = [d for d in shape[axis:] if isinstance(d, int)]
    if len(inner) < len(shape) - axis or int(np.prod(inner)) < 3:
        raise Refused
    return m.graph.op("LayerNormalization", x, m.weight(*inner), m.weight(*inner), axis=axis, epsilon=1e-2)


@kind(2)
def resize(m: Maker) -> Any:
    factors = np.array([1, 1, m.one([1.0, 2.0]), m.one([2.0, 3.0, 0.5])], np.float32)
    how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    if m.chance(0.4):
        how = {"mode": "linear"}
    return m.graph.op("Resize", m.value(4), None, m.graph.constant(factors, "factors"), **how)


@kind(1)
def pick(m: Maker) -> Any:
    x = m.value(2, 3, 4)
    axis = m.number(1, len(sizes(x)) - 1)
    size = sizes(x)[axis]
    if not isinstance(size, int):
        raise Refused
    indices = m.rng.integers(-size, size, m.one([[], [2], [m.number(1, 4)]]))
    return m.graph.op("Gather", x, m.graph.constant(np.asarray(indices, np.int64), "indices"), axis=axis)


@kind(1)
def number(m: Maker) -> Any:
    """A constant that is given out or used further on."""
    return m.graph.op("Tanh", m.weight(*[m.number(1, 4) for _ in range(m.number(1, 3))]))


@kind(2)
def spread(m: Maker) -> Any:
    x = m.value(2, 3, 4)
    shape = sizes(x)
    if m.chance(0.5):
        target = [m.number(1, 3) if d == 1 else 1 for d in shape]
        return m.graph.op("Expand", x, m.graph.ints([1, *target[1:]], "shape"))
    return m.graph.op("Tile", x, m.graph.ints([1, *(m.number(1, 2) for _ in shape[1:])], "repeats"))


def random_model(seed: int) -> tuple[Model, int | str]:
    """A model from a seed, and its batch."""
    rng = np.random.default_rng(seed)
    m = Maker(rng, "N" if rng.random() < 0.6 else int(rng.integers(1, 4)))
    for _ in range(m.one([1, 1, 1, 2])):
        m.input()
    m.grow(m.number(2, 12))
    made = [v for v in m.pool if v.producer() is not None]
    outputs = [made[-1]] if made else [m.pool[0]]
    for _ in range(m.one([0, 0, 1, 2])):
        outputs.append(m.one(m.pool))
    for i, value in enumerate(outputs):
        m.graph.output(value, f"y{i}")
    return hub.load(ir.to_proto(m.graph.model())), m.batch
