"""A source and what was written of it, each in its own runtime: the layer is found, and cut out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import need, need_runtime

need("keras", "tensorflow", "coremltools")
for name in ("caffe", "cntk", "cntk-python"):
    need_runtime(name)

from keras_nets import calibrate, randomise  # noqa: E402

import hub  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TARGETS = {
    "Caffe": ("net.prototxt", None),
    "CNTK": ("net.dnn", None),
    "CNTK code": ("cntk_net.py", "cntk"),
    "PyTorch": ("net.py", "torch"),
    "Core ML": ("net.mlpackage", None),
    "Core ML network": ("net.mlmodel", None),
}
WRONG = "deep"


def net() -> Any:
    """H, W and channels of what is within are alike: nothing but a record says which axis is which."""
    import keras
    from keras import layers

    keras.utils.clear_session()
    keras.utils.set_random_seed(4)
    x = start = layers.Input((10, 10, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(x)
    x = side = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    x = layers.ReLU(name="depth_relu")(layers.BatchNormalization(name="depth_bn")(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name=WRONG)(x)
    x = layers.Add(name="sum")([x, side])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Conv2D(4, 1, name="last")(x)
    x = layers.Dense(6, activation="relu", name="hidden")(layers.Flatten(name="flat")(x))
    return calibrate(randomise(keras.Model(start, layers.Dense(5, activation="softmax", name="scores")(x), name="net")))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    net().save(folder / "net.keras")
    return folder / "net.keras"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """What a target has of the network, right or wrong."""
    folder = tmp_path_factory.mktemp("written")
    models: dict[bool, hub.Model] = {}
    for wrong in (False, True):
        network = net()
        kernel = network.get_layer(WRONG).kernel
        changed = np.array(kernel)
        changed[..., 3] *= 1.3 if wrong else 1.0
        kernel.assign(changed)
        models[wrong] = hub.load(network)

    def path(target: str, wrong: bool) -> Path:
        file, to = TARGETS[target]
        return hub.save(models[wrong], folder / f"{'wrong' if wrong else 'right'}_{file}", to=to)[0]

    return path


@pytest.mark.parametrize("target", TARGETS)
def test_every_layer_of_a_source_is_compared_with_its_target(
    target: str, source: Path, written: Callable[[str, bool], Path]
) -> None:
    """Keras has the channels last, the target first; that is known of every layer, and none agrees by chance."""
    report = hub.check(source, written(target, False), layers=True)
    assert report.ok, str(report)
    assert not [row for row in report.rows if row.verdict != "ok"]
    assert "flat" not in {row.name for row in report.rows}  # its elements are in another order, which is said
    if target not in ("Caffe", "PyTorch"):  # which have no layer of that name
        assert [item.reason for item in report.skipped] == ["elements in another order than the source's: flat"]
    compared = {row.name for row in report.rows if row.kind == "layer"}
    assert compared >= {"first", "depth", "depth_bn", WRONG, "pool", "last", "hidden"}
    assert "sum" in compared or target == "PyTorch"


@pytest.mark.parametrize("target", TARGETS)
def test_the_wrong_layer_is_located_and_cut_out(
    target: str, source: Path, written: Callable[[str, bool], Path], tmp_path: Path
) -> None:
    path = written(target, True)
    found = hub.locate(source, path)
    assert found.divergence is not None, str(found)
    assert found.divergence.layer == WRONG
    assert found.runs <= 10
    made = hub.reduce(source, path, tmp_path / "repro")
    assert made.nodes <= (4 if target == "CNTK" else 3)  # which has padding and biases apart
    model = onnx.load(made.folder / "model.onnx")
    onnx.checker.check_model(model)
    assert "Conv" in {node.op_type for node in model.graph.node}
    done = subprocess.run([sys.executable, made.folder / "show.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "apart, of a spread of" in done.stdout
    kept = (made.folder / "test_data_set_0" / "second_0.pb").exists()
    assert kept is (path.suffix == ".py")  # code is not read back
    assert ("gives numbers that are" in done.stdout) is kept
