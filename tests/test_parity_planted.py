"""Errors planted in real networks: the layer is named, and the smallest part that is left has a node or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need

need("keras", "tensorflow")

from keras_nets import application, calibrate, randomise  # noqa: E402

import hub  # noqa: E402
from hub.canonical import LAYER  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Plant = Callable[[ir.Node], None]


def changed(node: ir.Node, index: int, change: Callable[[Any], Any]) -> None:
    """A constant input of a node becomes another one."""
    value = node.inputs[index]
    assert value is not None
    assert value.const_value is not None
    array = change(value.const_value.numpy().copy()).astype(value.const_value.dtype.numpy())
    new = ir.Value(name=f"{value.name}/planted", shape=value.shape, type=value.type, const_value=ir.tensor(array))
    assert node.graph is not None
    node.graph.register_initializer(new)  # type: ignore[union-attr]
    node.replace_input_with(index, new)


def scaled(node: ir.Node) -> None:
    def change(array: Any) -> Any:
        array[0] *= 1.05  # one filter, or row
        return array

    changed(node, 1, change)


def no_bias(node: ir.Node) -> None:
    changed(node, 3 if node.op_type == "LSTM" else 2, np.zeros_like)


def swapped(node: ir.Node) -> None:
    axis = {"LSTM": 1}.get(node.op_type, 0)
    changed(
        node,
        1,
        lambda array: np.concatenate(
            [np.flip(np.take(array, [0, 1], axis), axis), np.delete(array, [0, 1], axis)], axis
        ),
    )


def shifted(node: ir.Node) -> None:
    pads = list(node.attributes.get_ints("pads"))
    half = len(pads) // 2
    node.attributes["pads"] = ir.AttrInt64s("pads", [p - 1 for p in pads[:half]] + [p + 1 for p in pads[half:]])


def epsilon(node: ir.Node) -> None:
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-2)


def ceiling(node: ir.Node) -> None:
    node.attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 1)


RESNET: dict[str, Plant] = {
    "conv1_conv": no_bias,
    "conv1_bn": epsilon,
    "pool1_pool": ceiling,
    "conv2_block1_1_conv": scaled,
    "conv2_block1_0_conv": swapped,
    "conv2_block2_2_conv": shifted,
    "conv3_block1_3_bn": epsilon,
    "conv3_block4_2_conv": no_bias,
    "conv4_block2_1_conv": swapped,
    "conv4_block6_2_conv": shifted,
    "conv5_block1_0_conv": scaled,
    "conv5_block3_3_conv": no_bias,
}
DENSENET: dict[str, Plant] = {
    "conv1_conv": scaled,
    "conv1_bn": epsilon,
    "pool1": ceiling,
    "conv2_block1_1_conv": swapped,
    "conv2_block6_2_conv": shifted,
    "pool2_conv": scaled,
    "pool2_pool": ceiling,
    "conv3_block5_1_bn": epsilon,
    "conv3_block12_2_conv": shifted,
    "conv4_block10_2_conv": swapped,
    "conv4_block24_0_bn": epsilon,
    "conv5_block16_1_conv": scaled,
}
RECURRENT: dict[str, Plant] = {
    "conv": shifted,
    "lstm_1": scaled,
    "lstm_2": no_bias,
    "lstm_3": swapped,
    "side_1": no_bias,
    "side_2": scaled,
    "norm_1": epsilon,
    "norm_2": epsilon,
    "dense_1": swapped,
    "dense_2": no_bias,
    "pool": ceiling,
    "head": scaled,
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], hub.Model]:
    """Networks by name, made once."""
    made: dict[str, hub.Model] = {}

    def model(name: str) -> hub.Model:
        if name not in made:
            import keras

            if name == "recurrent":
                keras.utils.set_random_seed(1)
                built = calibrate(randomise(recurrent()))
            else:
                built = application(name, (75, 107), classes=30)
            path = tmp_path_factory.mktemp(name) / "net.keras"
            built.save(path)
            made[name] = hub.load(path)
        return made[name]

    return model


def recurrent() -> Any:
    from keras import Model, layers

    x = start = layers.Input((31, 6), name="sequence")
    x = layers.Conv1D(12, 3, padding="same", name="conv")(x)
    x = layers.MaxPooling1D(2, name="pool")(x)
    x = layers.LSTM(14, return_sequences=True, name="lstm_1")(x)
    x = layers.BatchNormalization(name="norm_1")(x)
    side = layers.LSTM(10, return_sequences=True, name="side_1")(x)
    side = layers.Dense(16, name="side_2")(side)
    x = layers.LSTM(16, return_sequences=True, name="lstm_2")(x)
    x = layers.Add(name="sum")([x, side])
    x = layers.BatchNormalization(name="norm_2")(x)
    x = layers.LSTM(12, name="lstm_3")(x)
    x = layers.Dense(20, activation="relu", name="dense_1")(x)
    x = layers.Dense(15, activation="tanh", name="dense_2")(x)
    return Model(start, layers.Dense(7, activation="softmax", name="head")(x))


CASES = [("ResNet50", *item) for item in RESNET.items()]
CASES += [("DenseNet121", *item) for item in DENSENET.items()]
CASES += [("recurrent", *item) for item in RECURRENT.items()]


@pytest.mark.parametrize(("name", "layer", "plant"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_the_layer_is_named_and_little_is_left(
    name: str, layer: str, plant: Plant, network: Callable[[str], hub.Model], tmp_path: Path
) -> None:
    model = network(name)
    other = hub.Model(model.ir.clone())
    computing = "Conv ConvTranspose BatchNormalization MaxPool AveragePool LSTM MatMul Gemm".split()
    nodes = [node for node in other.ir.graph if node.metadata_props.get(LAYER) == layer and node.op_type in computing]
    plant(nodes[0])
    report = hub.check(model, other, layers=True)
    assert report.mismatches, "the error changes nothing"
    assert [found.layer for found in report.divergences] == [layer]
    made = hub.reduce(model, other, tmp_path / "repro")
    assert made.nodes <= 3
    assert made.location is not None
    assert made.location.divergence is not None
    assert made.location.divergence.layer == layer
