"""Keras networks for tests: seeded weights that matter, seeded inputs, and what it means that outputs agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["agree", "application", "calibrate", "feeds", "images", "outputs_of", "randomise"]

TOLERANCE = 1e-4
"""Largest error, relative to the spread of the expected output."""


def randomise(model: Any, seed: int = 0) -> Any:
    """Give every variable of a Keras model seeded values at which it matters."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name, shape = variable.path.split("/")[-1], tuple(variable.shape)
        if "variance" in name:
            value = rng.uniform(0.3, 2.0, shape)
        elif name in ("gamma",):
            value = rng.uniform(0.5, 1.5, shape)
        elif name in ("count", "seed_generator_state"):
            continue
        elif "kernel" in name and len(shape) > 1:
            fan = math.prod(shape[:-1])
            value = rng.standard_normal(shape) * (1.6 / math.sqrt(fan))
        else:
            value = rng.standard_normal(shape) * 0.5
        variable.assign(value.astype(np.float32))
    for layer in model._flatten_layers():
        if type(layer).__name__ == "Normalization" and getattr(layer, "adapt_mean", None) is not None:
            layer.finalize_state()
    return model


def calibrate(model: Any, batch: Sequence[npt.NDArray[Any]] | None = None) -> Any:
    """Give a network with random weights the scale that training would, on a batch (seeded normal numbers if none).

    Kernels give numbers of unit deviation, and normalizations have the statistics of what enters them, so that no
    layer's numbers vanish or grow with depth, and a softmax is neither flat nor sure: an error cannot hide. Channels
    that vary little are not blown up, and most of what leaves a normalization is positive: random networks that are
    merely normalized make any rounding error hundreds of times larger, which no trained one does.
    """
    if batch is None:
        rng = np.random.default_rng(0)
        batch = [rng.standard_normal((4, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]

    def called(layer: Any) -> Callable[..., Any]:
        def call(*inputs: Any, **options: Any) -> Any:
            if type(layer).__name__ == "BatchNormalization":
                _normalize(layer, np.asarray(inputs[0]))
            elif hasattr(layer, "kernel") and hasattr(layer, "activation"):
                activation, layer.activation = layer.activation, None
                spread = float(np.std(layer(*inputs, **options)))
                layer.activation = activation
                for weight in layer.weights:
                    weight.assign(np.asarray(weight) / spread)
            return layer(*inputs, **options)

        return call

    model._run_through_graph(batch, called)
    return model


def _normalize(layer: Any, x: npt.NDArray[Any]) -> None:
    axes = tuple(axis for axis in range(x.ndim) if axis != layer.axis % x.ndim)
    variance = x.var(axes)
    layer.moving_mean.assign(x.mean(axes))
    layer.moving_variance.assign(np.maximum(variance, variance.mean()))
    if layer.beta is not None:
        layer.beta.assign(np.asarray(layer.beta) + 1.0)


def application(name: str, size: tuple[int, int] = (96, 128), classes: int = 50, seed: int = 3) -> Any:
    """A network of keras.applications with seeded weights, calibrated on `images`; H is not W."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    network = getattr(keras.applications, name)(weights=None, input_shape=(*size, 3), classes=classes)
    return calibrate(randomise(network), [images(network, 0, 4)])


def images(network: Any, seed: int = 1, batch: int = 2) -> npt.NDArray[np.float32]:
    """What a network of images takes: pixels from 0 to 255 where it scales them itself, else normal numbers."""
    rng, shape = np.random.default_rng(seed), (batch, *network.input_shape[1:])
    scales = any(type(layer).__name__ == "Rescaling" for layer in network.layers)
    return (rng.uniform(0, 255, shape) if scales else rng.standard_normal(shape)).astype(np.float32)


def feeds(model: Any, sizes: Sequence[tuple[int, ...]] = (), seed: int = 1, batch: int = 2) -> list[npt.NDArray[Any]]:
    """Seeded inputs of a Keras model, in its order."""
    rng = np.random.default_rng(seed)
    shapes = sizes or [tuple(int(d) for d in x.shape[1:]) for x in model.inputs]
    return [_feed(rng, x, (batch, *shape)) for x, shape in zip(model.inputs, shapes, strict=True)]


def _feed(rng: np.random.Generator, tensor: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if tensor.dtype == "bool":
        seen = np.asarray(rng.random(shape) < 0.6)
        seen[0, ..., 0, :] = False  # of which one query sees nothing
        return seen
    if tensor.dtype in ("int32", "int64") or tensor.name == "words":
        return rng.integers(0, 9, shape).astype(tensor.dtype)
    return rng.uniform(-2, 2, shape).astype(np.float32)


def outputs_of(model: Any, arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """What Keras itself computes, one array an output."""
    import keras

    result = model([keras.ops.convert_to_tensor(a) for a in arrays] if len(arrays) > 1 else arrays[0], training=False)
    flat = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else [result]
    return [keras.ops.convert_to_numpy(value) for value in flat]


def agree(expected: npt.NDArray[Any], got: npt.NDArray[Any], tolerance: float = TOLERANCE) -> None:
    """Same shape and type, finite, and the largest difference below `tolerance` of the expected spread."""
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    assert got.dtype == expected.dtype, f"type {got.dtype}, expected {expected.dtype}"
    assert np.isfinite(expected).all(), "the expected output is not finite: the test proves nothing"
    spread = float(expected.max() - expected.min()) if expected.size else 0.0
    assert expected.size <= 1 or spread > 0, "the expected output is constant: the test proves nothing"
    error = float(np.abs(got.astype(np.float64) - expected).max()) / (spread or 1.0)
    assert error <= tolerance, f"the largest error is {error:.3g} of the spread {spread:.3g}"
