"""Networks of keras.applications to CNTK, every layer compared by name in the real CNTK, files and code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need, need_runtime

need("keras", "tensorflow")
need_runtime("cntk")
need_runtime("cntk-python")

from keras_nets import application, images, randomise  # noqa: E402

import hub  # noqa: E402
from parity.runners import cntk  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

NETWORKS = """VGG16 VGG19 InceptionV3 ResNet50 DenseNet121 Xception MobileNet MobileNetV2 NASNetMobile
InceptionResNetV2 EfficientNetB0""".split()

GONE = ("drop", "dropout", "flatten")
"""Parts of the names of layers that are nothing at inference, or whose numbers come in another order."""

LINES = {"ResNet50": 145, "DenseNet121": 150, "MobileNet": 125, "VGG16": 100, "InceptionV3": 220, "Xception": 160}
"""About what a person would need."""


def loaded(name: str, folder: Path) -> tuple[Any, hub.Model]:
    network = application(name)
    network.save(folder / "net.keras")
    return network, hub.load(folder / "net.keras")


def values(path: Path, feeds: Any) -> dict[str, Any]:
    """The outputs and all named layers."""
    runner = cntk.open(path)
    try:
        return runner.run(feeds, [f"layer:{name}" for name in runner.layers])
    finally:
        runner.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_application_layer_by_layer(name: str, tmp_path: Path) -> None:
    import keras

    network, model = loaded(name, tmp_path)
    (native,) = hub.save(model, tmp_path / "net.dnn")
    report = hub.check(model, native, layers=True, inputs=images(network))
    assert not [row for row in report.rows if row.verdict != "ok"]
    outputs = [row for row in report.rows if row.kind != "layer"]
    assert len(outputs) == 2  # before and after the softmax
    assert all(row.of_spread is not None and row.of_spread <= 1e-4 for row in outputs)
    compared = {row.name for row in report.rows if row.kind == "layer"}
    known = {layer.name for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)}
    assert not [layer for layer in known - compared if not any(part in layer for part in GONE)]

    code = hub.save(model, tmp_path / "code.py", to="cntk")[0]
    feeds = {model.inputs[0].name: np.random.default_rng(0).random((2, 96, 128, 3), np.float32)}
    ours, theirs = values(native, feeds), values(code, feeds)
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], key)
    assert len(code.read_text().splitlines()) <= LINES.get(name, 10_000)

    assert hub.check(
        model, hub.load(native), layers=True, inputs=images(network)
    ).ok  # ONNX to CNTK to ONNX, in ONNX Runtime


def test_a_conversion_is_proved_in_three_runtimes(tmp_path: Path) -> None:
    import keras

    x = keras.Input((17, 14, 3), name="image")
    y = keras.layers.Conv2D(6, 3, 2, "same", name="conv")(x)
    y = keras.layers.ReLU(6, name="relu")(keras.layers.BatchNormalization(name="bn")(y))
    y = keras.layers.Dense(4, "softmax", name="scores")(keras.layers.GlobalAveragePooling2D(name="pool")(y))
    network = keras.Model(x, y, name="tiny")
    randomise(network)
    network.save(tmp_path / "tiny.keras")
    for name, files in (("tiny.dnn", ["tiny.dnn"]), ("tiny.py", ["tiny.py", "tiny.npz"])):
        result = hub.convert(tmp_path / "tiny.keras", tmp_path / name, to="cntk")
        assert [path.name for path in result.paths] == files
        assert result.warnings == []
        assert result.report is not None
        assert result.report.ok
        assert {row.between for row in result.report.rows} == {"ONNX against Keras source", "CNTK target against ONNX"}


def test_code_saves_the_native_model(tmp_path: Path) -> None:
    """`python net.py`, in CNTK's own Python, writes net.dnn, which is the same network again."""
    import subprocess

    from hub import runtimes

    network = _small(tmp_path)
    model = hub.load(network)
    code = hub.save(model, tmp_path / "net.py", to="cntk")[0]
    python = runtimes.status("cntk-python").python
    assert python is not None
    subprocess.run([python, "-E", "-s", code], check=True, cwd="/", capture_output=True)
    hub.save(model, tmp_path / "ours.dnn")
    feeds = {model.inputs[0].name: np.random.default_rng(0).random((2, 9, 8, 3), np.float32)}
    ours, theirs = (values(tmp_path / name, feeds) for name in ("ours.dnn", "net.dnn"))
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], key)


def test_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 2 GB on the numbers lie behind the message; here from 0 on. The real CNTK reads it, and so do we."""
    from hub.dnn import LARGE

    model = hub.load(_small(tmp_path))
    hub.save(model, tmp_path / "small.dnn")
    monkeypatch.setattr("exporters.cntk.native.LIMIT", 0)
    (large,) = hub.save(model, tmp_path / "large.dnn")
    assert int.from_bytes(large.read_bytes()[:4], "little") == LARGE
    feeds = {model.inputs[0].name: np.random.default_rng(0).random((2, 9, 8, 3), np.float32)}
    ours, theirs = (values(tmp_path / name, feeds) for name in ("small.dnn", "large.dnn"))
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], key)
    assert hub.check(model, hub.load(large)).ok


def _small(folder: Path) -> Path:
    import keras

    x = keras.Input((9, 8, 3), name="image")
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    y = keras.layers.Dense(5, name="scores")(keras.layers.Flatten(name="flat")(y))
    network = keras.Model(x, y, name="small")
    randomise(network)
    network.save(folder / "small.keras")
    return folder / "small.keras"
