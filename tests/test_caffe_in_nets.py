"""Whole Caffe nets: formats of files, rules and states, training nets, sharing, names, batches, missing weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from caffe_in_nets import (
    distance,
    feeds_of,
    fill,
    layer_values,
    net_text,
    numbers,
    seeded_blobs,
    weights_message,
    write,
)
from conftest import need_runtime

import hub
from hub.schemas import messages

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parent.parent


def agrees(source: Path | tuple[Path, Path], feeds: Mapping[str, Array] | None = None, **options: Any) -> hub.Model:
    """The model read from `source`, which gives what the real Caffe gives, layer by layer."""
    need_runtime("caffe")
    from parity.runners.caffe import open as open_caffe

    model = hub.load(source, **options)
    feeds = feeds or feeds_of(model)
    runner = open_caffe(source)
    try:
        expected = runner.run(feeds, [f"layer:{layer}" for layer in runner.layers])
    finally:
        runner.close()
    for name, array in model.run(feeds).items():
        assert distance(expected[name], array) < 1e-5, name
    values = layer_values(model, feeds)
    for name in runner.layers:
        if f"layer:{name}" in expected:
            assert distance(expected[f"layer:{name}"], values[name]) < 1e-5, name
    return model


# -- formats of files ---------------------------------------------------------------------------------------------

V1 = """
name: "old"
input: "data" input_dim: 2 input_dim: 3 input_dim: 9 input_dim: 8
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "norm1" type: LRN bottom: "conv1" top: "norm1" lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 } }
layers { name: "pool1" type: POOLING bottom: "norm1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "pool1" top: "fc" inner_product_param { num_output: 6 } }
layers { name: "drop" type: DROPOUT bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.5 } }
layers { name: "exp" type: EXP bottom: "fc" top: "exp" exp_param { scale: 0.1 } }
layers { name: "abs" type: ABSVAL bottom: "exp" top: "abs" }
layers { name: "prob" type: SOFTMAX bottom: "abs" top: "prob" }
"""
IMAGE = (2, 3, 4, 5)
V1_BLOBS = {
    "conv1": [numbers((4, 3, 3, 3), 1), numbers((4,), 2)],
    "fc": [numbers((6, 48), 3), numbers((6,), 4)],
}


def v1_message(blobs: Mapping[str, Sequence[Array]], form: str = "legacy") -> Any:
    net = messages("caffe").NetParameter(name="old")
    for name, arrays in blobs.items():
        layer = net.layers.add(name=name)
        for array in arrays:
            fill(layer.blobs.add(), array, form)
    return net


@pytest.mark.parametrize("weights", ["v1", "v2"])
def test_v1_layers_are_upgraded_as_caffe_does(weights: str, tmp_path: Path) -> None:
    path = write(tmp_path, V1)
    message = v1_message(V1_BLOBS) if weights == "v1" else weights_message(V1_BLOBS)
    path.with_suffix(".caffemodel").write_bytes(message.SerializeToString())
    model = agrees(path)
    assert model.layers == ["conv1", "relu1", "norm1", "pool1", "fc", "drop", "exp", "abs", "prob"]


def test_every_v1_type_has_the_name_that_caffe_gives_it() -> None:
    from hub.schemas.caffe import LAYER_TYPES
    from importers.caffe.net import upgraded

    old = messages("caffe").V1LayerParameter
    for value in old.DESCRIPTOR.enum_types_by_name["LayerType"].values:
        if value.name != "NONE":
            assert upgraded(old(type=value.number)).type in LAYER_TYPES, value.name


@pytest.mark.parametrize("suffix", ["v1", "v2"])
def test_a_caffemodel_alone_has_its_own_layers(suffix: str, tmp_path: Path) -> None:
    from caffe_in_nets import parsed

    new = net_text(
        "c Convolution x; convolution_param { num_output: 2 kernel_size: 2 }\nr ReLU c -> c\ny TanH c", x=IMAGE
    )
    net = parsed(V1 if suffix == "v1" else new)
    blobs = V1_BLOBS if suffix == "v1" else {"c": [numbers((2, 3, 2, 2), 0), numbers((2,), 1)]}
    for layer in (*net.layers, *net.layer):
        for array in blobs.get(layer.name, []):
            fill(layer.blobs.add(), array, "legacy" if suffix == "v1" else "")
    alone = tmp_path / "alone.caffemodel"
    alone.write_bytes(net.SerializeToString())
    for layer in (*net.layers, *net.layer):
        del layer.blobs[:]
    from google.protobuf import text_format

    pair = write(tmp_path, text_format.MessageToString(net)), alone
    feeds = feeds_of(hub.load(alone))
    one, other = hub.load(alone).run(feeds), hub.load(pair).run(feeds)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_the_file_of_the_same_stem_is_the_other_half(tmp_path: Path) -> None:
    text = net_text("c InnerProduct x; inner_product_param { num_output: 3 }", x=(2, 4))
    path = write(tmp_path, text, {"c": [numbers((3, 4), 0), numbers((3,), 1)]})
    feeds = {"x": numbers((2, 4), 5)}
    results = [hub.load(source).run(feeds)["c"] for source in (path, path.with_suffix(".caffemodel"))]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("form", ["", "legacy", "half", "double"])
def test_blobs_in_every_encoding(form: str, tmp_path: Path) -> None:
    text = net_text("c InnerProduct x; inner_product_param { num_output: 3 }\ns Scale c\np PReLU s", x=(2, 4))
    blobs = {"c": [numbers((3, 4), 0), numbers((3,), 1)], "s": [numbers((3,), 2)], "p": [numbers((3,), 3)]}
    if form == "half":
        blobs = {name: [a.astype(np.float16).astype(np.float32) for a in arrays] for name, arrays in blobs.items()}
    x = numbers((2, 4), 5)
    got = hub.load(write(tmp_path, text, blobs, form)).run({"x": x})["p"]
    y = (x @ blobs["c"][0].T + blobs["c"][1]) * blobs["s"][0]
    np.testing.assert_allclose(got, np.where(y > 0, y, y * blobs["p"][0]), rtol=1e-5, atol=1e-6)
    if form in ("", "legacy", "double"):
        agrees(tmp_path / "net.prototxt", {"x": x})


def test_numbers_with_a_tag_each_and_in_several_pieces(tmp_path: Path) -> None:
    """Protobuf allows a packed field unpacked, and in pieces; both are joined."""
    text = net_text("c InnerProduct x; inner_product_param { num_output: 3 bias_term: false }", x=(2, 4))
    path = write(tmp_path, text)
    weight = numbers((3, 4), 0)
    data = weight.astype("<f4").tobytes()
    singles = b"".join(b"\x2d" + data[i : i + 4] for i in range(0, 28, 4))
    blob = b"\x3a\x04\x0a\x02\x03\x04" + singles + b"\x2a\x14" + data[28:]
    layer = b"\x0a\x01c" + b"\x3a" + bytes([len(blob)]) + blob
    path.with_suffix(".caffemodel").write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    x = numbers((2, 4), 5)
    np.testing.assert_allclose(hub.load(path).run({"x": x})["c"], x @ weight.T, rtol=1e-5)


def test_blobs_inside_a_prototxt(tmp_path: Path) -> None:
    layer = 'layer { name: "s" type: "Scale" bottom: "x" top: "s" blobs { shape { dim: 2 } data: 2 data: -3 } }'
    x = numbers((2, 2), 0)
    path = write(tmp_path, net_text(layer, x=(2, 2)))
    np.testing.assert_allclose(hub.load(path).run({"x": x})["s"], x * [2, -3])


@pytest.mark.parametrize(
    "head",
    [
        'input: "x" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5',
        'input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }',
        'input: "x" input: "w" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 } input_shape { dim: 1 }',
        'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }',
    ],
)
def test_inputs_of_every_time(head: str, tmp_path: Path) -> None:
    model = agrees(write(tmp_path, head + '\nlayer { name: "y" type: "TanH" bottom: "x" top: "y" }'))
    assert model.inputs[0].name == "x"
    assert model.inputs[0].shape == (2, 3, 4, 5)


# -- states and training ------------------------------------------------------------------------------------------

RULES = """
layer { name: "train" type: "TanH" bottom: "x" top: "t" include { phase: TRAIN } }
layer { name: "test" type: "TanH" bottom: "x" top: "u" include { phase: TEST } }
layer { name: "not_test" type: "TanH" bottom: "x" top: "v" exclude { phase: TEST } }
layer { name: "low" type: "TanH" bottom: "x" top: "low" include { max_level: 1 } }
layer { name: "high" type: "TanH" bottom: "x" top: "high" include { min_level: 2 } }
layer { name: "stage" type: "TanH" bottom: "x" top: "stage" include { stage: "deploy" } }
layer { name: "both" type: "TanH" bottom: "x" top: "both" include { stage: "deploy" stage: "big" } }
layer { name: "nostage" type: "TanH" bottom: "x" top: "nostage" include { not_stage: "deploy" } }
layer { name: "either" type: "TanH" bottom: "x" top: "either" include { stage: "a" } include { level_: 0 } }
""".replace("include { level_: 0 }", "include { max_level: 0 }")


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, ["test", "low", "nostage", "either"]),
        ({"level": 2}, ["test", "high", "nostage"]),
        ({"stages": ["deploy"]}, ["test", "low", "stage", "either"]),
        ({"stages": ["deploy", "big", "a"], "level": 1}, ["test", "low", "stage", "both", "either"]),
    ],
)
def test_layers_include_themselves_by_phase_level_and_stage(
    options: dict[str, Any], layers: list[str], tmp_path: Path
) -> None:
    model = hub.load(write(tmp_path, net_text(RULES, x=(2, 3))), **options)
    assert model.layers == layers


TRAIN_VAL = """
name: "trains"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }
  data_param { source: "a" batch_size: 64 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }
  data_param { source: "b" batch_size: 5 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "flat" type: "Flatten" bottom: "label" top: "flat" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "flat" top: "loss" }
