"""Caffe files that lie: text, wire format, layers, sizes, graphs; and damaged copies of good ones."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from caffe_in_nets import fill, net_text, numbers, parsed, weights_message, write
from hostile import refused
from hostile_child import damaged

import hub
from hub.schemas import messages

NET = net_text(
    "conv Convolution data; convolution_param { num_output: 4 kernel_size: 3 }\n"
    "bn BatchNorm conv -> conv\nscale Scale conv -> conv; scale_param { bias_term: true }\n"
    "relu ReLU conv -> conv\npool Pooling conv; pooling_param { kernel_size: 2 stride: 2 }\n"
    "fc InnerProduct pool; inner_product_param { num_output: 3 }\nprob Softmax fc",
    data=(2, 3, 8, 9),
)
BLOBS = {
    "conv": [numbers((4, 3, 3, 3), 0), numbers((4,), 1)],
    "bn": [numbers((4,), 2), numbers((4,), 3, "positive"), numbers((1,), 0, "factor")],
    "scale": [numbers((4,), 4), numbers((4,), 5)],
    "fc": [numbers((3, 48), 6), numbers((3,), 7)],
}
FC = net_text("fc InnerProduct x; inner_product_param { num_output: 3 }", x=(2, 4))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path, NET, BLOBS)


def alone(path: Path) -> Path:
    """A caffemodel with its own layers."""
    net = parsed(NET)
    for layer in net.layer:
        for array in BLOBS.get(layer.name, []):
            fill(layer.blobs.add(), array)
    path.write_bytes(net.SerializeToString())
    return path


def test_the_files_made_here_are_good_ones(good: Path, tmp_path: Path) -> None:
    x = {"data": numbers((2, 3, 8, 9), 9)}
    np.testing.assert_array_equal(
        hub.load(good).run(x)["prob"], hub.load(alone(tmp_path / "own.caffemodel")).run(x)["prob"]
    )


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".prototxt", ".caffemodel"])
@pytest.mark.parametrize(
    "content", [b"", b"\n  \n", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04" + b"x" * 50, b"<html><body>404</body></html>"]
)
def test_files_that_are_something_else(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    refused(path, tmp_path)


def test_weights_as_hdf5(good: Path, tmp_path: Path) -> None:
    weights = good.with_suffix(".caffemodel")
    weights.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(hub.InvalidModel, match=r"net\.caffemodel holds weights as HDF5; save them as a binary"):
        hub.load((good, weights))


def test_a_directory_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").mkdir()
    with pytest.raises(hub.InvalidModel, match="is a directory"):
        hub.load((tmp_path / "net.prototxt", tmp_path / "net.prototxt"))
    with pytest.raises(hub.UsageError, match="does not exist"):
        hub.load(tmp_path / "nothing.caffemodel")


def test_pairs_that_are_none(good: Path, tmp_path: Path) -> None:
    refused((good, good), tmp_path, "both prototxts", kind=hub.UsageError)
    with pytest.raises(hub.UsageError, match="pair"):
        hub.load((good, good, good))


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name: "x"\nlayer {\n  nmae: "y"\n}', "line 3, column 3: LayerParameter has no field 'nmae'"),
        ('layer {\n name: "y"', "line 2"),
        ('layer { name: "y }', "line 1"),
        ("layer { type: 5 }", "line 1, column 15"),
        ('layer { convolution_param { num_output: "many" } }', "line 1"),
        ("layer { convolution_param { num_output: -1 } }", "line 1"),
        ("layer { convolution_param { num_output: 99999999999999999999 } }", "line 1"),
        ("layer { pooling_param { pool: MEDIAN } }", "MEDIAN"),
        ('net: "train.prototxt"\nbase_lr: 0.01', "this is a solver"),
        ('layers { layer { name: "conv" type: "conv" } }', "upgrade_net_proto_text"),
        ("layers { type: CONV }", "CONV"),
        ("[ext.x]: 5", "line 1"),
        ("hello world", "line 1"),
    ],
)
def test_text_that_is_no_net(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    refused(path, tmp_path, says)


@pytest.mark.parametrize("opening", ["layer { ", "layer < ", "a { b { ", "include {"])
def test_text_nested_deep(opening: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(opening * 100_000)
    refused(path, tmp_path, "line 1")


def test_text_of_too_many_bytes_and_of_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b" " * (17 << 20))
    refused(path, tmp_path, "more than a prototxt has")
    path.write_bytes('name: "caf\xe9"'.encode("latin-1"))
    refused(path, tmp_path, "is not text (byte 10)")
    path.write_bytes(b"\xef\xbb\xbf" + FC.encode())
    assert hub.load(path, weights="random").layers == ["fc"]


def test_a_long_string_and_many_layers_are_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('name: "' + "x" * (4 << 20) + '"\n' + "{" * 20)
    start = time.monotonic()
    refused(path, tmp_path)
    path.write_text(net_text("\n".join(f"l{i} ReLU x -> t{i}" for i in range(2000)), x=(2, 3)))
    hub.load(path)
    assert time.monotonic() - start < 30


# -- the wire format ---------------------------------------------------------------------------------------------------


def test_every_truncation_is_an_error_that_says_where(good: Path, tmp_path: Path) -> None:
    weights = good.with_suffix(".caffemodel")
    data = weights.read_bytes()
    whole = {size for size in range(len(data) + 1) if _whole(data[:size])}
    for size in range(0, len(data), 7):
        weights.write_bytes(data[:size])
        with pytest.raises(hub.InvalidModel) as caught:
            hub.load(good)
        message = str(caught.value)
        assert "net.caffemodel" in message or "net.prototxt" in message
        assert size in whole or "byte" in message or size == 0, message


def _whole(data: bytes) -> bool:
    try:
        messages("caffe").NetParameter.FromString(data)
    except Exception:  # noqa: BLE001  (protobuf's own)
        return False
    return True


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xa2\x06\xff\xff\xff\xff\x07" + b"x" * 100, "at byte 0: field 100 needs 2147483647 bytes"),
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"x" * 100, "at byte 0"),
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than 10 bytes"),
        (b"\xa3\x06", "wire type 3"),
        (b"\x02\x00", "field 0"),
        (b"\xa2\x06\x02\x0a\x05", "layer 0"),
        (b"\x0a\x03abc", "it has no layers"),
        (b"\x12\x04\x0a\x02\x0a\x00", "upgrade_net_proto_binary"),
        (b"\xa2\x06\x04\x0a\x02\xff\xfe", "byte 3: layer 0: its name is not text"),
    ],
)
def test_wire_formats_that_lie(data: bytes, says: str, good: Path, tmp_path: Path) -> None:
    good.with_suffix(".caffemodel").write_bytes(data)
    with pytest.raises(hub.InvalidModel) as caught:
        hub.load(good)
    assert says in str(caught.value)
    assert "net.caffemodel" in str(caught.value)


def test_more_layers_than_a_net_has(good: Path) -> None:
    good.with_suffix(".caffemodel").write_bytes(b"\xa2\x06\x00" * 3_000_000)
    start = time.monotonic()
    with pytest.raises(hub.InvalidModel, match="more than 20000 layers"):
        hub.load(good)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"\x3a\x04\x0a\x02\x03\x04" + b"\x2a\x2c" + bytes(44), "11 numbers where its shape (3, 4) says 12"),
        (b"\x3a\x04\x0a\x02\x03\x04" + b"\x2a\x2e" + bytes(46), "46 bytes are no numbers of 4"),
        (b"\x3a\x0d\x0a\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0c", "has the shape"),
        (b"\x3a\x06\x0a\x04\xff\xff\xff\x7f", "0 numbers where"),
        (b"\x3a\x04\x0a\x02\x04\x03" + b"\x2a\x30" + bytes(48), "blob 0 (weight) has the shape (4, 3), not (3, 4)"),
        (b"\x08\x01\x10\x01\x18\x04\x20\x03" + b"\x2a\x30" + bytes(48), "has the shape (1, 1, 4, 3), not (3, 4)"),
        (b"\x3a\x04\x0a\x02\x03\x04" + b"\x62\x18" + bytes(24), "numbers of a type that is not supported"),
        (b"\x3a\x04\x0a\x02\x03\x04\x50\x02" + b"\x62\x17" + bytes(23), "23 bytes are no numbers of 2"),
        (b"\x3a\x04\x0a\x02\x03\x04\x2d\x00\x00", "at byte"),
    ],
)
def test_blobs_that_lie(blob: bytes, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, FC.replace("num_output: 3", "num_output: 3 bias_term: false"))
    layer = b"\x0a\x02fc" + b"\x3a" + bytes([len(blob)]) + blob
    path.with_suffix(".caffemodel").write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    with pytest.raises(hub.InvalidModel) as caught:
        hub.load(path)
    assert says in str(caught.value)
    assert "fc" in str(caught.value)


@pytest.mark.parametrize(
    ("blobs", "says"), [({"fc": [numbers((3, 4), 0)]}, "has 1"), ({"fc": [numbers((3,), 0)] * 3}, "has 3")]
)
def test_another_number_of_blobs(blobs: dict[str, list[np.ndarray]], says: str, tmp_path: Path) -> None:
    refused(write(tmp_path, FC, blobs), tmp_path, "'fc' (InnerProduct, line 3) needs 2 blobs (weight, bias)", says)


def test_blobs_for_a_layer_that_has_none(tmp_path: Path) -> None:
    path = write(tmp_path, net_text("r ReLU x", x=(2, 3)), {"r": [numbers((3,), 0)]})
    refused(path, tmp_path, "'r' (ReLU, line 3) needs 0 blobs (none), the file has 1")


def test_names_that_occur_twice(tmp_path: Path) -> None:
    text = FC + 'layer { name: "fc" type: "InnerProduct" bottom: "fc" top: "y" inner_product_param { num_output: 3 } }'
    refused(write(tmp_path, text, {"fc": BLOBS["fc"]}), tmp_path, "several layers have this name")
    path = write(tmp_path, FC)
    message = weights_message({"fc": [numbers((3, 4), 0), numbers((3,), 1)]})
    message.layer.add().CopyFrom(message.layer[0])
    path.with_suffix(".caffemodel").write_bytes(message.SerializeToString())
    refused(path, tmp_path, "several layers have this name")
    (tmp_path / "again").mkdir()
    twice = hub.load(write(tmp_path / "again", net_text("r ReLU x\nr TanH r -> y", x=(2, 3))))
    assert [node.name for node in twice.ir.graph] == ["r", "r_1"]


# -- sizes -------------------------------------------------------------------------------------------------------------

BIG = 1_000_000_000


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (f"y InnerProduct x; inner_product_param {{ num_output: {BIG} }}", "layer 'y'"),
        (f"y Convolution x; convolution_param {{ num_output: {BIG} kernel_size: 3 }}", "layer 'y'"),
        (f"y Convolution x; convolution_param {{ num_output: 4 kernel_size: {BIG} }}", "layer 'y'"),
        (f"y Convolution x; convolution_param {{ num_output: 4 kernel_size: 3 pad: {BIG} }}", "layer 'y'"),
        (f"y Deconvolution x; convolution_param {{ num_output: 4 kernel_size: 3 stride: {BIG} }}", "layer 'y'"),
        ("y Convolution x; convolution_param { num_output: 0 kernel_size: 3 }", "num_output"),
        ("y Convolution x; convolution_param { num_output: 4 kernel_size: 3 stride: 0 }", "1 or more"),
        ("y Convolution x; convolution_param { num_output: 4 kernel_size: 3 group: 0 }", "groups do not fit"),
        ("y Convolution x; convolution_param { num_output: 4 }", "no kernel_size"),
        ("y Convolution x; convolution_param { num_output: 4 kernel_size: 3 kernel_h: 2 }", "given twice"),
        (f"y Pooling x; pooling_param {{ kernel_size: {BIG} }}", "does not fit"),
        ("y Pooling x; pooling_param { kernel_size: 2 stride: 0 }", "layer 'y'"),
        ("y Pooling x; pooling_param { kernel_size: 2 pad: 2 }", "smaller than the kernel"),
        (f"y Tile x; tile_param {{ tiles: {BIG} }}", "more than Caffe holds"),
        (f"y Tile x; tile_param {{ tiles: 2147483647 axis: 0 }}\nz Tile y; tile_param {{ tiles: {BIG} }}", "layer 'y'"),
        ("y SPP x; spp_param { pyramid_height: 31 }", "pyramid_height"),
        ("y DummyData; dummy_data_param { shape { dim: 2000000000 dim: 2000000000 } }", "the shape"),
        ("y DummyData; dummy_data_param { shape { dim: -3 } }", "the shape"),
        ("y Reshape x; reshape_param { shape { dim: -2 } }", "the shape"),
        ("y Reshape x; reshape_param { shape { dim: 5 dim: -1 } }", "divide"),
        ("y Reshape x; reshape_param { shape { dim: 9223372036854775807 } }", "cannot become"),
        (f"y Embed x; embed_param {{ num_output: {BIG} input_dim: {BIG} }}", "layer 'y'"),
        (f"y Parameter; parameter_param {{ shape {{ dim: {BIG} dim: {BIG} }} }}", "more than Caffe holds"),
        (f"y PriorBox x; prior_box_param {{ min_size: 3 img_size: {BIG} {'aspect_ratio: 2.5 ' * 9} }}", ""),
        (f"y Upsample x; upsample_param {{ scale: {BIG} }}", "layer 'y'"),
        (f"y Interp x; interp_param {{ height: {BIG} width: {BIG} }}", "layer 'y'"),
        (f"y ArgMax x; argmax_param {{ top_k: {BIG} }}", "top_k"),
        (f"y Slice x -> a b; slice_param {{ slice_point: {BIG} }}", "slice_point"),
        (f"y LRN x; lrn_param {{ local_size: {BIG} }}", "not odd"),
    ],
)
def test_sizes_that_are_absurd(layers: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, net_text(layers, x=(2, 4, 6, 7)))
    start = time.monotonic()
    said = ""
    try:
        hub.load(path, weights="random")
    except hub.HubError as error:
        said = str(error)
    # A matrix of any size can be described: nothing is allocated for it.
    assert (says in said and str(path) in said) or (not said and (not says or "InnerProduct" in layers))
    assert time.monotonic() - start < 5


def test_weights_of_absurd_sizes_do_not_fit(tmp_path: Path) -> None:
    text = FC.replace("num_output: 3", f"num_output: {BIG}")
    refused(write(tmp_path, text, {"fc": [numbers((3, 4), 0), numbers((3,), 1)]}), tmp_path, f"not ({BIG}, 4)")
    refused(write(tmp_path, text.replace("fc", "gc")), tmp_path, "have none here")


@pytest.mark.parametrize("dims", ["dim: 0", "dim: -1 dim: 3", f"dim: {BIG} dim: {BIG}", "dim: 9223372036854775807"])
def test_inputs_of_absurd_sizes(dims: str, tmp_path: Path) -> None:
    text = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n' + net_text("y ReLU x")
    refused(write(tmp_path, text), tmp_path, "the input 'x' has the shape")


def test_a_sequence_that_is_too_long_to_write_out(tmp_path: Path) -> None:
    text = net_text("y LSTM x c; recurrent_param { num_output: 2 }", x=(100_000, 2, 3), c=(100_000, 2))
    with pytest.raises(hub.UnsupportedOps, match="100000 steps"):
        hub.load(write(tmp_path, text), weights="random")


# -- graphs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("a ReLU b\nb ReLU a", "layer 'a' (ReLU, line 4) reads the blob 'b', which only layer 'b' (ReLU, line 5)"),
        ("a ReLU a", "a cycle"),
        ("a ReLU nothing", "which nothing produces; give its shape with inputs={'nothing': (...)}"),
        ("a ReLU x\nb TanH x -> a", "produces the blob 'a', as layer 'a' (ReLU, line 4) does"),
        ("a Silence x", ""),
        ("a ReLU", "has 0 bottoms"),
        ("a ReLU x x", "has 2 bottoms"),
        ("a ReLU x -> b c", "has 2 tops, it gives 1"),
        ("a Eltwise x", "2 are needed"),
        ("a Eltwise x z", "its bottoms have the shapes 2x4x6x7 and 2x4x6x8"),
        ("a Concat x z", "its bottoms have the shapes"),
        ("a Softmax x; softmax_param { axis: 4 }", "axis 4 of a bottom with 4 axes"),
        ("a Softmax x; softmax_param { axis: -5 }", "axis -5"),
        ("a Crop z x; crop_param { offset: 3 }", "do not lie in axis"),
        ("a Permute x; permute_param { order: 7 }", "order [7]"),
        ("a Flatten x; flatten_param { axis: 3 end_axis: 1 }", "lies before"),
        ("f Flatten x\na Pooling f; pooling_param { kernel_size: 2 }", "has 2 axes, 4 are needed"),
        ("f Flatten x\na Convolution f; convolution_param { num_output: 2 kernel_size: 2 }", "layer 'a'"),
        ("a Convolution x; convolution_param { num_output: 2 kernel_size: 9 }", "layer 'a'"),
        ("a Scale x z", "a second bottom of 4 axes does not fit at axis 1"),
        (
            'layer { name: "a" type: "ReLU" bottom: "x" top: "a" include { phase: TEST } exclude { phase: TRAIN } }',
            "both",
        ),
        ('layers { name: "a" type: RELU bottom: "x" top: "a" }', "both `layer` and `layers`"),
    ],
)
def test_graphs_that_do_not_fit_together(layers: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, net_text(layers, x=(2, 4, 6, 7), z=(2, 4, 6, 8)))
    message = refused(path, tmp_path, says, **({"weights": "random"} if "num_output" in layers else {}))
    assert "layer" in message or says == ""


def test_everything_that_is_not_supported_is_said_at_once(tmp_path: Path) -> None:
    text = net_text(
        "p Python x\nr ROIPooling p\nq Proposal x\na ReLU r\n"
        "b BatchNorm x; batch_norm_param { use_global_stats: false }\n"
        "c Pooling x; pooling_param { pool: STOCHASTIC kernel_size: 2 }\n"
        'd DummyData; dummy_data_param { shape { dim: 2 } data_filler { type: "gaussian" } }',
        x=(2, 3, 6, 7),
    )
    with pytest.raises(hub.UnsupportedOps) as caught:
        hub.load(write(tmp_path, text), weights="random")
    message = str(caught.value)
    for part in ("Python x1: it runs Python code, which is never executed [p (line 3)]", "ROIPooling", "Proposal",
                 "q (line 5)", "b (line 7)", "stochastic", "random numbers (gaussian)"):  # fmt: skip
        assert part in message
    assert len(caught.value.ops) == 6


def test_a_field_of_a_fork_in_a_caffemodel_is_refused(tmp_path: Path) -> None:
    """In a binary file it has a number and no name."""
    net = parsed(net_text("y Convolution x; convolution_param { num_output: 2 kernel_size: 2 }", x=(2, 3, 4, 5)))
    for array in (numbers((2, 3, 2, 2), 0), numbers((2,), 1)):
        fill(net.layer[1].blobs.add(), array)
    data = net.SerializeToString()
    param = net.layer[1].convolution_param.SerializeToString()
    layer = net.layer[1].SerializeToString()
    longer = layer.replace(bytes([len(param)]) + param, bytes([len(param) + 3]) + param + b"\xa0\x06\x01")
    assert len(longer) == len(layer) + 3
    size = messages("caffe").NetParameter(layer=[net.layer[0]])
    path = tmp_path / "net.caffemodel"
    path.write_bytes(size.SerializeToString() + b"\xa2\x06" + _varint(len(longer)) + longer)
    assert data != path.read_bytes()
    with pytest.raises(hub.UnsupportedOps, match="its convolution_param has fields that are unknown here"):
        hub.load(path)


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def test_names_that_are_long_or_strange(tmp_path: Path) -> None:
    for name in ("x" * 100_000, "a/b c\\n\\t'", "\u00e9\u4e2d", "../../etc/passwd", "%s{0}"):
        path = write(
            tmp_path, net_text("", x=(2, 3)) + f'layer {{ name: "{name}" type: "ReLU" bottom: "x" top: "{name}" }}'
        )
        assert len(hub.load(path).layers) == 1
        broken = path.read_text().replace('bottom: "x"', 'bottom: "nothing"')
        refused(write(tmp_path, broken), tmp_path, "which nothing produces")


# -- damaged copies ----------------------------------------------------------------------------------------------------

CHILD = Path(__file__).with_name("hostile_child.py")


@pytest.mark.parametrize("kind", ["prototxt", "caffemodel"])
def test_damaged_copies_are_errors_of_the_package(kind: str, tmp_path: Path) -> None:
    source = alone(tmp_path / "own.caffemodel")
    if kind == "prototxt":
        source = tmp_path / "net.prototxt"
        source.write_text(
            net_text("a ReLU x\nb Pooling a; pooling_param { kernel_size: 2 }\nc LRN b\ny Softmax c", x=(2, 3, 8, 9))
        )
    folder = tmp_path / "copies"
    folder.mkdir()
    command = [sys.executable, str(CHILD), str(source), "0", "400", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["left"] == []
    assert sum(result["outcomes"].values()) == 400
    assert result["outcomes"].get("InvalidModel", 0) > 50


def test_damaged_halves_of_a_pair_are_errors_of_the_package(good: Path, tmp_path: Path) -> None:
    weights = good.with_suffix(".caffemodel")
    halves = {good: good.read_bytes(), weights: weights.read_bytes()}
    outcomes: Counter[str] = Counter()
    lengths = []
    for number in range(300):
        path = (good, weights)[number % 2]
        path.write_bytes(damaged(halves[path], random.Random(number)))
        try:
            hub.save(hub.load((good, weights)), tmp_path / "out.onnx")
            outcomes["loaded"] += 1
        except hub.HubError as error:
            outcomes[type(error).__name__] += 1
            lengths.append(len(str(error)))
        path.write_bytes(halves[path])
    assert outcomes["InvalidModel"] > 50, outcomes
    assert max(lengths) < 1500
