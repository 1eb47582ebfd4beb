"""Random ONNX graphs through the Caffe exporter: right in the real Caffe, layer by layer, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need, need_runtime
from out_nets import Build, agrees, network
from out_random import judged
from random_models import random_model

import hub
from hub.builder import GraphBuilder
from hub.model import Model

need_runtime("caffe")


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_graphs(first: int, tmp_path: Path) -> None:
    outcomes = {seed: judged(seed, tmp_path) for seed in range(first, first + 20)}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}
    assert sum(o.compared for o in outcomes.values()) >= 30
    assert sum(bool(o.refused) for o in outcomes.values()) <= 4


def test_layers_of_random_graphs(tmp_path: Path) -> None:
    outcomes = {seed: judged(seed, tmp_path, layers=True) for seed in range(200, 230)}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}


def test_one_value_as_several_outputs(tmp_path: Path) -> None:
    model = network(lambda g, x: [y := g.op("Relu", g.op("Neg", x[0])), y, g.op("Identity", y), x[0]], ["N", 3])
    agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32), tolerance=0)


@pytest.mark.parametrize("shape", [[4], ["N", 4], ["N", 2, 4]], ids=str)
@pytest.mark.parametrize("width", [[], [3]], ids=str)
def test_a_product_and_its_bias(shape: list[int | str], width: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, bias = (rng.normal(0, 1, s).astype(np.float32) for s in ([4, *width], width or [1]))
    model = network(
        lambda g, x: g.op("Add", g.op("MatMul", x[0], g.constant(weight, "w")), g.constant(bias, "b")), shape
    )
    agrees(model, tmp_path, rng.normal(0, 1, [d if isinstance(d, int) else 5 for d in shape]).astype(np.float32))


@pytest.mark.parametrize("before", ["Resize", "Tile", "Reshape"])
def test_a_batch_that_inference_loses(before: str, tmp_path: Path) -> None:
    """What is behind an operator whose result has, for ONNX, a batch of its own."""

    def build(g: Any, x: Any) -> Any:
        if before == "Resize":
            y = g.op("Resize", x[0], None, g.constant(np.array([1, 1, 1, 1], np.float32), "f"), mode="nearest")
        elif before == "Tile":
            y = g.op("Tile", x[0], g.ints([1, 1, 1, 1], "r"))
        else:
            y = g.op("Reshape", g.op("Reshape", x[0], g.ints([-1, 3], "a")), g.ints([-1, 2, 4, 3], "b"))
        z = g.op("Mul", y, g.op("ReduceMean", g.op("Tanh", y), g.ints([1], "axes")))
        return [g.op("Add", z, x[0]), g.op("Sum", z, x[0], z), g.op("Max", x[0], y)]

    model = hub.load(ir.to_proto(network(build, ["N", 2, 4, 3]).ir))
    for batch in (1, 3):
        agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (batch, 2, 4, 3)).astype(np.float32))


def test_a_batch_that_grows(tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        rows = g.op("Reshape", x[0], g.ints([-1, 6], "a"))
        pairs = g.op("Reshape", g.op("Tanh", rows), g.ints([-1, 3], "b"))
        return [rows, pairs, g.op("Reshape", g.op("Relu", pairs), g.ints([-1, 24], "c")), g.op("Add", pairs, pairs)]

    model = hub.load(ir.to_proto(network(build, ["N", 4, 6]).ir))
    agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (3, 4, 6)).astype(np.float32))


def test_constants_whose_reference_is_wrong(tmp_path: Path) -> None:
    """The reference implementation of GlobalMaxPool gives one axis too few where there are three."""
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (2, 3, 4)).astype(np.float32)
    model = network(lambda g, x: [x[0], g.op("GlobalMaxPool", g.constant(data, "c"))], ["N", 2])
    agrees(model, tmp_path, rng.normal(0, 1, (2, 2)).astype(np.float32), tolerance=0)


# -- what random graphs found, or could not reach ------------------------------------------------------------


@pytest.mark.parametrize("fill", [0.0, 1.5, 30.0, -1e4, 1e5, -3e38, -np.inf])
def test_what_is_padded_by_a_large_number_is_not_rounded(fill: float, tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Pad", x[0], g.ints([0, 0, 1, 0, 0, 0, 0, 2], "pads"), g.constant(np.float32(fill), "fill"))
        return g.op("Tanh", g.op("MaxPool", y, kernel_shape=[3, 3]))

    rng = np.random.default_rng(0)
    agrees(
        network(build, ["N", 2, 5, 6]), tmp_path, rng.uniform(-2, 2, (3, 2, 5, 6)).astype(np.float32), tolerance=1e-6
    )


@pytest.mark.parametrize("slope", [[1], [3, 1, 1, 1]], ids=str)
def test_slopes_of_five_axes(slope: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, slope).astype(np.float32)
    model = network(lambda g, x: g.op("PRelu", x[0], g.constant(weight, "slope")), ["N", 3, 1, 4, 2])
    agrees(model, tmp_path, rng.normal(0, 1, (2, 3, 1, 4, 2)).astype(np.float32))


def test_layers_that_end_with_a_transpose_that_was_taken_off(tmp_path: Path) -> None:
    """Whether their sizes tell it or not, their values are compared as the source has them."""
    for size in (4, 5):
        graph = GraphBuilder("net")
        x = graph.input("x", ir.DataType.FLOAT, ["N", 5, size])
        with graph.layer("first", "Test"):
            y = graph.op("Transpose", graph.op("Tanh", x), perm=[0, 2, 1])
        with graph.layer("second", "Test"):
            y = graph.op("Transpose", graph.op("Softmax", y, axis=1), perm=[0, 2, 1])
        graph.output(y, "y")
        model = Model(graph.model())
        path = hub.save(model, tmp_path / "net.prototxt")[0]
        report = hub.check(model, path, layers=True)
        assert report.ok, str(report)


@pytest.mark.parametrize("shape", [["N", 4, 4], ["N", 3, 4]], ids=str)
def test_a_transpose_of_an_input_that_is_used_elsewhere_stays(shape: list[int | str], tmp_path: Path) -> None:
    graph = GraphBuilder("net")
    x = graph.input("x", ir.DataType.FLOAT, shape)
    with graph.layer("first", "Test"):
        y = graph.op("Sigmoid", x)
    with graph.layer("second", "Test"):
        y = graph.op("Transpose", y, perm=[0, 2, 1])
    with graph.layer("third", "Test"):
        graph.output(graph.op("Softmax", y, axis=1), "y")
    with graph.layer("fourth", "Test"):
        graph.output(graph.op("Softmax", x, axis=1), "z")
    model = Model(graph.model())
    path = hub.save(model, tmp_path / "net.prototxt")[0]
    assert "is transpose" not in path.read_text()
    report = hub.check(model, path, layers=True)
    assert report.ok, str(report)


REFUSED: dict[str, tuple[Build, list[int | str], str]] = {
    "Tile by 0": (lambda g, x: g.op("Tile", x[0], g.ints([1, 0], "r")), ["N", 3], "without elements"),
    "an Expand to 0": (lambda g, x: g.op("Expand", x[0], g.ints([2, 0], "r")), [2, 1], "without elements"),
    "an input of 0": (lambda g, x: g.op("Relu", x[0]), ["N", 0], "without elements"),
    "a Celu of the other sign": (lambda g, x: g.op("Celu", x[0], alpha=-1.0), ["N", 3], "alpha=-1"),
    "a Celu of 0": (lambda g, x: g.op("Celu", x[0], alpha=0.0), ["N", 3], "alpha=0"),
    "a Shrink of the other sign": (lambda g, x: g.op("Shrink", x[0], lambd=-0.5), ["N", 3], "negative threshold"),
    "a kernel of other channels": (
        lambda g, x: g.op("Conv", x[0], g.constant(np.ones((3, 4, 2, 2), np.float32), "w")),
        ["N", 5, 6, 7],
        "4 channels in 1 groups on an input of 5",
    ),
    "the batch mixed": (
        lambda g, x: g.op("Add", x[0], g.op("Unsqueeze", x[0], g.ints([1], "a"))),
        ["N", 3],
        "batch=1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    build, shape, reason = REFUSED[name]
    with pytest.raises(hub.UnsupportedOps, match=reason):
        hub.save(network(build, shape), tmp_path / "net.prototxt")
    assert not list(tmp_path.iterdir())


def test_a_choice_of_what_may_be_infinite_is_said(tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        zero = g.constant(np.float32(0), "zero")
        return g.op("Where", g.op("Greater", x[0], zero), g.op("Log", x[0]), zero)

    model = network(build, ["N", 3])
    hub.save(model, tmp_path / "net.prototxt")
    assert any("must be a finite number" in warning for warning in model.warnings)


PIXELS: dict[str, dict[str, Any]] = {
    "mean": {"mean": [1, 2, 3]},
    "one number": {"mean": 0.3, "scale": 0.5},
    "order": {"channel_order": "bgr"},
    "scale": {"scale": [0.5, 2, 0.25]},
    "all": {"channel_order": "bgr", "mean": [1, 2, 3], "scale": [0.5, 2, 0.25]},
}


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize(
    "form", ["plain", "padded", "behind a Pad", "several users", "two convolutions", "given out", "last", "grouped"]
)
def test_pixels_as_they_come(form: str, pixels: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)

    def conv(g: Any, x: Any, **options: Any) -> Any:
        return g.op("Conv", x, g.constant(weight, "w"), **options)

    def build(g: Any, x: Any) -> Any:
        image = x[0]
        if form == "padded":
            return conv(g, image, pads=[1, 0, 1, 2])
        if form == "behind a Pad":
            return conv(g, g.op("Pad", image, g.ints([0, 0, 1, 1, 0, 0, 0, 2], "pads")))
        if form == "last":
            return conv(g, g.op("Transpose", g.op("Tanh", image), perm=[0, 3, 1, 2]))
        if form == "grouped":
            return g.op("Conv", image, g.constant(weight[:3, :1], "w"), group=3)
        more = {"several users": lambda: g.op("Tanh", image), "given out": lambda: image}
        more["two convolutions"] = lambda: conv(g, image, pads=[1] * 4)
        return [conv(g, image), *([more[form]()] if form in more else [])]

    shape = [6, 7, 3] if form == "last" else [3, 6, 7]
    feed = rng.uniform(-2, 2, (2, *shape)).astype(np.float32)
    agrees(network(build, ["N", *shape]), tmp_path, feed, **PIXELS[pixels])


@pytest.mark.parametrize("options", [{"batch": 2}, {"dialect": "ssd"}, {"fold": True}], ids=str)
def test_random_graphs_with_options(options: dict[str, Any], tmp_path: Path) -> None:
    outcomes = {seed: judged(seed, tmp_path, **options) for seed in range(300, 325)}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}


def test_random_graphs_for_later_versions(tmp_path: Path) -> None:
    """What the packaged Caffe has of the dialect; it lacks Clip."""
    written = wrong = 0
    for seed in range(300, 340):
        model, _ = random_model(seed)
        if not any(node.op_type in ("Clip", "HardSigmoid", "HardSwish") for node in model.ir.graph):
            written += 1
            wrong += bool(judged(seed, tmp_path, dialect="bvlc").wrong)
    assert written >= 10
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "DenseNet121", "VGG16", "InceptionV3"])
def test_a_second_witness(name: str, tmp_path: Path) -> None:
    """OpenCV reads the same files with a reader of its own."""
    need("keras", "tensorflow", "cv2")
    import keras
    from keras_nets import randomise

    from parity.runners import opencv

    keras.utils.set_random_seed(3)
    network = getattr(keras.applications, name)(weights=None, input_shape=(96, 80, 3), classes=20)
    randomise(network)
    network.save(tmp_path / "net.keras")
    model = hub.load(tmp_path / "net.keras")
    runner = opencv.open(hub.save(model, tmp_path / "net.prototxt", batch=1)[0])
    (taken,), (given,) = model.inputs, model.outputs
    feed = np.random.default_rng(0).uniform(-1, 1, (1, 96, 80, 3)).astype(np.float32)
    expected, got = model.run({taken.name: feed})[given.name], runner.run({taken.name: feed})[given.name]
    assert got.shape == expected.shape
    assert float(np.abs(got - expected).max()) <= 1e-4 * float(np.ptp(expected))


def test_a_nested_model_a_sum_of_three_and_selu(tmp_path: Path) -> None:
    """Errors without a word of other converters that no single layer shows; the others are layers of their own in
    tests/keras_cases.py, each of which goes through Caffe in tests/test_routes.py."""
    need("keras", "tensorflow")
    import keras
    from keras_cases import CASES
    from keras_nets import outputs_of, randomise

    layers = keras.layers
    inner_x = keras.Input((5, 5, 4))
    inner = keras.Model(inner_x, layers.SeparableConv2D(4, 3, padding="same", activation="selu")(inner_x), name="inner")
    x = keras.Input((9, 8, 3))
    y = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    y = layers.Cropping2D(((1, 0), (1, 0)))(layers.Conv2D(4, 3, dilation_rate=2)(y))
    y = layers.ReLU(6.0)(y)
    y = layers.Add()([inner(y), y, layers.AveragePooling2D(2, 1, "same")(inner(y))])
    network = randomise(keras.Model(x, layers.PReLU()(y)))
    network.save(tmp_path / "net.keras")
    model = hub.load(tmp_path / "net.keras")
    feed = np.random.default_rng(0).normal(0, 1, (2, 9, 8, 3)).astype(np.float32)
    agrees(model, tmp_path, feed)
    (expected,) = outputs_of(network, [feed])
    assert np.abs(model.run({model.inputs[0].name: feed})[model.outputs[0].name] - expected).max() <= 1e-4
    named = " ".join(name.lower() for name in CASES)
    for word in ("average pooling same", "relu6", "padding 2d asymmetric", "cropping 2d from", "dilated", "depthwise"):
        assert word in named
