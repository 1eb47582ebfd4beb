"""Core ML's neural networks, written by hand, against NumPy and PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need
from coreml_networks import INT32, add, model, save, weights

import hub
from hub.canonical import LAYER, SOURCE_OP
from hub.errors import UnsupportedOps, UsageError
from hub.tensors import ViewTensor

RANDOM = np.random.default_rng(3)


def numbers(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def classifier(folder: Path) -> tuple[Path, Any, Any]:
    """A small network of specification 1, with five axes, as a classifier of images."""
    spec = model({"image": ()}, {}, exact=False, version=1)
    image = spec.description.input[0].type.imageType
    image.width, image.height, image.colorSpace = 7, 5, 30
    network = spec.neuralNetwork
    step = network.preprocessing.add(featureName="image")
    step.scaler.channelScale, step.scaler.blueBias, step.scaler.redBias = 0.5, -1, 2
    kernel, matrix = numbers(4, 3, 3, 3), numbers(6, 4 * 3 * 4)
    conv = add(
        network,
        "convolution",
        ["image"],
        ["conv"],
        outputChannels=4,
        kernelChannels=3,
        stride=[2, 2],
        kernelSize=[3, 3],
    )
    conv.same.SetInParent()
    weights(conv.weights, kernel)
    add(network, "activation", ["conv"], ["relu"]).ReLU.SetInParent()
    add(network, "flatten", ["relu"], ["flat"])
    weights(add(network, "innerProduct", ["flat"], ["fc"], inputChannels=48, outputChannels=6).weights, matrix)
    add(network, "softmax", ["fc"], ["prob"])
    result = type(spec)()
    result.CopyFrom(spec)
    result.neuralNetworkClassifier.layers.extend(network.layers)
    result.neuralNetworkClassifier.preprocessing.extend(network.preprocessing)
    result.neuralNetworkClassifier.stringClassLabels.vector.extend("abcdef")
    result.description.predictedFeatureName = "label"
    result.description.output.add(name="label").type.stringType.SetInParent()
    result.description.output.add(name="scores").type.dictionaryType.stringKeyType.SetInParent()
    return save(result, folder), kernel, matrix


def test_a_classifier_of_images(tmp_path: Path) -> None:
    need("torch")
    import torch

    path, kernel, matrix = classifier(tmp_path)
    net = hub.load(path)
    assert [str(info) for info in net.inputs] == ["image: float32[N, 3, 5, 7] NCHW"]
    assert net.variant == "NeuralNetworkClassifier, specification 1"
    assert json.loads(net.ir.metadata_props["hub.coreml.labels"]) == list("abcdef")
    x = RANDOM.integers(0, 256, (2, 3, 5, 7)).astype(np.float32)
    shifted = torch.from_numpy(x * 0.5 + np.array([-1, 0, 2], np.float32).reshape(3, 1, 1))
    padded = torch.nn.functional.pad(shifted, (1, 1, 1, 1))
    inner = torch.relu(torch.conv2d(padded, torch.from_numpy(kernel), stride=2)).flatten(1)
    expected = torch.softmax(inner @ torch.from_numpy(matrix).T, 1).numpy()
    np.testing.assert_allclose(net.run(x)["prob"], expected, rtol=1e-4, atol=1e-6)
    assert {node.op_type for node in net.ir.graph} == {"Mul", "Add", "Conv", "Relu", "Flatten", "Gemm", "Softmax"}
    sources = {node.metadata_props[LAYER]: node.metadata_props[SOURCE_OP] for node in net.ir.graph}
    assert sources["conv"] == "convolution"
    assert sources["fc"] == "innerProduct"
    assert any("BGR" in text for text in net.warnings)


def test_large_weights_are_views_of_the_file(tmp_path: Path) -> None:
    path, kernel, _ = classifier(tmp_path)
    net = hub.load(path)
    (tensor,) = [v.const_value for v in net.ir.graph.initializers.values() if list(v.shape or ()) == [4, 3, 3, 3]]
    assert isinstance(tensor, ViewTensor)
    assert tensor.mapping is not None
    np.testing.assert_array_equal(tensor.numpy(), kernel)


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
@pytest.mark.parametrize("kind", ["linear", "table"])
@pytest.mark.parametrize("size", [3, 40])
def test_quantized_weights(tmp_path: Path, bits: int, kind: str, size: int) -> None:
    spec = model({"x": (size,)}, {"y": (5,)})
    params = add(spec.neuralNetwork, "innerProduct", ["x"], ["y"], inputChannels=size, outputChannels=5).weights
    stored = RANDOM.integers(0, 1 << bits, (5, size))
    packed = np.packbits((stored.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1)
    params.rawValue = packed.tobytes()
    params.quantization.numberOfBits = bits
    if kind == "linear":
        scale, bias = numbers(5), numbers(5)
        params.quantization.linearQuantization.scale.extend(scale)
        params.quantization.linearQuantization.bias.extend(bias)
        matrix = stored * scale[:, None] + bias[:, None]
    else:
        table = numbers(1 << bits)
        params.quantization.lookupTableQuantization.floatValue.extend(table)
        matrix = table[stored]
    x = numbers(size)
    np.testing.assert_allclose(hub.load(save(spec, tmp_path)).run(x)["y"], matrix @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [3, 300])
def test_half_precision_weights(tmp_path: Path, size: int) -> None:
    spec = model({"x": (size,)}, {"y": (2,)})
    params = add(spec.neuralNetwork, "innerProduct", ["x"], ["y"], inputChannels=size, outputChannels=2).weights
    matrix, x = numbers(2, size).astype(np.float16), numbers(size)
    params.float16Value = matrix.tobytes()
    got = hub.load(save(spec, tmp_path)).run(x)["y"]
    np.testing.assert_allclose(got, matrix.astype(np.float32) @ x, rtol=1e-4, atol=1e-5)


def lstm(folder: Path, sequence: bool) -> tuple[Path, dict[str, Any]]:
    spec = model({"x": (3,), "h": (4,), "c": (4,)}, {"y": (4,), "h_out": (4,), "c_out": (4,)}, exact=False, version=1)
    for feature in spec.description.input[1:]:
        feature.type.isOptional = True
    names = ["x", "h", "c"], ["y", "h_out", "c_out"]
    params = add(spec.neuralNetwork, "uniDirectionalLSTM", *names, inputVectorSize=3, outputVectorSize=4)
    for kind in ("sigmoid", "tanh", "tanh"):
        getattr(params.activations.add(), kind).SetInParent()
    params.params.sequenceOutput, params.params.hasBiasVectors, params.params.forgetBias = sequence, True, True
    params.params.cellClipThreshold = 50000
    parts = {}
    for gate in ("inputGate", "forgetGate", "blockInput", "outputGate"):
        for kind, shape in (("WeightMatrix", (4, 3)), ("RecursionMatrix", (4, 4)), ("BiasVector", (4,))):
            parts[gate + kind] = numbers(*shape)
            weights(getattr(params.weightParams, gate + kind), parts[gate + kind])
    return save(spec, folder), parts


@pytest.mark.parametrize("sequence", [True, False])
def test_an_lstm_over_a_sequence(tmp_path: Path, sequence: bool) -> None:
    path, parts = lstm(tmp_path, sequence)
    net = hub.load(path)
    x, h, c = numbers(6, 2, 3), numbers(1, 2, 4), numbers(1, 2, 4)
    got = net.run({"x": x, "h": h, "c": c})

    def sigmoid(v: Any) -> Any:
        return 1 / (1 + np.exp(-v))

    def gate(name: str, t: int, state: Any) -> Any:
        product = x[t] @ parts[name + "WeightMatrix"].T + state @ parts[name + "RecursionMatrix"].T
        return product + parts[name + "BiasVector"]

    state, cell, steps = h[0], c[0], []
    for t in range(6):
        enter, keep = sigmoid(gate("inputGate", t, state)), sigmoid(gate("forgetGate", t, state) + 1)
        leave, new = sigmoid(gate("outputGate", t, state)), np.tanh(gate("blockInput", t, state))
        cell = keep * cell + enter * new
        state = leave * np.tanh(cell)
        steps.append(state)
    np.testing.assert_allclose(got["y"], np.stack(steps) if sequence else state[None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["h_out"][0], state, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["c_out"][0], cell, rtol=1e-4, atol=1e-5)
    assert any("optional" in text for text in net.warnings)


def test_a_loop_that_is_left(tmp_path: Path) -> None:
    """Doubles a number until it is above 100."""
    spec = model({"x": (1,)}, {"y": (1,)})
    add(spec.neuralNetwork, "copy", ["x"], ["y"])
    layer = spec.neuralNetwork.layers.add(name="loop")
    loop = layer.loop
    loop.maxLoopIterations = 50
    add(loop.bodyNetwork, "multiply", ["y"], ["twice"], alpha=2.0)
    add(loop.bodyNetwork, "copy", ["twice"], ["y"], name="back")
    add(loop.bodyNetwork, "greaterThan", ["y"], ["stop"], alpha=100.0)
    branch = loop.bodyNetwork.layers.add(name="branch", input=["stop"])
    branch.branch.ifBranch.layers.add(name="break").loopBreak.SetInParent()
    net = hub.load(save(spec, tmp_path))
    assert net.run(np.array([3.0], np.float32))["y"].tolist() == [192.0]
    assert net.run(np.array([200.0], np.float32))["y"].tolist() == [400.0]


def test_sizes_that_may_vary(tmp_path: Path) -> None:
    spec = model({"x": (2, 3)}, {"y": (2, 3)})
    ranges = spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges
    ranges.add(lowerBound=1, upperBound=-1)
    ranges.add(lowerBound=3, upperBound=3)
    add(spec.neuralNetwork, "sin", ["x"], ["y"])
    net = hub.load(save(spec, tmp_path))
    assert [str(info) for info in net.inputs] == ["x: float32[x_0, 3]"]
    x = numbers(9, 3)
    np.testing.assert_allclose(net.run(x)["y"], np.sin(x), rtol=1e-5)
    assert str(hub.load(save(spec, tmp_path), inputs={"x": (4, 3)}).inputs[0]) == "x: float32[4, 3]"
    with pytest.raises(UsageError, match="has the shape"):
        hub.load(save(spec, tmp_path), inputs={"x": (4, 5)})


def test_whole_numbers_go_in_and_come_out(tmp_path: Path) -> None:
    spec = model({"x": (4,)}, {"y": (4,)})
    for feature in (*spec.description.input, *spec.description.output):
        feature.type.multiArrayType.dataType = INT32
    add(spec.neuralNetwork, "multiply", ["x"], ["y"], alpha=3.0)
    net = hub.load(save(spec, tmp_path))
    assert net.inputs[0].dtype == net.outputs[0].dtype == "int32"
    assert net.run(np.arange(4, dtype=np.int32))["y"].tolist() == [0, 3, 6, 9]


def test_a_pipeline_is_one_graph(tmp_path: Path) -> None:
    path, _kernel, _matrix = classifier(tmp_path)
    first = model({"x": (3, 5, 7)}, {"image": (3, 5, 7)}, exact=False, version=1)
    add(first.neuralNetwork, "unary", ["x"], ["image"], type=6, scale=1.0)
    second = type(first).FromString(path.read_bytes())
    whole = type(first)(specificationVersion=2)
    whole.description.input.add().CopyFrom(first.description.input[0])
    whole.description.output.add(name="prob")
    whole.pipeline.models.extend([first, second])
    net = hub.load(save(whole, tmp_path, "whole.mlmodel"))
    assert net.variant == "Pipeline, specification 2"
    x = -RANDOM.integers(0, 256, (2, 3, 5, 7)).astype(np.float32)
    np.testing.assert_allclose(net.run(x)["prob"], hub.load(path).run(-x)["prob"], rtol=1e-5, atol=1e-6)


def test_a_stage_that_is_no_network_is_refused(tmp_path: Path) -> None:
    spec = model({"x": (3,)}, {"y": (3,)})
    whole = type(spec)(specificationVersion=2)
    whole.pipeline.models.add().glmRegressor = b""
    whole.pipeline.models.add().treeEnsembleClassifier = b""
    with pytest.raises(UnsupportedOps, match=r"(?s)glmRegressor.*treeEnsembleClassifier"):
        hub.load(save(whole, tmp_path))


def test_everything_refused_is_named_at_once(tmp_path: Path) -> None:
    spec = model({"x": (3,)}, {"y": (3,)})
    add(spec.neuralNetwork, "custom", ["x"], ["a"], className="Mine")
    add(spec.neuralNetwork, "unary", ["a"], ["b"], scale=0.0)
    add(spec.neuralNetwork, "custom", ["x"], ["c"], className="Yours")
    add(spec.neuralNetwork, "addBroadcastable", ["b", "c"], ["y"])
    with pytest.raises(UnsupportedOps) as caught:
        hub.load(save(spec, tmp_path))
    assert sorted(op.reason for op in caught.value.ops) == [
        "it is a layer of somebody's own, of the class 'Mine'",
        "it is a layer of somebody's own, of the class 'Yours'",
    ]


def test_a_field_that_is_not_looked_at_is_refused() -> None:
    from hub.schemas import messages
    from importers.coreml.neuralnetwork.layers import LAYERS, call
    from importers.coreml.neuralnetwork.network import Scope  # noqa: F401 - registers the layers

    params = messages("coreml").ClipLayerParams(minVal=1)

    class Net:
        kind = "sin"

    original = LAYERS["sin"]
    with pytest.raises(Exception, match="its field minVal is not supported"):
        call(Net(), params, [None])  # type: ignore[arg-type, list-item]
    assert LAYERS["sin"] is original


def test_all_layers_of_the_format_are_known() -> None:
    """What has no function here is refused by name."""
    from hub.schemas import messages
    from importers.coreml.neuralnetwork.layers import LAYERS
    from importers.coreml.neuralnetwork.network import Scope  # noqa: F401 - registers the layers

    layer = messages("coreml").NeuralNetworkLayer.DESCRIPTOR
    kinds = {field.name for field in layer.oneofs_by_name["layer"].fields}
    assert set(LAYERS) <= kinds
    assert kinds - set(LAYERS) == {"custom"}


def test_a_field_of_a_later_format_is_refused(tmp_path: Path) -> None:
    spec = model({"x": (3,)}, {"y": (3,)})
    params = add(spec.neuralNetwork, "clip", ["x"], ["y"], minVal=0.0, maxVal=1.0)
    params.MergeFromString(b"\xf8\x07\x01")  # field 127
    with pytest.raises(UnsupportedOps, match="number 127 is not known"):
        hub.load(save(spec, tmp_path))


def test_an_even_window_across_channels_is_refused(tmp_path: Path) -> None:
    spec = model({"x": (1, 4, 3, 2)}, {"y": (1, 4, 3, 2)})
    add(spec.neuralNetwork, "lrn", ["x"], ["y"], alpha=0.5, beta=0.75, localSize=4, k=1.0)
    with pytest.raises(UnsupportedOps, match="which channels its window of 4 takes is not documented"):
        hub.load(save(spec, tmp_path))
