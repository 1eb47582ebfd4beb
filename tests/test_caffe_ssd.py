"""SSD's layers read from Caffe, held as ONNX, and written as the layers that they were: `dialect="ssd"`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from caffe_in_nets import feeds_of, net_text, parsed, seeded_blobs, write
from conftest import need, need_runtime

import hub
from hub.canonical import LAYER, ORIGIN
from hub.origin import origins
from hub.schemas import messages
from hub.schemas.caffe import dialect_of

HEADS = ["loc", "flat", "prior"]
"""What goes into the detections."""


def head(number: int, source: str, boxes: int, sizes: str) -> str:
    """Locations, confidences of five classes and prior boxes of one feature map."""
    lines = []
    for kind, width in (("loc", 4), ("conf", 5)):
        conv = f"convolution_param {{ num_output: {boxes * width} kernel_size: 3 pad: 1 }}"
        lines.append(f"{kind}{number} Convolution {source}; {conv}")
        lines.append(f"{kind}{number}p Permute {kind}{number}; permute_param {{ order: [0, 2, 3, 1] }}")
        lines.append(f"{kind}{number}f Flatten {kind}{number}p")
    boxes_of = f"prior_box_param {{ {sizes} variance: [0.1, 0.1, 0.2, 0.2] }}"
    return "\n".join([*lines, f"prior{number} PriorBox {source} data; {boxes_of}"])


SSD = "\n".join(
    [
        "c1 Convolution data; convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 }",
        "r1 ReLU c1 -> c1",
        "n1 Normalize c1; norm_param { across_spatial: false scale_filler { value: 20 } channel_shared: false }",
        "c2 Convolution c1; convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 }",
        "r2 ReLU c2 -> c2",
        head(1, "n1", 4, "min_size: 8 max_size: 16 aspect_ratio: 2 clip: false"),
        head(2, "c2", 6, "min_size: 16 max_size: 30 aspect_ratio: 2 aspect_ratio: 3 clip: true step: 8.5"),
        "loc Concat loc1f loc2f",
        "conf Concat conf1f conf2f",
        "prior Concat prior1 prior2; concat_param { axis: 2 }",
        "rows Reshape conf; reshape_param { shape { dim: [0, -1, 5] } }",
        "prob Softmax rows; softmax_param { axis: 2 }",
        "flat Flatten prob",
        "found DetectionOutput loc flat prior; detection_output_param { num_classes: 5 share_location: true "
        "background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.1 "
        "nms_param { nms_threshold: 0.45 top_k: 100 } }",
    ]
)
TEXT = net_text(SSD, data=(2, 3, 33, 40))


def ssd(folder: Path, **options: Any) -> hub.Model:
    """The net, with weights that let boxes be found."""
    blobs = {name: [array * np.float32(0.35) for array in arrays] for name, arrays in seeded_blobs(TEXT).items()}
    return hub.load(write(folder, TEXT, blobs), **options)


def saved(model: hub.Model, folder: Path, **options: Any) -> Any:
    """The written net as a message, and its path."""
    folder.mkdir(exist_ok=True)
    path = hub.save(model, folder / "net.prototxt", **{"dialect": "ssd", **options})[0]
    return parsed(path.read_text()), path


def structure(net: Any) -> list[tuple[Any, ...]]:
    """Every layer: name, type, parameters, and where its bottoms come from, whatever the blobs are called."""
    made: dict[str, tuple[str, int]] = {}
    result = []
    for layer in net.layer:
        bottoms = [made[blob] for blob in layer.bottom]
        made.update({blob: (layer.name, index) for index, blob in enumerate(layer.top)})
        given = [(field.name, str(value)) for field, value in layer.ListFields() if field.name.endswith("_param")]
        parameters = {name: text for name, text in given if text}
        result.append((layer.name, layer.type, parameters, bottoms, len(layer.top)))
    return result


def weights(path: Path) -> dict[str, list[np.ndarray]]:
    net = messages("caffe").NetParameter.FromString(path.with_suffix(".caffemodel").read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float32).reshape(list(blob.shape.dim)) for blob in layer.blobs]
        for layer in net.layer
        if layer.blobs
    }


def types(net: Any) -> Counter[str]:
    return Counter(layer.type for layer in net.layer)


def through(model: hub.Model, folder: Path, way: str) -> hub.Model:
    """The model itself, or as it comes back from an ONNX file."""
    if way == "direct":
        return model
    hub.save(model, folder / "net.onnx", **({"opset": 18} if way == "opset 18" else {}))
    return hub.load(folder / "net.onnx")


@pytest.mark.parametrize("way", ["direct", "onnx", "opset 18"])
def test_an_ssd_comes_back_as_the_same_net(way: str, tmp_path: Path) -> None:
    model = ssd(tmp_path)
    net, path = saved(through(model, tmp_path, way), tmp_path / "out")
    assert dialect_of(net) == "ssd"
    expected = parsed(TEXT)
    rows = next(layer for layer in expected.layer if layer.name == "rows")
    rows.reshape_param.shape.dim[1] = 1900  # Caffe infers it, we say it
    assert structure(net) == structure(expected)
    before, after = weights(tmp_path / "net.prototxt"), weights(path)
    assert before.keys() == after.keys()
    for name, arrays in before.items():
        for a, b in zip(arrays, after[name], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.shape == b.shape
    feeds = feeds_of(model)
    once, again = model.run(feeds), hub.load(path).run(feeds)
    assert once["found"].shape == (1, 1, 40, 7)
    np.testing.assert_array_equal(once["found"], again["found"])


def test_opencv_finds_the_same_in_the_written_net(tmp_path: Path) -> None:
    """Its rows are in another order (see test_detections_against_opencv), and `clip` is true where it is not given."""
    need("cv2")
    import cv2

    model = ssd(tmp_path)
    _, path = saved(model, tmp_path / "out")
    feeds = feeds_of(model)
    net = cv2.dnn.readNetFromCaffe(str(path), str(path.with_suffix(".caffemodel")))
    net.setInput(feeds["data"], "data")
    *got, rows = net.forward([*HEADS, "found"])
    expected = hub.load(path, outputs=[*HEADS, "found"]).run(feeds)
    for name, array in zip(HEADS, got, strict=True):
        np.testing.assert_allclose(array, expected[name], atol=2e-6 * np.abs(expected[name]).max())
    rows = rows[0, 0]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    np.testing.assert_allclose(rows, expected["found"][0, 0], atol=1e-5)


@pytest.mark.parametrize(
    "fields", ["", "across_spatial: false", "channel_shared: false eps: 0.1", "across_spatial: false eps: 1e-5"]
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 7)])
def test_normalize_comes_back(fields: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    text = net_text(f"y Normalize x; norm_param {{ {fields} }}", x=shape)
    model = hub.load(write(tmp_path, text, seeded_blobs(text)))
    net, path = saved(model, tmp_path / "out")
    expected = structure(parsed(text))
    assert structure(net) == expected
    assert weights(path)["y"][0].shape == weights(tmp_path / "net.prototxt")["y"][0].shape
    feeds = feeds_of(model)
    np.testing.assert_array_equal(model.run(feeds)["y"], hub.load(path).run(feeds)["y"])


def test_plain_caffe_refuses_detections_by_name(tmp_path: Path) -> None:
    with pytest.raises(hub.UnsupportedOps, match=r"DetectionOutput x1: .*NonMaxSuppression.*\[found\]") as error:
        saved(ssd(tmp_path), tmp_path, dialect="caffe")
    assert [op.op for op in error.value.ops] == ["DetectionOutput"]
    assert 'dialect="ssd"' in error.value.ops[0].hint


def test_the_rest_of_an_ssd_is_plain_caffe(tmp_path: Path) -> None:
    need_runtime("caffe")
    from parity.runners import caffe

    model = ssd(tmp_path, outputs=HEADS)
    net, path = saved(model, tmp_path / "out", dialect="caffe")
    assert dialect_of(net) == "caffe"
    feeds = feeds_of(model)
    runner = caffe.open(path)
    try:
        got = runner.run(feeds)
    finally:
        runner.close()
    for name, expected in model.run(feeds).items():
        np.testing.assert_allclose(got[name], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("way", ["direct", "onnx"])
@pytest.mark.parametrize("batch", [None, 3])
def test_a_batch_that_is_open(batch: int | None, way: str, tmp_path: Path) -> None:
    model = through(ssd(tmp_path, outputs=HEADS, inputs={"data": ("N", 3, 33, 40)}), tmp_path, way)
    net, path = saved(model, tmp_path / "out", batch=batch)
    assert types(net)["PriorBox"] == 2
    assert types(net)["Normalize"] == 1
    again = hub.load(path, inputs={"data": (3, 3, 33, 40)})
    feeds = feeds_of(again)
    for name, expected in model.run(feeds).items():
        np.testing.assert_array_equal(again.run(feeds)[name], expected)


def test_names_and_order_do_not_count(tmp_path: Path) -> None:
    model = ssd(tmp_path)
    kept = {value.name for value in (*model.ir.graph.inputs, *model.ir.graph.outputs)}
    for number, node in enumerate(model.ir.graph):
        node.name = f"node{number}"
        for value in node.outputs:
            if value.name not in kept:
                value.name = f"value{number}_{value.index()}"
    for number, value in enumerate(list(model.ir.graph.initializers.values())):
        value.name = f"weight{number}"
    model.ir.graph.sort()
    assert [origin.stale for origin in origins(model.ir.graph, "caffe")] == [""] * 4
    assert structure(saved(model, tmp_path / "out")[0])[-1][1] == "DetectionOutput"


@pytest.mark.parametrize("threshold", [0.1, 1.0])
def test_a_conversion_is_proved_by_opencv(threshold: float, tmp_path: Path) -> None:
    """The real Caffe knows no such layers. With a threshold of 1 nothing is found."""
    need_runtime("caffe")
    need("cv2")
    ssd(tmp_path)
    text = TEXT.replace("confidence_threshold: 0.1", f"confidence_threshold: {threshold}")
    source = write(tmp_path, text)
    (tmp_path / "out").mkdir()
    report = hub.convert(source, tmp_path / "out" / "net.prototxt", dialect="ssd").report
    assert report is not None
    assert report.ok
    assert not report.not_compared
    assert [row.name for row in report.rows] == ["found", "found"]
    assert [row.shape for row in report.rows] == [(1, 1, 40 if threshold < 1 else 2, 7)] * 2


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("y Normalize x", "all places"),
        ("y Normalize x; norm_param { across_spatial: false }", "one scale"),
        ("y PriorBox x; prior_box_param { min_size: 8 variance: 1 }", "clip is not given"),
        ("y PriorBox x; prior_box_param { min_size: 8 clip: true }", "variance"),
        ("y PriorBox x; prior_box_param { min_size: 8.5 clip: true variance: 1 }", "cut off"),
        ("y PriorBox x; prior_box_param { min_size: 8 clip: true variance: 1 img_size: 7 }", "size of the image"),
        ("y DetectionOutput x x x; detection_output_param { num_classes: 2 }", "a setting is not given"),
    ],
)
def test_opencv_is_not_asked_where_it_departs_from_ssd(layer: str, says: str, tmp_path: Path) -> None:
    need("cv2")
    from parity.runners import LoadFailed, opencv

    with pytest.raises(LoadFailed, match=f"known to be wrong or unable here: .*'y': .*{says}"):
        opencv.open(write(tmp_path, net_text(layer, x=(2, 3, 4, 5))))


def test_plain_caffe_is_no_judge_of_an_ssd(tmp_path: Path) -> None:
    """What the packaged Caffe does not know OpenCV is asked, and where that does not know it either, nobody."""
    need_runtime("caffe")
    need("cv2")
    (tmp_path / "out").mkdir()
    nets = {
        "y Permute x; permute_param { order: [0, 2, 3, 1] }": "caffe",
        "y Normalize x; norm_param { across_spatial: false channel_shared: false }": "opencv",
        "y Normalize x": None,
    }
    for layers, judge in nets.items():
        text = net_text(layers, x=(2, 3, 4, 5))
        path = write(tmp_path, text, seeded_blobs(text))
        report = hub.convert(path, tmp_path / "out" / "net.prototxt", dialect="ssd").report
        assert report is not None
        assert {"caffe", "opencv"} & report.versions.keys() == ({judge} if judge else set())
        assert [item.why for item in report.not_compared] == ([] if judge else ["no runtime"] * 2)


@pytest.mark.parametrize(
    ("layers", "variant"),
    [
        ("y ReLU x", "plain Caffe 1.0"),
        ("y Clip x; clip_param { min: 0 max: 1 }", "needs Clip: BVLC's Caffe after 1.0"),
        ("y Pooling x; pooling_param { kernel_size: 2 round_mode: FLOOR }",
         "needs pooling_param.round_mode: BVLC's Caffe after 1.0"),
        ("a Permute x; permute_param { order: [0, 2, 3, 1] }\nb Permute a; permute_param { order: [0, 3, 1, 2] }\n"
         "y PriorBox b x; prior_box_param { min_size: 2 }", "needs Permute, PriorBox: the SSD family of Caffe forks"),
        ("y ReLU6 x", "needs ReLU6: another fork of Caffe"),
        ("a Clip x; clip_param { min: 0 max: 1 }\ny Permute a", "needs Clip, Permute: another fork of Caffe"),
        ('layers { name: "y" type: RELU bottom: "x" top: "y" }', "plain Caffe 1.0"),
    ],
)  # fmt: skip
def test_which_caffe_a_file_needs(layers: str, variant: str, tmp_path: Path) -> None:
    text = net_text(layers, x=(2, 3, 4, 5))
    if layers.startswith("layers"):
        text = 'input: "x" input_dim: [2, 3, 4, 5]\n' + layers
    found = hub.inspect(write(tmp_path, text))
    assert found.model is not None
    assert found.model.variant == variant
    assert f"(from caffe, {variant}, ONNX opset" in str(found).splitlines()[0]
    assert found.to_dict()["model"]["variant"] == variant


# -- words that no longer hold -------------------------------------------------------------------------------------


def nodes_of(model: hub.Model, layer: str, op_type: str) -> list[ir.Node]:
    return [n for n in model.ir.graph if n.metadata_props[LAYER] == layer and n.op_type == op_type]


def another_constant(model: hub.Model, layer: str) -> None:
    """A number: the overlap of boxes, the eps, a prior box."""
    op_type, index = {"found": ("NonMaxSuppression", 3), "n1": ("Add", 1), "prior1": ("Identity", 0)}[layer]
    value = nodes_of(model, layer, op_type)[0].inputs[index]
    assert value is not None
    assert value.const_value is not None
    value.const_value = ir.tensor((value.const_value.numpy() * np.float32(1.0001)).astype(np.float32), name=value.name)


def another_attribute(model: hub.Model, layer: str) -> None:
    node = nodes_of(model, layer, {"found": "TopK", "n1": "ReduceSumSquare"}[layer])[-1]
    key, value = ("largest", 1) if layer == "found" else ("noop_with_empty_axes", 1)
    node.attributes[key] = ir.AttrInt64(key, value)


def another_edge(model: hub.Model, layer: str) -> None:
    node = nodes_of(model, layer, {"found": "Sub", "n1": "Div"}[layer])[-1]
    first, second = node.inputs[:2]
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)


def another_operator(model: hub.Model, layer: str) -> None:
    node = nodes_of(model, layer, {"found": "Exp", "n1": "Sqrt"}[layer])[0]
    node.op_type = "Abs"


def an_end_inside(model: hub.Model, layer: str) -> None:
    """Something that is computed on the way is given out as well."""
    model.ir.graph.outputs.append(nodes_of(model, layer, {"found": "Exp", "n1": "Sqrt"}[layer])[0].outputs[0])


def another_text(model: hub.Model, layer: str) -> None:
    node = next(n for n in model.ir.graph if n.metadata_props[LAYER] == layer and ORIGIN in n.metadata_props)
    words = json.loads(node.metadata_props[ORIGIN])
    words["text"] = words["text"].replace("8", "9").replace("0.45", "0.5").replace("false", "true")
    node.metadata_props[ORIGIN] = json.dumps(words)


def another_input(model: hub.Model, layer: str) -> None:
    """Of the same type and other sizes."""
    if layer == "n1":
        value = nodes_of(model, "n1", "Div")[0].inputs[0]
    else:
        value = (
            nodes_of(model, "n1", "Mul")[0].outputs[0]
            if layer == "prior1"
            else nodes_of(model, "loc", "Concat")[0].outputs[0]
        )
    assert value is not None
    assert value.shape is not None
    value.shape = ir.Shape([*value.shape[:-1], int(value.shape[-1]) + 4])


CHANGES: list[tuple[str, Callable[[hub.Model, str], None]]] = [
    (layer, change)
    for change in (
        another_constant, another_attribute, another_edge, another_operator, an_end_inside, another_text, another_input,
    )
    for layer in ("found", "n1", "prior1")
    if layer != "prior1" or change in (another_constant, another_text, another_input)
]  # fmt: skip


@pytest.mark.parametrize(("layer", "change"), CHANGES)
def test_a_changed_layer_is_not_said_by_its_old_words(
    layer: str, change: Callable[[hub.Model, str], None], tmp_path: Path
) -> None:
    model = ssd(tmp_path)
    change(model, layer)
    judged = {o.node.metadata_props[LAYER]: o.stale for o in origins(model.ir.graph, "caffe")}
    assert judged.pop(layer)
    assert change is another_input or not any(judged.values())
    if layer == "found":
        with pytest.raises(hub.UnsupportedOps, match=r"DetectionOutput x1: .*no longer be called.*\[found\]"):
            saved(model, tmp_path / "out")
    elif change is not another_input:
        net, path = saved(model, tmp_path / "out")
        kind = {"n1": "Normalize", "prior1": "PriorBox"}[layer]
        assert types(net)[kind] == types(parsed(TEXT))[kind] - 1
        feeds = feeds_of(model)
        got = hub.load(path).run(feeds)
        for name, expected in model.run(feeds).items():
            np.testing.assert_allclose(got[name], expected, atol=1e-5 * np.abs(expected).max())


def test_other_weights_are_other_weights_of_the_same_layer(tmp_path: Path) -> None:
    model = ssd(tmp_path)
    value = nodes_of(model, "n1", "Mul")[0].inputs[1]
    assert value is not None
    scale = np.linspace(1, 2, 8, dtype=np.float32)
    value.const_value = ir.tensor(scale.reshape(8, 1, 1), name=value.name)
    net, path = saved(model, tmp_path / "out")
    assert types(net)["Normalize"] == 1
    np.testing.assert_array_equal(weights(path)["n1"][0], scale)


def test_prior_boxes_of_a_layer_that_is_gone_are_numbers(tmp_path: Path) -> None:
    text = net_text("r ReLU x\nprior PriorBox r x; prior_box_param { min_size: 8 }", x=(1, 3, 4, 5))
    model = hub.load(write(tmp_path, text))
    net, path = saved(model, tmp_path / "out")
    assert types(net)["Parameter"] == 1
    assert types(net)["PriorBox"] == 0
    feeds = feeds_of(model)
    np.testing.assert_array_equal(model.run(feeds)["prior"], hub.load(path).run(feeds)["prior"])


@pytest.mark.parametrize(
    "words",
    [
        "", "{", "[]", "{}", '{"framework": "caffe"}', "[" * 100_000,
        '{"framework":"caffe","kind":"Normalize","text":"","bottoms":[9],"blobs":[[7,[3]]],"fingerprint":""}',
        '{"framework":"caffe","kind":"Normalize","text":"","bottoms":[{}],"blobs":[3],"fingerprint":"x"}',
        '{"framework":"caffe","kind":"Convolution","text":"x","bottoms":[],"blobs":[[[],[]]],"fingerprint":"x"}',
    ],
)  # fmt: skip
def test_words_that_are_none(words: str, tmp_path: Path) -> None:
    model = ssd(tmp_path)
    node = next(n for n in model.ir.graph if n.metadata_props[LAYER] == "n1" and ORIGIN in n.metadata_props)
    node.metadata_props[ORIGIN] = words
    assert types(saved(model, tmp_path / "out")[0])["Normalize"] == 0


@pytest.mark.parametrize("text", ["norm_param { nonsense: 1 }", "relu_param { }", "}" * 1000])
def test_words_that_say_something_else(text: str, tmp_path: Path) -> None:
    """With a fingerprint that fits them, as a hostile file may have it."""
    from hub.origin import record

    model = ssd(tmp_path)
    node = next(n for n in model.ir.graph if n.metadata_props[LAYER] == "n1" and ORIGIN in n.metadata_props)
    x, scale = nodes_of(model, "n1", "Div")[0].inputs[0], node.inputs[1]
    assert x is not None
    assert scale is not None
    assert record(node, "caffe", "Normalize", text, [x], [(scale, (8,))])
    assert next(iter(origins(model.ir.graph, "caffe"))).stale == ""
    assert types(saved(model, tmp_path / "out")[0])["Normalize"] == 0
