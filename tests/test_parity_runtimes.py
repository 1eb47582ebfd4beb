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
        assert [item.reason for item in report.skipped] == ["not one value in ONNX, or in another order: flat"]
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
    assert (" gives: " in done.stdout) is kept


# -- what is laid out in ways of its own ------------------------------------------------------------------------------


def pointwise(x: Any, L: Any) -> Any:
    """Its layers work on the last axis: what they compute is not laid out as what leaves them in ONNX."""
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="c1")(x)
    x = L.LayerNormalization(name="norm")(L.Dense(8, activation="relu", name="dense")(x))
    return L.Conv2D(8, 1, activation="softmax", name="out")(x)


def in_time(x: Any, L: Any) -> Any:
    x = L.Reshape((8, 64))(x)
    x = L.TimeDistributed(L.Dense(8, activation="relu"), name="each")(x)
    return L.Dense(3, name="out")(L.Flatten()(x))


def recurrent(x: Any, L: Any) -> Any:
    """As many steps as samples: nothing but a record says which of the two is first."""
    x = L.Conv1D(5, 3, padding="same", activation="relu", name="conv")(L.Reshape((2, 256))(x))
    return L.Dense(3, name="out")(L.GRU(4, name="last")(L.LSTM(6, return_sequences=True, name="steps")(x)))


