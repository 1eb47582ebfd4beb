"""Random numbers: of the distributions that MIL says, and others than those that Core ML draws."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import Mil
from importers.coreml.table import op

__all__: list[str] = []


@op("random_categorical")
def random_categorical(mil: Mil, x: ir.Value, *, mode: str = "logits", size: int = 1, seed: int = -1) -> ir.Value:
    """Multinomial; other numbers than Core ML's, of the same distribution."""
    mil.one_of(mode, "logits", "probs")
    if mil.rank(x) < 1:
        raise Refusal("its input has no axes")
    _random(mil)
    logits = mil.op("Log", x) if mode == "probs" else x
    sizes = [mil.size(x, axis) for axis in range(mil.rank(x))]
    rows = mil.reshape(logits, [-1, sizes[-1]])
    y = mil.op("Multinomial", rows, sample_size=size, seed=_seed(seed), dtype=int(ir.DataType.INT32))
    return mil.reshape(y, [*sizes[:-1], size])


def _random(mil: Mil) -> None:
    mil.warn(f"{mil.name!r} gives random numbers: others than in Core ML, of the same distribution")


def _seed(seed: int) -> float | None:
    return float(seed) if seed >= 0 else None


def _template(mil: Mil, shape: ir.Value) -> ir.Value:
    """A tensor of a shape, of the type of the result."""
    zero = mil.builder.constant(np.zeros((), mil.result_type().numpy()), "zero")
    return mil.op("Expand", zero, mil.int64(shape))


@op("random_normal")
def random_normal(mil: Mil, shape: ir.Value, *, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> ir.Value:
    """RandomNormalLike, scaled and moved; other numbers than Core ML's, of the same distribution."""
    _random(mil)
    y = mil.op("RandomNormalLike", _template(mil, shape), mean=0.0, scale=1.0, seed=_seed(seed))
    # Not by its attributes: a deviation of 0 ends the process of ONNX Runtime.
    return mil.op("Add", mil.op("Mul", y, mil.scalar(stddev, y, "stddev")), mil.scalar(mean, y, "mean"))


@op("random_uniform")
def random_uniform(mil: Mil, shape: ir.Value, *, low: float = 0.0, high: float = 1.0, seed: int = -1) -> ir.Value:
    """RandomUniformLike; other numbers than Core ML's, of the same distribution."""
    _random(mil)
    return mil.op("RandomUniformLike", _template(mil, shape), low=low, high=high, seed=_seed(seed))


@op("random_bernoulli")
def random_bernoulli(mil: Mil, shape: ir.Value, *, prob: float = 0.5, seed: int = -1) -> ir.Value:
    """RandomUniformLike, below the probability; other numbers than Core ML's, of the same distribution."""
    _random(mil)
    uniform = mil.op("RandomUniformLike", _template(mil, shape), low=0.0, high=1.0, seed=_seed(seed))
    return mil.op("Less", uniform, mil.scalar(prob, uniform, "probability"))