"""


def test_a_net_that_trains_becomes_one_that_infers(tmp_path: Path) -> None:
    blobs = {"fc": [numbers((4, 192), 0), numbers((4,), 1)]}
    model = hub.load(write(tmp_path, TRAIN_VAL, blobs))
    assert [(i.name, i.shape) for i in model.inputs] == [("data", (5, 3, 8, 8))]
    assert model.layers == ["fc", "loss"]
    warnings = " ".join(model.warnings)
    assert "'loss' (SoftmaxWithLoss) is the loss of training; it became Softmax" in warnings
    assert "accuracy (Accuracy)" in warnings
    assert "changes its data by mean_value; the input 'data' takes data so changed" in warnings
    x = numbers((5, 3, 8, 8), 3)
    logits = x.reshape(5, -1) @ blobs["fc"][0].T + blobs["fc"][1]
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(model.run({"data": x})["loss"], expected / expected.sum(1, keepdims=True), rtol=1e-4)
    other = hub.load(tmp_path / "net.prototxt", inputs={"data": (None, 3, 8, 8)})
    assert other.inputs[0].shape == ("N", 3, 8, 8)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ('type: "MemoryData" memory_data_param { batch_size: 3 channels: 2 height: 5 width: 6 }', (3, 2, 5, 6)),
        ('type: "ImageData" image_data_param { source: "l" batch_size: 2 new_height: 5 new_width: 6 }', (2, 3, 5, 6)),
        ('type: "ImageData" image_data_param { is_color: false } transform_param { crop_size: 7 }', (1, 1, 7, 7)),
        ('type: "Data" data_param { batch_size: 2 } transform_param { crop_size: 7 force_gray: true }', (2, 1, 7, 7)),
        ('type: "WindowData" window_data_param { batch_size: 4 } transform_param { crop_size: 6 }', (4, 3, 6, 6)),
    ],
)  # fmt: skip
def test_what_a_data_layer_says_of_its_shape(data: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    text = f'layer {{ name: "d" top: "data" top: "label" {data} }}\n' + net_text("y TanH data")
    assert hub.load(write(tmp_path, text)).inputs[0].shape == shape


def test_channels_of_a_database_are_those_of_the_first_convolution(tmp_path: Path) -> None:
    text = (
        'layer { name: "d" type: "Data" top: "data" data_param { batch_size: 2 } transform_param { crop_size: 7 } }\n'
    )
    text += net_text("y Convolution data; convolution_param { num_output: 4 kernel_size: 2 group: 2 }")
    blobs = {"y": [numbers((4, 3, 2, 2), 0), numbers((4,), 1)]}
    assert hub.load(write(tmp_path, text, blobs)).inputs[0].shape == (2, 6, 7, 7)


def test_a_data_layer_that_does_not_say_its_shape(tmp_path: Path) -> None:
    text = (
        'layer { name: "d" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "x" batch_size: 2 } }\n'
    )
    path = write(tmp_path, text + net_text("y TanH data"))
    with pytest.raises(hub.InvalidModel, match=r"d.*HDF5Data, line 1.*inputs=\{'data': \(N, C, H, W\)\}"):
        hub.load(path)
    assert hub.load(path, inputs={"data": (2, 7)}).inputs[0].shape == (2, 7)


def test_the_second_top_of_a_loss_is_its_activation(tmp_path: Path) -> None:
    text = net_text("f TanH x\nloss SoftmaxWithLoss f label -> loss prob\nout SigmoidCrossEntropyLoss f label",
                    x=(2, 4), label=(2, 1))  # fmt: skip
    model = hub.load(write(tmp_path, text))
    x = numbers((2, 4), 0)
    got = model.run({"x": x, "label": np.zeros((2, 1), np.float32)})
    assert list(got) == ["prob", "out"]
    np.testing.assert_allclose(got["out"], 1 / (1 + np.exp(-np.tanh(x))), rtol=1e-5)
    np.testing.assert_allclose(got["prob"].sum(1), 1, rtol=1e-5)


def test_a_caffemodel_of_a_snapshot_in_training_is_read_at_test(tmp_path: Path) -> None:
    """Its layers have the phase TRAIN, and its data layer included itself by it."""
    from caffe_in_nets import parsed

    net = parsed(TRAIN_VAL.replace('layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }',
                                   'layer { name: "gone" type: "Silence" include { phase: TEST }')
                 + 'layer { name: "drop" type: "Dropout" bottom: "fc" top: "drop" }')  # fmt: skip
    for layer in net.layer:
        layer.phase = 0
        for array in [numbers((4, 192), 0), numbers((4,), 1)] if layer.name == "fc" else []:
            fill(layer.blobs.add(), array)
    path = tmp_path / "snapshot.caffemodel"
    path.write_bytes(net.SerializeToString())
    model = hub.load(path)
    assert [(value.name, value.shape) for value in model.inputs] == [("data", (64, 3, 8, 8))]
    assert {value.name for value in model.outputs} == {"loss", "drop"}


@pytest.mark.parametrize("kind", ["Dropout", "BatchNorm"])
def test_a_layer_that_trains_for_ever_is_refused(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, net_text(f"y {kind} x; phase: TRAIN", x=(2, 3, 4, 5)))
    with pytest.raises(hub.UnsupportedOps, match="its phase is TRAIN"):
        hub.load(path)


# -- blobs and names -----------------------------------------------------------------------------------------------


def test_nodes_are_called_as_layers_and_outputs_as_blobs(tmp_path: Path) -> None:
    text = net_text(
        "conv Convolution data -> feature; convolution_param { num_output: 2 kernel_size: 2 }\n"
        "relu ReLU feature -> feature\nbranch TanH feature -> second\nlast Sigmoid feature -> first\n"
        "again ReLU second -> second",
        data=(2, 3, 4, 5),
    )
    path = write(tmp_path, text, seeded_blobs(text))
    model = agrees(path)
    assert [value.name for value in model.inputs] == ["data"]
    assert [value.name for value in model.outputs] == ["first", "second"]
    nodes = {node.name: node for node in model.ir.graph}
    assert list(nodes) == ["conv", "relu", "branch", "last", "again"]
    assert nodes["conv"].metadata_props["hub.source_op"] == "Convolution"
    assert sorted(model.ir.graph.initializers) == ["conv/bias", "conv/weight"]
    assert {v.metadata_props["hub.role"] for v in model.ir.graph.initializers.values()} == {"weight"}


def test_an_output_in_the_place_of_an_input_has_a_name_of_its_own(tmp_path: Path) -> None:
    model = hub.load(write(tmp_path, net_text("r ReLU x -> x", x=(2, 3))))
    assert [value.name for value in model.outputs] == ["x_1"]
    assert "'x' is called 'x_1'" in model.warnings[0]


def test_layers_share_weights_by_the_name_of_a_param(tmp_path: Path) -> None:
    share = 'param { name: "w" } param { name: "b" }'
    text = net_text(
        f"one InnerProduct a; inner_product_param {{ num_output: 3 }} {share}\n"
        f"two InnerProduct b; inner_product_param {{ num_output: 3 }} {share}\ny Eltwise one two",
        a=(2, 4), b=(2, 4),
    )  # fmt: skip
    blobs = {"one": [numbers((3, 4), 0), numbers((3,), 1)]}
    path = write(tmp_path, text, blobs)
    model = agrees(path)
    assert len(model.ir.graph.initializers) == 2
    blobs["two"] = [numbers((3, 4), 7), numbers((3,), 8)]  # the last in the file counts, for both
    agrees(write(tmp_path, text, blobs))
    model = agrees(write(tmp_path, text, dict(reversed(list(blobs.items())))))
    assert len(model.ir.graph.initializers) == 2


def test_a_permissive_share_is_of_as_many_numbers(tmp_path: Path) -> None:
    text = net_text(
        'one InnerProduct a; inner_product_param { num_output: 3 bias_term: false } param { name: "w" }\n'
        "two InnerProduct b; inner_product_param { num_output: 6 bias_term: false } "
        'param { name: "w" share_mode: PERMISSIVE }',
        a=(2, 4), b=(2, 2),
    )  # fmt: skip
    agrees(write(tmp_path, text, {"one": [numbers((3, 4), 0)]}))
    strict = write(tmp_path, text.replace("share_mode: PERMISSIVE", ""), {"one": [numbers((3, 4), 0)]})
    with pytest.raises(hub.InvalidModel, match=r"two.*blob 0 \(weight\) has the shape \(3, 4\), not \(6, 2\)"):
        hub.load(strict)


def test_layers_of_the_caffemodel_that_the_net_lacks_are_left_out(tmp_path: Path) -> None:
    text = net_text("s Scale x", x=(2, 3))
    model = hub.load(write(tmp_path, text, {"s": [numbers((3,), 0)], "other": [numbers((3,), 1)]}))
    assert "1 layers of net.caffemodel are not in the net and were left out: other" in model.warnings


DYNAMIC = """
c Convolution data; convolution_param { num_output: 4 kernel_size: 3 }
b BatchNorm c -> c
s Scale c -> c; scale_param { bias_term: true }
p Pooling c; pooling_param { kernel_size: 3 stride: 2 }
l LRN p
r Reshape l; reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 3 } }
i InnerProduct r; inner_product_param { num_output: 5 }
f Reshape i; reshape_param { shape { dim: 5 dim: 1 } axis: 1 }
t Flatten f; flatten_param { axis: 1 }
y Softmax t
"""


def test_the_batch_may_be_any(tmp_path: Path) -> None:
    text = net_text(DYNAMIC, data=(1, 3, 10, 9))
    path = write(tmp_path, text, seeded_blobs(text))
    one = agrees(path)
    several = hub.load(path, inputs={"data": ("N", 3, 10, 9)})
    x = numbers((4, 3, 10, 9), 0)
    rows = [one.run({"data": x[i : i + 1]})["y"] for i in range(4)]
    np.testing.assert_allclose(several.run({"data": x})["y"], np.concatenate(rows), rtol=1e-5, atol=1e-7)
    assert several.inputs[0].shape == ("N", 3, 10, 9)
    assert hub.load(path, inputs={"data": (7, 3, 10, 9)}).outputs[0].shape == (7, 5)


def test_sizes_of_the_image_may_be_open_where_nothing_depends_on_them(tmp_path: Path) -> None:
    layers = "c Convolution data; convolution_param { num_output: 4 kernel_size: 3 }\n"
    layers += "p Pooling c; pooling_param { kernel_size: 3 stride: 2 }\n"
    layers += "q Pooling p; pooling_param { pool: AVE kernel_size: 2 stride: 2 }\n"
    layers += "g Pooling q -> y; pooling_param { pool: AVE global_pooling: true }"
    text = net_text(layers, data=(1, 3, 20, 18))
    path = write(tmp_path, text, seeded_blobs(text))
    fixed = agrees(path)
    free = hub.load(path, inputs={"data": (None, 3, None, None)})
    x = numbers((1, 3, 20, 18), 0)
    np.testing.assert_allclose(free.run({"data": x})["y"], fixed.run({"data": x})["y"], rtol=1e-5)
    for shape in ((17, 21), (19, 14), (20, 20)):
        again = hub.load(path, inputs={"data": (1, 3, *shape)})
        x = numbers((1, 3, *shape), 1)
        np.testing.assert_allclose(free.run({"data": x})["y"], again.run({"data": x})["y"], rtol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (2, 2, 1), (3, 3, 1), (3, 1, 1), (5, 4, 2)]
)
def test_a_pooling_of_open_sizes_has_the_windows_of_caffe(kernel: int, stride: int, pad: int, tmp_path: Path) -> None:
    text = f"y Pooling x; pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    path = write(tmp_path, net_text(text, x=(2, 3, 8, 9)))
    free = hub.load(path, inputs={"x": (None, 3, None, None)})
    for size in range(6, 16):
        x = numbers((2, 3, size, size + 1), size)
        expected = hub.load(path, inputs={"x": x.shape}).run({"x": x})["y"]
        np.testing.assert_array_equal(free.run({"x": x})["y"], expected)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_recurrent_layer_of_any_batch(kind: str, tmp_path: Path) -> None:
    text = net_text(f"y {kind} x cont; recurrent_param {{ num_output: 4 }}", x=(5, 2, 3), cont=(5, 2))
    path = write(tmp_path, text, seeded_blobs(text))
    free = hub.load(path, inputs={"x": (5, "N", 3), "cont": (5, "N")})
    feeds = {"x": numbers((5, 2, 3), 0), "cont": np.array([[0, 0], [1, 1], [1, 0], [0, 1], [1, 1]], np.float32)}
    agrees(path, feeds)
    np.testing.assert_allclose(free.run(feeds)["y"], hub.load(path).run(feeds)["y"], rtol=1e-6)
    assert "keeps its state from one run to the next" in free.warnings[0]


def test_a_conversion_is_proved_against_the_real_caffe(tmp_path: Path) -> None:
    need_runtime("caffe")
    text = net_text(DYNAMIC, data=(2, 3, 10, 9))
    path = write(tmp_path, text, seeded_blobs(text))
    result = hub.convert((path, path.with_suffix(".caffemodel")), tmp_path / "out.onnx")
    assert result.report is not None
    assert result.report.ok
    assert any("Caffe" in row.between for row in result.report.rows)


def test_outputs_cut_what_is_not_needed_before_it_is_read(tmp_path: Path) -> None:
    text = net_text("a TanH x\nb Python a\nc ReLU a -> cut\ny Eltwise b cut", x=(2, 3))
    path = write(tmp_path, text)
    for name in ("c", "cut"):
        model = hub.load(path, outputs=[name])
        assert model.layers == ["a", "c"]
        assert [value.name for value in model.outputs] == [name]
    with pytest.raises(hub.UsageError, match="'cat'"):
        hub.load(path, outputs=["cat"])


# -- weights ---------------------------------------------------------------------------------------------------------


def test_missing_weights_are_said_with_the_two_ways_out(tmp_path: Path) -> None:
    text = net_text("c InnerProduct x; inner_product_param { num_output: 3 }\ns Scale c\nr ReLU s", x=(2, 4))
    path = write(tmp_path, text)
    with pytest.raises(hub.InvalidModel, match=r"2 of the 2 layers.*\(c, s\).*\(prototxt, caffemodel\).*'random'"):
        hub.load(path)
    write(tmp_path, text, {"c": [numbers((3, 4), 0), numbers((3,), 1)]})
    with pytest.raises(hub.InvalidModel, match=r"1 of the 2 layers.*\(s\)"):
        hub.load(path)
    x = numbers((2, 4), 0)
    one, other = (hub.load(path, weights="random").run({"x": x})["r"] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(hub.UsageError, match="'random'"):
        hub.load(path, weights="zero")


def test_a_net_without_weights_needs_none(tmp_path: Path) -> None:
    assert hub.load(write(tmp_path, net_text("y TanH x", x=(2, 3)))).layers == ["y"]


HUGE = """
import sys, hub
def peak():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
hub.save(hub.load(sys.argv[1], weights="random"), sys.argv[3])
base = peak()
model = hub.load(sys.argv[2])
read = peak()
hub.save(model, sys.argv[3])
print(read - base, peak() - base)
"""


def test_weights_of_hundreds_of_megabytes_stay_in_their_file(tmp_path: Path) -> None:
    """As large as VGG16: 550 MB go through in little memory."""
    text = net_text("y InnerProduct x; inner_product_param { num_output: 4096 bias_term: false }", x=(1, 33600))
    path = write(tmp_path, text)
    small = tmp_path / "small.prototxt"
    small.write_text(text.replace("4096", "1"))
    count = 33600 * 4096
    head = weights_message({"y": []})
    del head.layer[:]
    blob = messages("caffe").BlobProto()
    blob.shape.dim.extend([4096, 33600])
    parts = [blob.SerializeToString(), key(5), varint(4 * count)]
    size = sum(map(len, parts)) + 4 * count
    layer = messages("caffe").LayerParameter(name="y").SerializeToString() + key(7) + varint(size)
    with open(path.with_suffix(".caffemodel"), "wb") as file:
        file.write(head.SerializeToString() + key(100) + varint(len(layer) + size) + layer + b"".join(parts))
        file.truncate(file.tell() + 4 * count)
    out = tmp_path / "out.onnx"
    done = subprocess.run(
        [sys.executable, "-c", HUGE, str(small), str(path), str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read, written = map(int, done.stdout.split())
    assert out.stat().st_size > 4 * count
    assert read < 20, f"{read} MB more to read"
    assert written < 100, f"{written} MB more to read and write"


def varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def key(field: int) -> bytes:
    return varint(field << 3 | 2)


def test_reading_needs_no_framework_and_gives_valid_onnx(tmp_path: Path) -> None:
    text = net_text(DYNAMIC, data=(1, 3, 10, 9))
    hub.save(hub.load(write(tmp_path, text, seeded_blobs(text))), tmp_path / "out.onnx")
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    code = f"import sys, hub; hub.load({str(tmp_path / 'net.prototxt')!r}); "
    code += "print('caffe' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False False"


def test_defaults_of_the_functions_are_those_of_caffe() -> None:
    """A field that a function names without a default there is one whose absence it has to see."""
    import inspect

    from importers.caffe.layers import IGNORABLE, LAYERS

    absent = {"axis", "concat_dim", "slice_dim", "group", "scale", "scale_h", "scale_w", "zoom_factor", "shrink_factor",
              "height", "width", "pad_h", "pad_w", "stride"}  # fmt: skip
    for name, entry in LAYERS.items():
        if entry.param is None:
            continue
        fields = messages("caffe").LayerParameter.DESCRIPTOR.fields_by_name[entry.param].message_type.fields_by_name
        named = {p.name: p for p in inspect.signature(entry.function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        assert set(named) <= set(fields), name
        unnamed = set(fields) - set(named) - IGNORABLE
        assert not unnamed or (name == "Im2col" and unnamed == {"num_output", "bias_term", "group"}), (name, unnamed)
        for key, parameter in named.items():
            field = fields[key]
            if parameter.default is parameter.empty or parameter.default == () or field.message_type is not None:
                continue
            if parameter.default is None:
                assert key in absent or not field.has_default_value, (name, key)
                continue
            default = field.default_value
            if field.enum_type is not None:
                default = field.enum_type.values_by_number[default].name
            assert parameter.default == default or not field.has_default_value, (name, key)