def saved(build: Callable[[Any, Any], Any], folder: Path, change: str = "") -> Path:
    """A network as a file; the last weight that is a kernel of the layer `change` is another."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(6)
    start = keras.Input((8, 8, 8), name="image")
    network = calibrate(randomise(keras.Model(start, build(start, keras.layers))))
    if change:
        kernel = [weight for weight in network.get_layer(change).weights if "kernel" in weight.name][-1]
        changed = np.array(kernel)
        changed[..., 1] *= 1.3
        kernel.assign(changed)
    folder.mkdir(exist_ok=True)
    network.save(folder / "net.keras")
    return folder / "net.keras"


@pytest.mark.parametrize(
    ("build", "targets", "layers"),
    [
        (pointwise, ["PyTorch", "CNTK", "Caffe", "Core ML"], {"norm", "out"}),
        (in_time, ["PyTorch", "CNTK", "Caffe"], {"each", "out"}),
        (recurrent, ["CNTK", "CNTK code", "Core ML"], {"conv", "steps", "last", "out"}),
    ],
)
def test_no_layer_of_a_right_conversion_is_called_wrong(
    build: Callable[[Any, Any], Any], targets: list[str], layers: set[str], tmp_path: Path
) -> None:
    keras_file = saved(build, tmp_path)
    model = hub.load(keras_file)
    for target in targets:
        file, to = TARGETS[target]
        path = hub.save(model, tmp_path / file, to=to)[0]
        report = hub.check(keras_file, path, layers=True)
        assert report.ok, f"{target}: {report}"
        assert layers <= {row.name for row in report.rows if row.verdict == "ok"}, target


def separable(x: Any, L: Any) -> Any:
    x = L.Conv2D(8, 3, activation="sigmoid", name="first")(x)
    x = L.SeparableConv2D(8, 3, activation="tanh", name="deep")(x)
    x = L.Conv2D(6, 1, activation="sigmoid", name="next-to")(x)
    return L.Dense(3, name="out")(L.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize("layer", ["deep", "next-to"])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_cut_out_is_what_differs(layer: str, target: str, tmp_path: Path) -> None:
    """Also of layers of several operators, whose activation other layers are, and whose name is another."""
    right, wrong = saved(separable, tmp_path / "right"), saved(separable, tmp_path / "wrong", layer)
    file, to = TARGETS[target]
    path = hub.save(hub.load(wrong), tmp_path / file, to=to)[0]
    found = hub.locate(right, path).divergence
    assert found is not None
    assert layer in (found.layer, *found.unknown)
    made = hub.reduce(right, path, tmp_path / "repro")
    assert made.nodes <= 5
    weights = onnx.load(made.folder / "model.onnx").graph.initializer
    ours = {array.tobytes() for array in hub_weights(right)} if to is None else {
        array.tobytes() for array in hub_weights(wrong)}  # fmt: skip
    cut_out = [onnx.numpy_helper.to_array(tensor) for tensor in weights if len(tensor.dims) == 4]
    assert cut_out
    assert any(array.tobytes() not in ours for array in cut_out), "the part has the changed weights in it"


def hub_weights(path: Path) -> list[Any]:
    values = hub.load(path).ir.graph.initializers.values()
    return [np.ascontiguousarray(v.const_value.numpy()) for v in values if v.const_value is not None]


def test_a_recording_says_how_its_values_are_laid_out(tmp_path: Path) -> None:
    keras_file = saved(pointwise, tmp_path)
    model = hub.load(keras_file)
    prototxt = hub.save(model, tmp_path / "net.prototxt")[0]
    hub.check(model, keras_file, layers=True, golden=tmp_path / "onnx.npz")
    hub.check(keras_file, model, layers=True, golden=tmp_path / "keras.npz")
    report = hub.check(tmp_path / "onnx.npz", prototxt, layers=True)
    assert report.ok
    assert not [row for row in report.rows if row.verdict != "ok"]
    assert hub.check(tmp_path / "onnx.npz", keras_file, layers=True).ok
    report = hub.check(tmp_path / "keras.npz", prototxt, layers=True)
    assert not report.mismatches
    assert {row.reason for row in report.rows if row.kind == "layer"} == {"its layout is not recorded"}


def nested(x: Any, L: Any) -> Any:
    import keras

    x = L.Conv2D(4, 3, name="before")(x)
    inside = keras.Input(x.shape[1:])
    part = keras.Model(inside, L.Conv2D(4, 3, name="within")(L.ReLU()(inside)), name="inner")
    return L.Dense(3, name="out")(L.Flatten()(L.Conv2D(4, 1, name="behind")(part(x))))


@pytest.mark.parametrize("target", ["PyTorch", "CNTK", "Caffe"])
def test_what_was_not_compared_is_not_said_to_agree(target: str, tmp_path: Path) -> None:
    right, wrong = saved(nested, tmp_path / "right"), saved(nested, tmp_path / "wrong", "inner")
    file, to = TARGETS[target]
    found = hub.locate(right, hub.save(hub.load(wrong), tmp_path / file, to=to)[0]).divergence
    assert found is not None
    assert found.layer == "behind"
    assert "inner/within" in found.unknown


@pytest.mark.parametrize("reading", ["right", "wrong"])
@pytest.mark.parametrize("target", ["right", "wrong"])
def test_a_reading_that_is_wrong_is_no_judge(reading: str, target: str, tmp_path: Path) -> None:
    """What hub reads of a source only says how the axes go together where it is right itself."""
    from parity.pairs import Pair
    from parity.runners import find
    from parity.runners import onnxruntime as reference
    from parity.sides import Side

    files = {"right": saved(pointwise, tmp_path / "right"), "wrong": saved(pointwise, tmp_path / "wrong", "c1")}
    models = {name: hub.load(file) for name, file in files.items()}
    module = hub.convert(files[target], to="torch", check=False).object
    source = Side("net.keras", find("parity.runners.keras").open(files["right"]))
    vars(source)["recorded"] = reference.open(models[reading])
    pair = Pair(source, Side("module", find("torch").open(module)))
    image = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    names = next(names for names in pair.common if names[0] == "c1")
    ours = source.runner.run({"image": image}, pair.taps(source, [names]))
    given = {pair.candidate.runner.inputs[0].name: image}
    theirs = pair.candidate.runner.run(given, pair.taps(pair.candidate, [names]))
    row = pair.row(names, ours, theirs, pair.run_middle(source, {"image": image}, [names]), None, None)
    source.runner.close()
    assert row is not None
    expected = {("right", "right"): "ok", ("right", "wrong"): "mismatch", ("wrong", "wrong"): "mismatch"}
    assert row.verdict == expected.get((reading, target), "not compared"), row
