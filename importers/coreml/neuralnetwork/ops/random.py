"""Random numbers. Those of ONNX Runtime are others than those of Core ML, of the same distribution."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.ops.fill import filled

__all__: list[str] = []


def _seed(seed: int) -> float | None:
    """A seed below 0 is none."""
    return float(seed) if seed >= 0 else None


def _like(net: Context, x: ir.Value | None, shape: Sequence[int] | None) -> ir.Value:
    """A tensor of the shape wanted: that of `x` for "Like", the numbers in `x` for "Dynamic", or `shape`."""
    if shape is not None:
        return filled(net, net.ints([int(size) for size in shape], "shape"), 0)
    assert x is not None
    return x if net.kind.endswith("Like") else filled(net, net.int64(x), 0)


@layer("randomNormalLike", "randomNormalDynamic")
def normal(net: Context, x: ir.Value, *, seed: int, mean: float, stdDev: float) -> ir.Value:
    return net.op("RandomNormalLike", _like(net, x, None), mean=mean, scale=stdDev, seed=_seed(seed))


@layer("randomNormalStatic")
def normal_static(net: Context, *, seed: int, mean: float, stdDev: float, outputShape: Sequence[int]) -> ir.Value:
    return net.op("RandomNormalLike", _like(net, None, outputShape), mean=mean, scale=stdDev, seed=_seed(seed))


@layer("randomUniformLike", "randomUniformDynamic")
def uniform(net: Context, x: ir.Value, *, seed: int, minVal: float, maxVal: float) -> ir.Value:
    return net.op("RandomUniformLike", _like(net, x, None), low=minVal, high=maxVal, seed=_seed(seed))


@layer("randomUniformStatic")
def uniform_static(net: Context, *, seed: int, minVal: float, maxVal: float, outputShape: Sequence[int]) -> ir.Value:
    return net.op("RandomUniformLike", _like(net, None, outputShape), low=minVal, high=maxVal, seed=_seed(seed))


def _bernoulli(net: Context, like: ir.Value, prob: float, seed: int) -> ir.Value:
    drawn = net.op("RandomUniformLike", like, low=0.0, high=1.0, seed=_seed(seed))
    return net.floats(net.op("Less", drawn, net.number(prob, "probability")))


@layer("randomBernoulliLike", "randomBernoulliDynamic")
def bernoulli(net: Context, x: ir.Value, *, seed: int, prob: float) -> ir.Value:
    return _bernoulli(net, _like(net, x, None), prob, seed)


@layer("randomBernoulliStatic")
def bernoulli_static(net: Context, *, seed: int, prob: float, outputShape: Sequence[int]) -> ir.Value:
    return _bernoulli(net, _like(net, None, outputShape), prob, seed)


@layer("categoricalDistribution")
def categorical(
    net: Context, x: ir.Value, *, seed: int, numSamples: int, isLogits: bool, eps: float, temperature: float
) -> ir.Value:
    """Classes by their probabilities, or logits, along the last axis."""
    net.require(numSamples >= 1, "it draws nothing")
    if temperature == 0:
        raise Refusal("its temperature is 0")
    sizes = net.shape(x)
    logits = x if isLogits else net.op("Log", net.op("Add", x, net.number(eps, "eps")))
    if temperature != 1:
        logits = net.op("Div", logits, net.number(temperature, "temperature"))
    rows = logits if len(sizes) == 2 else net.reshape(logits, [-1, net.size(x, -1)])
    drawn = net.op("Multinomial", rows, sample_size=numSamples, seed=_seed(seed))
    y = net.floats(drawn)
    if len(sizes) == 2:
        return y
    return net.reshape(y, [*[net.size(x, axis) for axis in range(len(sizes) - 1)], numSamples])
