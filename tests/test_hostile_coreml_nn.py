"""Core ML's neural networks that lie: sizes, weights, names, layers; and damaged copies of good ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coreml_networks import add, model, save, weights
from hostile import bounded, refused
from hostile_child import damaged

import hub
from hub.wire import delimited, varint


def dense(size: int = 3) -> Any:
    spec = model({"x": (size,)}, {"y": (2,)})
    params = add(spec.neuralNetwork, "innerProduct", ["x"], ["y"], inputChannels=size, outputChannels=2)
    weights(params.weights, np.ones((2, size), np.float32))
    return spec


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save(dense(200), tmp_path)


def test_the_network_made_here_is_a_good_one(good: Path) -> None:
    assert hub.load(good).run(np.ones(200, np.float32))["y"].tolist() == [200.0, 200.0]


def test_every_truncation_is_an_error(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    for size in range(0, len(data), 41):
        good.write_bytes(data[:size])
        with pytest.raises(hub.HubError) as caught:
            hub.load(good)
        assert good.name in str(caught.value)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_copies(good: Path, tmp_path: Path, seed: int) -> None:
    data = good.read_bytes()
    for number in range(seed * 60, seed * 60 + 60):
        good.write_bytes(damaged(data, random.Random(number)))
        bounded(good, tmp_path)


LIES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "more inputs than weights": (lambda s, p: setattr(p, "inputChannels", 4), "it has 4 inputs"),
    "2^40 outputs": (lambda s, p: setattr(p, "outputChannels", 1 << 40), "by its sizes"),
    "2^63 outputs": (lambda s, p: setattr(p, "outputChannels", 1 << 63), "by its sizes"),
    "no outputs": (lambda s, p: setattr(p, "outputChannels", 0), "no channels"),
    "no weights": (lambda s, p: p.weights.Clear(), "missing"),
    "weights twice": (lambda s, p: setattr(p.weights, "float16Value", b"ab" * 6), "several forms"),
    "bytes without quantization": (
        lambda s, p: p.weights.Clear() or setattr(p.weights, "rawValue", b"abcdef"),
        "does not say how",
    ),
    "an input of 2^40": (lambda s, p: s.description.input[0].type.multiArrayType.shape.append(1 << 40), "has the size"),
    "an input of -1": (lambda s, p: s.description.input[0].type.multiArrayType.shape.append(-1), "has the size"),
    "an input that nothing writes": (lambda s, p: s.neuralNetwork.layers[0].input.append("z"), "nothing before it"),
    "two outputs": (lambda s, p: s.neuralNetwork.layers[0].output.append("z"), "has 2 outputs, it gives 1"),
    "an output that nothing writes": (lambda s, p: s.description.output.add(name="z"), ""),
    "no output": (lambda s, p: s.description.output.pop(), "no output that is an array"),
    "no layers": (lambda s, p: s.neuralNetwork.layers.pop(), "written by no layer"),
    "a name of 100 kB": (lambda s, p: s.neuralNetwork.layers[0].input.append("z" * 100_000), "nothing before it"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_network_that_lies(tmp_path: Path, lie: str) -> None:
    spec = dense()
    change, says = LIES[lie]
    change(spec, spec.neuralNetwork.layers[0].innerProduct)
    path = save(spec, tmp_path)
    if lie == "an output that nothing writes":
        assert list(hub.load(path).run(np.ones(3, np.float32))) == ["y"]  # it has no type, so that it is no array
        return
    refused(path, tmp_path, says)


def test_a_layer_of_an_unknown_type(tmp_path: Path) -> None:
    spec = dense()
    layer = spec.neuralNetwork.layers.add(name="new", input=["x"], output=["z"]).SerializeToString()
    del spec.neuralNetwork.layers[1]
    layer += delimited(9999, 0)
    data = spec.SerializeToString()
    network = delimited(1, len(layer)) + layer
    path = tmp_path / "net.mlmodel"
    path.write_bytes(data + delimited(500, len(network)) + network)
    refused(path, tmp_path, "unknown layer x1", "new", kind=hub.UnsupportedOps)


def test_the_number_that_stands_for_what_was_left_out(tmp_path: Path) -> None:
    """A file cannot point to its own bytes with the number that only the reader writes."""
    from importers.coreml.wire import MARK

    spec = dense()
    params = spec.neuralNetwork.layers[0].innerProduct.weights
    params.Clear()
    params.ParseFromString(varint(MARK << 3) + varint(0))
    path = save(spec, tmp_path)
    with pytest.raises(hub.HubError, match=r"missing|damaged"):
        hub.load(path)


@pytest.mark.parametrize("kind", ["branch", "pipeline"])
def test_messages_inside_of_one_another(tmp_path: Path, kind: str) -> None:
    spec = dense()
    if kind == "pipeline":
        for _ in range(40):
            outer = type(spec)(specificationVersion=4)
            outer.pipeline.models.add().CopyFrom(spec)
            spec = outer
    else:
        network = spec.neuralNetwork
        for _ in range(40):
            layer = network.layers.add(name="b", input=["x"])
            network = layer.branch.ifBranch
            network.layers.add(name="w", input=["x"], output=["y"]).copy.SetInParent()
    bounded(save(spec, tmp_path), tmp_path)


def test_sizes_that_a_layer_asks_for(tmp_path: Path) -> None:
    """What a layer would make is not made while the file is read."""
    for kind, fields in (
        ("fillStatic", {"targetShape": [1 << 20, 1 << 20, 1 << 20]}),
        ("rangeStatic", {"endValue": 1e30, "stepSizeValue": 1.0}),
        ("tile", {"reps": [1 << 62]}),
        ("constantPad", {"padAmounts": [1 << 62, 1 << 62]}),
        ("slidingWindows", {"windowSize": 1 << 62, "step": 1}),
        ("upsample", {"scalingFactor": [1 << 40, 1 << 40]}),
        ("loadConstantND", {"shape": [1 << 40]}),
        ("layerNormalization", {"normalizedShape": [1 << 40]}),
        ("batchnorm", {"channels": 1 << 50, "computeMeanVar": True}),
    ):
        spec = model({"x": (2,)}, {"y": (2,)})
        given = [] if kind.endswith("Static") or kind.startswith("load") else ["x"]
        add(spec.neuralNetwork, kind, given, ["y"], **fields)
        with suppress(hub.HubError):
            hub.load(save(spec, tmp_path))
