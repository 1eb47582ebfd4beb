"""Networks of keras.applications to Caffe 1.0, every layer compared by name in the real Caffe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import need, need_runtime

need("keras", "tensorflow")
need_runtime("caffe")

from keras_nets import application, images, randomise  # noqa: E402

import hub  # noqa: E402
from hub.schemas import messages  # noqa: E402
from hub.schemas.caffe import dialect_of  # noqa: E402

NETWORKS = """VGG16 VGG19 InceptionV3 ResNet50 DenseNet121 Xception MobileNet MobileNetV2 NASNetMobile
InceptionResNetV2 EfficientNetB0""".split()

GONE = ("pad", "padding", "drop", "dropout", "flatten", "reshape")
"""Parts of the names of layers that have no layer of their own in Caffe: padding inside of others, nothing at all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_application_layer_by_layer(name: str, tmp_path: Path) -> None:
    import keras

    network = application(name)
    network.save(tmp_path / "net.keras")
    model = hub.load(tmp_path / "net.keras")
    prototxt, _ = hub.save(model, tmp_path / "net.prototxt")

    report = hub.check(model, prototxt, layers=True, inputs=images(network))
    assert not [row for row in report.rows if row.verdict != "ok"]
    outputs = [row for row in report.rows if row.kind != "layer"]
    assert len(outputs) == 2  # before and after the softmax
    assert all(row.of_spread is not None and row.of_spread <= 1e-4 for row in outputs)

    compared = {row.name for row in report.rows if row.kind == "layer"}
    known = {layer.name for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)}
    assert not [layer for layer in known - compared if not any(part in layer for part in GONE)]
    assert dialect_of(_net(prototxt)) == "caffe"


def _net(path: Path) -> object:
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(), messages("caffe").NetParameter())


def test_a_conversion_is_proved_in_three_runtimes(tmp_path: Path) -> None:
    import keras

    x = keras.Input((17, 14, 3), name="image")
    y = keras.layers.Conv2D(6, 3, 2, "same", name="conv")(x)
    y = keras.layers.ReLU(6, name="relu")(keras.layers.BatchNormalization(name="bn")(y))
    y = keras.layers.Dense(4, "softmax", name="scores")(keras.layers.GlobalAveragePooling2D(name="pool")(y))
    network = keras.Model(x, y, name="tiny")
    randomise(network)
    network.save(tmp_path / "tiny.keras")
    result = hub.convert(tmp_path / "tiny.keras", tmp_path / "tiny.caffemodel")
    assert [path.name for path in result.paths] == ["tiny.caffemodel", "tiny.prototxt"]
    assert result.warnings == ["the input 'image' is transpose(0, 3, 1, 2) of the source's"]
    assert result.report is not None
    assert result.report.ok
    assert {row.between for row in result.report.rows} == {"ONNX against Keras source", "Caffe target against ONNX"}


@pytest.mark.parametrize(
    "options",
    [
        {"mean": [104, 117, 123], "scale": 0.017, "channel_order": "bgr"},
        {"scale": [0.5, 0.25, 2.0]},
        {"mean": 127.5, "scale": 1 / 127.5},
        {"channel_order": "bgr", "fold": True},
    ],
)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pixels_as_they_come(padding: str, options: dict[str, object], tmp_path: Path) -> None:
    """The head of the prototxt says how the source's input becomes the net's; the runner does just that."""
    import keras

    x = keras.Input((12, 11, 3), name="image")
    y = keras.layers.Conv2D(6, 3, 2, padding, name="conv")(x)
    network = keras.Model(x, keras.layers.BatchNormalization(name="bn")(y), name="tiny")
    randomise(network)
    network.save(tmp_path / "tiny.keras")
    result = hub.convert(tmp_path / "tiny.keras", tmp_path / "tiny.prototxt", **options)
    assert result.report is not None
    assert result.report.ok
    types = [layer.type for layer in _net(result.paths[0]).layer]  # type: ignore[attr-defined]
    in_convolution = padding == "valid" or "mean" not in options
    assert (types[1] == "Convolution") is in_convolution
    # and by hand: pixels in, what Keras says of (pixels - mean) * scale out
    from parity.runners import caffe

    runner = caffe.open(result.paths[0])
    runner.as_written()
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 12, 11)).astype(np.float32)
    numbers = [np.reshape(options.get(key, default), (-1, 1, 1)) for key, default in (("mean", 0), ("scale", 1))]
    source = (pixels - numbers[0]) * numbers[1]
    if options.get("channel_order") == "bgr":
        source = source[:, ::-1]
    (got,) = runner.run({"image": pixels}).values()
    expected = network.predict(source.transpose(0, 2, 3, 1), verbose=0).transpose(0, 3, 1, 2)
    assert np.abs(got - expected).max() <= 1e-5 * np.ptp(expected)
    runner.close()


def test_a_folded_network_is_compared_layer_by_layer(tmp_path: Path) -> None:
    """What leaves a normalisation that was folded is what its convolution holds."""
    import keras

    x = keras.Input((11, 9, 3), name="image")
    y = keras.layers.Conv2D(6, 3, name="conv")(x)
    y = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="bn")(y))
    y = keras.layers.Dense(4, name="fc")(keras.layers.Flatten(name="flat")(y))
    network = keras.Model(x, keras.layers.BatchNormalization(name="last")(y), name="tiny")
    randomise(network)
    network.save(tmp_path / "tiny.keras")
    model = hub.load(tmp_path / "tiny.keras")
    prototxt, _ = hub.save(model, tmp_path / "tiny.prototxt", fold=True)
    assert "BatchNorm" not in {layer.type for layer in _net(prototxt).layer}  # type: ignore[attr-defined]
    report = hub.check(model, prototxt, layers=True)
    assert report.ok, str(report)
    assert {row.name for row in report.rows if row.kind == "layer"} >= {"bn", "relu", "last"}


def test_a_batch_that_is_another(tmp_path: Path) -> None:
    import keras

    network = keras.Sequential([keras.Input(batch_shape=(2, 3)), keras.layers.Dense(4)])
    network.save(tmp_path / "net.keras")
    model = hub.load(tmp_path / "net.keras")
    hub.save(model, tmp_path / "net.prototxt", batch=2)
    with pytest.raises(hub.UsageError, match="batch=4: the model itself says 2"):
        hub.save(model, tmp_path / "net.prototxt", batch=4)
