"""Random Keras models from a seed, and all the ways to run them, compared with Keras itself.

A model grows from a pool of values: a step takes one or several of them and adds what a layer
makes of them, so that values are shared, used inside and given out as well. Sizes differ on every
axis, weights and statistics are seeded and matter. `compare` says what was wrong.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from keras_nets import outputs_of, randomise

import hub
from parity.runners import find

__all__ = ["Outcome", "compare", "random_model"]

Array = npt.NDArray[Any]
TOLERANCE = 1e-4
ACTIVATIONS = (
    "relu relu6 sigmoid tanh softmax log_softmax elu selu softplus softsign gelu silu hard_sigmoid "
    "hard_silu mish leaky_relu log_sigmoid celu hard_tanh soft_shrink sparse_plus squareplus tanh_shrink "
    "exponential linear"
).split()
LARGEST = 700
"""Elements that a value may have, the batch apart."""


class Maker:
    """Adds random layers to a pool of values."""

    def __init__(self, rng: np.random.Generator, depth: int = 0) -> None:
        import keras

        self.keras = keras
        self.layers: Any = keras.layers
        self.rng = rng
        self.depth = depth
        self.pool: list[Any] = []
        self.again: list[tuple[Any, tuple[int, ...]]] = []
        """Layers that can be called again, with the shape that they take."""

    # -- choices

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one(self, options: Sequence[Any]) -> Any:
        return options[self.number(0, len(options) - 1)]

    def value(self, rank: int | None = None) -> Any:
        """A value of the pool, rather a recent one."""
        found = [v for v in self.pool if rank is None or len(v.shape) == rank]
        if not found:
            return None
        return found[-1] if self.chance(0.5) else self.one(found)

    # -- growing

    def input(self, shape: tuple[int, ...] | None = None) -> Any:
        if shape is None:
            rank = self.one([1, 2, 2, 3, 3, 3, 3, 4])
            sizes = {1: (5, 9), 2: (5, 9), 3: (5, 8), 4: (3, 4)}[rank]
            shape = (*(self.number(*sizes) for _ in range(rank - 1)), self.number(2, 6))
        value = self.keras.Input(shape)
        self.pool.append(value)
        return value

    def grow(self, steps: int) -> None:
        done = tries = 0
        while done < steps and tries < 20 * steps:
            tries += 1
            kind = self.one(KINDS)
            try:
                made = kind(self)
            except (ValueError, IndexError, TypeError, AssertionError):
                continue  # Keras does not allow it for these shapes
            for value in made if isinstance(made, list) else [made]:
                if value is not None and self.fits(value):
                    self.pool.append(value)
                    done += 1

    def fits(self, value: Any) -> bool:
        sizes = [int(d) for d in value.shape[1:]]
        return bool(sizes) and 2 <= int(np.prod(sizes)) <= LARGEST and 2 <= len(value.shape) <= 5

    def apply(self, layer: Any, x: Any) -> Any:
        self.again.append((layer, tuple(x.shape)))
        return layer(x)

    def activation(self) -> str | None:
        return None if self.chance(0.6) else self.one(ACTIVATIONS)


def convolution(m: Maker) -> Any:
    rank = m.one([3, 4, 4, 4, 5])
    x = m.value(rank)
    if x is None:
        return None
    n = rank - 2
    kernel = tuple(m.number(1, 3) for _ in range(n))
    stride, dilation = 1, 1
    if m.chance(0.3):
        stride = m.number(2, 3)
    elif m.chance(0.2):
        dilation = 2
    padding = m.one(["valid", "same"])
    options: dict[str, Any] = {"use_bias": m.chance(0.7), "activation": m.activation(), "dilation_rate": dilation}
    L = m.layers
    kind = m.one(["conv", "conv", "conv", "depthwise", "separable", "transpose"])
    name = f"{n}D"
    if kind == "conv":
        groups = 2 if x.shape[-1] % 2 == 0 and m.chance(0.3) else 1
        if n == 1 and m.chance(0.3):
            padding = "causal"
        filters = groups * m.number(1, 3)
        return m.apply(getattr(L, f"Conv{name}")(filters, kernel, stride, padding, groups=groups, **options), x)
    if n == 3 and kind != "transpose":
        return None
    if kind == "depthwise":
        k = kernel[0] if n == 1 else kernel
        layer = getattr(L, f"DepthwiseConv{name}")(k, stride, padding, depth_multiplier=m.number(1, 2), **options)
        return m.apply(layer, x)
    if kind == "separable":
        k = kernel[0] if n == 1 else kernel
        layer = getattr(L, f"SeparableConv{name}")(
            m.number(2, 6), k, stride, padding, depth_multiplier=m.number(1, 2), **options
        )
        return m.apply(layer, x)
    if n == 3:
        options.pop("dilation_rate")
    if n == 2 and stride > 1 and m.chance(0.3):
        options["output_padding"] = m.number(0, stride - 1)
    return m.apply(getattr(L, f"Conv{name}Transpose")(m.number(2, 5), kernel, stride, padding, **options), x)


def channels_first(m: Maker) -> Any:
    """A layer that reads the second axis as the channels."""
    x = m.value(4)
    if x is None:
        return None
    L, first = m.layers, {"data_format": "channels_first"}
    return m.one(
        [
            lambda: L.MaxPooling2D(2, m.number(1, 2), "valid", **first),
            lambda: L.AveragePooling2D(2, m.number(1, 2), m.one(["valid", "same"]), **first),
            lambda: L.ZeroPadding2D(((1, 0), (0, 2)), **first),
            lambda: L.Cropping2D(((1, 0), (0, 1)), **first),
            lambda: L.UpSampling2D((1, 2), **first),
            lambda: L.GlobalAveragePooling2D(keepdims=m.chance(0.5), **first),
            lambda: L.GlobalMaxPooling2D(keepdims=m.chance(0.5), **first),
            lambda: L.Flatten(**first),
            lambda: L.Conv2D(m.number(2, 4), m.number(1, 2), use_bias=False, **first),
            lambda: L.SpatialDropout2D(0.3, **first),
        ]
    )()(x)


def pooling(m: Maker) -> Any:
    rank = m.one([3, 4, 4, 5])
    x = m.value(rank)
    if x is None:
        return None
    kind, name = m.one(["Max", "Average"]), f"{rank - 2}D"
    if m.chance(0.25):
        return getattr(m.layers, f"Global{kind}Pooling{name}")(keepdims=m.chance(0.5))(x)
    size = m.number(1, 3) if m.chance(0.5) else tuple(m.number(1, 3) for _ in range(rank - 2))
    stride = None if m.chance(0.3) else m.number(1, 3)
    return m.apply(getattr(m.layers, f"{kind}Pooling{name}")(size, stride, m.one(["valid", "same"])), x)


def dense(m: Maker) -> Any:
    x = m.value()
    return m.apply(m.layers.Dense(m.number(2, 8), activation=m.activation(), use_bias=m.chance(0.8)), x)


def norm(m: Maker) -> Any:
    x = m.value()
    rank = len(x.shape)
    L = m.layers
    axis = m.number(1, rank - 1) if m.chance(0.4) else -1
    switches = {"center": m.chance(0.8), "scale": m.chance(0.8), "epsilon": m.one([1e-3, 1e-2, 0.1])}
    kind = m.one(["batch", "batch", "layer", "normalization", "rescaling"])
    if kind == "batch":
        return m.apply(L.BatchNormalization(axis=axis, **switches), x)
    if kind == "layer":
        axes: Any = axis
        if m.chance(0.4):
            axes = sorted({m.number(1, rank - 1) for _ in range(2)})
        if int(np.prod([x.shape[a] for a in np.atleast_1d(axes)])) < 3:
            return None
        return m.apply(L.LayerNormalization(axis=axes, **switches), x)
    if kind == "normalization":
        return m.apply(L.Normalization(axis=axis, invert=m.chance(0.2)), x)
    if m.chance(0.5):
        return L.Rescaling(m.one([0.5, -1.5, 1 / 3]), m.one([0.0, 0.25]))(x)
    scale = m.rng.uniform(0.5, 2, int(x.shape[-1])).tolist()
    return L.Rescaling(scale, m.rng.uniform(-1, 1, int(x.shape[-1])).tolist())(x)


def activation(m: Maker) -> Any:
    x = m.value()
    rank, L = len(x.shape), m.layers
    kind = m.one(["name", "name", "relu", "prelu", "prelu", "leaky", "elu", "softmax", "softmax"])
    if kind == "name":
        return L.Activation(m.one(ACTIVATIONS))(x)
    if kind == "relu":
        top = m.one([None, None, 6.0, 0.7])
        return L.ReLU(max_value=top, negative_slope=m.one([0.0, 0.0, 0.2]))(x)
    if kind == "prelu":
        shared = [a for a in range(1, rank) if m.chance(0.4)]
        return m.apply(L.PReLU(shared_axes=shared or None), x)
    if kind == "leaky":
        return L.LeakyReLU(negative_slope=m.one([0.1, 0.3]))(x)
    if kind == "elu":
        return L.ELU(alpha=m.one([0.5, 1.0]))(x)
    axis: Any = m.number(1, rank - 1)
    if rank > 3 and m.chance(0.3):
        axis = [1, 2]
    return L.Softmax(axis=axis)(x)


def geometry(m: Maker) -> Any:
    rank = m.one([3, 4, 4, 5])
    x = m.value(rank)
    if x is None:
        return None
    n, L = rank - 2, m.layers
    kind = m.one(["pad", "crop", "up"])
    pairs = tuple((m.number(0, 2), m.number(0, 2)) for _ in range(n))
    if kind == "pad":
        return getattr(L, f"ZeroPadding{n}D")(pairs if n > 1 else pairs[0])(x)
    if kind == "crop":
        return getattr(L, f"Cropping{n}D")(pairs if n > 1 else pairs[0])(x)
    factors = tuple(m.number(1, 3) for _ in range(n))
    if n == 2 and m.chance(0.4):
        return L.UpSampling2D(factors, interpolation="bilinear")(x)
    return getattr(L, f"UpSampling{n}D")(factors if n > 1 else factors[0])(x)


def shape(m: Maker) -> Any:
    x = m.value()
    rank, L = len(x.shape), m.layers
    kind = m.one(["reshape", "reshape", "permute", "permute", "flatten", "repeat"])
    if kind == "permute":
        return L.Permute(tuple(int(a) + 1 for a in m.rng.permutation(rank - 1)))(x)
    if kind == "flatten":
        return L.Flatten()(x)
    if kind == "repeat":
        x = m.value(2)
        return None if x is None else L.RepeatVector(m.number(2, 4))(x)
    total = int(np.prod(x.shape[1:]))
    sizes: list[int] = []
    for _ in range(m.number(1, 4) - 1):
        divisors = [d for d in range(1, total + 1) if total % d == 0 and (d > 1 or m.chance(0.2))]
        size = m.one(divisors) if divisors else 1
        sizes.append(size)
        total //= size
    sizes.insert(m.number(0, len(sizes)), total)
    if m.chance(0.3):
        sizes[m.number(0, len(sizes) - 1)] = -1
    return L.Reshape(tuple(sizes))(x)


def merge(m: Maker) -> Any:
    """Two or three values, one of them perhaps of sizes that are repeated."""
    x = m.value()
    L = m.layers
    kind = m.one(["Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract", "Concatenate", "Concatenate"])
    if kind == "Concatenate":
        axis = m.number(1, len(x.shape) - 1)

        def same(v: Any) -> bool:
            sizes = [(a, b) for k, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if k not in (0, axis)]
            return all(a == b for a, b in sizes)

        found = [v for v in m.pool if len(v.shape) == len(x.shape) and same(v)]
        chosen = [x, m.one(found), *([m.one(found)] if m.chance(0.3) else [])]
        return L.Concatenate(axis=axis if m.chance(0.5) else axis - len(x.shape))(chosen)

    def broadcasts(v: Any) -> bool:
        return len(v.shape) == len(x.shape) and all(
            1 in (a, b) or a == b for a, b in zip(v.shape[1:], x.shape[1:], strict=True)
        )

    found = [v for v in m.pool if broadcasts(v) and v is not x]
    if not found:
        return None
    chosen = [x, m.one(found)]
    if kind != "Subtract" and m.chance(0.25):
        third = m.one(found)
        if all(1 in (a, b) or a == b for a, b in zip(third.shape[1:], chosen[1].shape[1:], strict=True)):
            chosen.append(third)
    if m.chance(0.5):
        chosen.reverse()
    return getattr(L, kind)(chosen)


def arithmetic(m: Maker) -> Any:
    """Operations that are not layers."""
    x = m.value()
    c = m.one([3.0, 0.5, -1.25, 2])
    kind = m.number(0, 8)
    if kind == 0:
        return x + c
    if kind == 1:
        return c - x
    if kind == 2:
        return x * c
    if kind == 3:
        return x / c
    if kind == 4:
        return m.keras.ops.abs(x)
    if kind == 5:
        return -x
    if kind == 6:
        return m.keras.ops.maximum(x, 0.1)
    other = m.one([v for v in m.pool if tuple(v.shape) == tuple(x.shape)])
    return x * other if kind == 7 else x - other


def squeeze_excite(m: Maker) -> Any:
    x = m.value(4)
    if x is None:
        return None
    L, channels = m.layers, int(x.shape[-1])
    if m.chance(0.5):
        s = L.GlobalAveragePooling2D(keepdims=True)(x)
        s = L.Conv2D(m.number(1, 3), 1, activation=m.one(["relu", "silu"]))(s)
        s = L.Conv2D(channels, 1, activation=m.one(["sigmoid", "hard_sigmoid"]))(s)
    else:
        s = L.GlobalAveragePooling2D()(x)
        s = L.Dense(m.number(2, 4), activation="relu")(s)
        s = L.Reshape((1, 1, channels))(L.Dense(channels, activation="sigmoid")(s))
    return L.Multiply()([x, s] if m.chance(0.5) else [s, x])


def residual(m: Maker) -> Any:
    """The same small block several times, with small differences."""
    x = m.value(m.one([2, 3, 4, 4]))
    if x is None:
        return None
    L, channels, rank = m.layers, int(x.shape[-1]), len(x.shape)
    epsilon = 1e-3
    for _ in range(m.number(2, 4)):
        if m.chance(0.3):
            epsilon = m.one([1e-3, 0.05])
        conv = L.Dense(channels) if rank == 2 else getattr(L, f"Conv{rank - 2}D")(channels, m.number(1, 2), 1, "same")
        y = L.BatchNormalization(epsilon=epsilon)(conv(x))
        y = L.Activation("relu")(y)
        if m.chance(0.5):
            y = L.Dropout(0.2)(y)
        merge = m.one(["Add", "Add", "Add", "Subtract", "Multiply"])
        x = getattr(L, merge)([x, y] if m.chance(0.7) else [y, x])
    return x


def twice(m: Maker) -> Any:
    """A layer that exists already, called again on another value."""
    if not m.again:
        return None
    layer, taken = m.one(m.again)
    found = [v for v in m.pool if tuple(v.shape) == taken]
    return layer(m.one(found))


def nothing(m: Maker) -> Any:
    x, L = m.value(), m.layers
    layers = [L.Dropout(0.3), L.GaussianNoise(0.1), L.GaussianDropout(0.2), L.Identity(), L.ActivityRegularization(0.1)]
    return m.one(layers)(x)


def nested(m: Maker) -> Any:
    """A model in the model, perhaps called several times; sequential, or with several inputs and outputs."""
    if m.depth >= 2:
        return None
    keras = m.keras
    inner = Maker(m.rng, m.depth + 1)
    values = [m.value() for _ in range(m.one([1, 1, 2]))]
    if len(values) == 1 and m.chance(0.4):
        model = keras.Sequential()
        if m.chance(0.7):
            model.add(keras.Input(tuple(int(d) for d in values[0].shape[1:])))
        for _ in range(m.number(1, 3)):
            model.add(m.one([lambda: m.layers.Dense(m.number(2, 5), activation=m.activation()),
                             lambda: m.layers.BatchNormalization(), lambda: m.layers.ReLU(negative_slope=0.1)])())  # fmt: skip  # noqa: E501
        y = model(values[0])
    else:
        inputs = [inner.input(tuple(int(d) for d in v.shape[1:])) for v in values]
        inner.grow(m.number(2, 5))
        made = inner.pool[len(inputs) :]
        if not made:
            return None
        outputs = [made[-1], *([m.one(made)] if m.chance(0.3) else [])]
        form = m.number(0, 4)
        names = [m.one("abcdwxyz") + str(k) for k in range(3)]
        into: Any = inputs if len(inputs) > 1 else inputs[0]
        outof: Any = outputs if len(outputs) > 1 else outputs[0]
        given: Any = values if len(values) > 1 else values[0]
        if form == 0 and len(inputs) > 1:
            into, given = dict(zip(names, inputs, strict=False)), dict(zip(names, values, strict=False))
        if form in (0, 1) and len(outputs) > 1:
            outof = dict(zip(names, outputs, strict=False))
        model = keras.Model(into, outof)
        y = model(given)
    results = [v for v in m.keras.tree.flatten(y) if m.fits(v)]
    if m.chance(0.4):
        others = [m.one([v for v in m.pool if tuple(v.shape) == tuple(x.shape)]) for x in values]
        again = dict(zip(given, others, strict=True)) if isinstance(y, dict) and isinstance(given, dict) else None
        if again is None and not (len(values) > 1 and isinstance(given, dict)):
            again = others if len(others) > 1 else others[0]
        if again is not None:
            results += [v for v in m.keras.tree.flatten(model(again)) if m.fits(v)]
    return results


KINDS: list[Callable[[Maker], Any]] = [
    *[convolution] * 6,
    *[pooling] * 3,
    *[dense] * 3,
    *[norm] * 4,
    *[activation] * 4,
    *[geometry] * 3,
    *[shape] * 5,
    *[merge] * 5,
    *[arithmetic] * 3,
    *[channels_first] * 2,
    squeeze_excite,
    *[residual] * 2,
    *[twice] * 3,
    nothing,
    *[nested] * 2,
]


def random_model(seed: int) -> Any:
    """A functional model with its weights, all from the seed."""
    import keras

    keras.utils.clear_session(free_memory=False)
    rng = np.random.default_rng(seed)
    maker = Maker(rng)
    inputs = [maker.input() for _ in range(maker.one([1, 1, 1, 2, 3]))]
    maker.grow(maker.number(3, 14))
    made = maker.pool[len(inputs) :]
    if not made:
        return random_model(seed + 1_000_003)
    outputs = [made[-1]]
    for _ in range(maker.one([0, 0, 1, 2, 3])):
        other = maker.one(made)
        if all(other is not output for output in outputs):
            outputs.append(other)
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else outputs[0])
    return randomise(model, seed)


@dataclass
class Outcome:
    """What came of one model: compared outputs, degenerate ones, a refusal, or errors."""

    compared: int = 0
    degenerate: int = 0
    uncut: int = 0
    refused: str = ""
    refused_by: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def _difference(expected: Array, got: Array) -> float | None:
    """The largest difference relative to the spread; None where the expected output says nothing."""
    if not np.isfinite(expected).all() or float(np.abs(expected).max()) > 1e30:
        return None
    spread = float(expected.max() - expected.min())
    if spread <= 1e-2 * float(np.abs(expected).max()) or spread < 1e-4:
        return None
    if got.shape != expected.shape:
        return float("inf")
    return float(np.nan_to_num(np.abs(got.astype(np.float64) - expected), nan=np.inf).max()) / spread


def _note(outcome: Outcome, what: str, expected: Array, got: Array) -> None:
    error = _difference(expected, got)
    if error is None:
        outcome.degenerate += 1
    elif error > TOLERANCE:
        outcome.wrong.append(f"{what}: {error:.3g} of the spread, {got.shape} for {expected.shape}")
    else:
        outcome.compared += 1


def load_code(path: Path, name: str) -> Any:
    """The network of a generated file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = keep
    return module.load()


def run_code(network: Any, arrays: Sequence[Array]) -> list[Array]:
    import torch

    with torch.no_grad():
        result = network(*(torch.from_numpy(a) for a in arrays))
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]


def run_file(model: hub.Model, path: Path, runtime: str, arrays: Sequence[Array]) -> dict[str, Array]:
    """The written files in the real runtime."""
    runner = find(runtime).open(hub.save(model, path)[0])
    try:
        return runner.run(dict(zip((info.name for info in model.inputs), arrays, strict=True)))
    finally:
        runner.close()


def cuts(model: Any, rng: np.random.Generator) -> list[tuple[str, Any]]:
    """The names of one or two inner layers, and the models that give what Keras computes there."""
    import keras

    def calls(layer: Any, network: Any) -> list[Any]:
        nodes = enumerate(layer._inbound_nodes)
        return [node for k, node in nodes if f"{id(layer)}_ib-{k}" in network._nodes]

    def once(network: Any) -> list[Any]:
        found = [layer for layer in network.layers if type(layer).__name__ != "InputLayer"]
        return [layer for layer in found if len(calls(layer, network)) == 1]

    def one(options: list[Any]) -> Any:
        return options[int(rng.integers(len(options)))] if options else None

    found = []
    plain = one([layer for layer in once(model) if len(layer._inbound_nodes) == 1 and not hasattr(layer, "layers")])
    if plain is not None:
        found.append((plain.name, keras.Model(model.inputs, plain.output)))
    outer = one([layer for layer in once(model) if type(layer).__name__ == "Functional"])
    if outer is not None:
        inner = one([layer for layer in once(outer) if not hasattr(layer, "layers")])
        if inner is not None and len(inner._inbound_nodes) == 1:
            (node,) = calls(outer, model)
            part = keras.Model(outer.inputs, inner.output)
            found.append((f"{outer.name}/{inner.name}", keras.Model(model.inputs, part(list(node.input_tensors)))))
    return found


def compare(seed: int, folder: Path) -> Outcome:
    """One random model through hub: as ONNX, as PyTorch code, in Caffe, in CNTK, and cut at inner layers."""
    outcome = Outcome()
    model = random_model(seed)
    rng = np.random.default_rng(seed + 1)
    path = folder / ("model.h5" if seed % 3 == 0 else "model.keras")
    model.save(path)
    batch = 1 + seed % 2
    arrays = [rng.uniform(-2, 2, (batch, *x.shape[1:])).astype(np.float32) for x in model.inputs]
    try:
        expected = outputs_of(model, arrays)
    except Exception:  # noqa: BLE001  (what Keras builds and does not run)
        outcome.degenerate = 1
        return outcome
    try:
        loaded = hub.load(path)
    except hub.UnsupportedOps as error:
        outcome.refused = str(error)
        return outcome
    got = list(loaded.run(arrays).values())
    if len(got) != len(expected):
        outcome.wrong.append(f"{len(got)} outputs, expected {len(expected)}")
        return outcome
    for info, e, g in zip(loaded.outputs, expected, got, strict=True):
        _note(outcome, f"onnx {info.name}", e, g)
    try:
        hub.save(loaded, folder / "net.py")
    except hub.UnsupportedOps as error:
        outcome.refused = str(error)
    else:
        for info, e, g in zip(
            loaded.outputs, expected, run_code(load_code(folder / "net.py", "net"), arrays), strict=True
        ):
            _note(outcome, f"torch {info.name}", e, g)
    for runtime, file in (("caffe", "net.prototxt"), ("cntk", "net.dnn")):
        if find(runtime).available() is not None:
            continue
        try:
            through = run_file(loaded, folder / file, runtime, arrays)
        except hub.UnsupportedOps as error:
            outcome.refused_by[runtime] = str(error)
        else:
            for info, e in zip(loaded.outputs, expected, strict=True):
                _note(outcome, f"{runtime} {info.name}", e, through[info.name])
            report = hub.check(loaded, folder / file, layers=True)
            outcome.wrong += [f"{runtime}, layer {row.name}: {row.reason}" for row in report.mismatches]
    names = [x._keras_history.operation.name for x in model.inputs]
    for label, part in cuts(model, rng):
        try:
            cut = hub.load(path, outputs=[label])
        except hub.UsageError:
            outcome.uncut += 1  # a layer that is only a Transpose, and gone
            continue
        feeds = dict(zip(names, arrays, strict=True))
        kept = {info.name: feeds[info.name] for info in cut.inputs}
        _note(outcome, f"cut {label}", outputs_of(part, arrays)[0], next(iter(cut.run(kept).values())))
    return outcome
