"""Every layer type of Caffe 1.0 over its parameters, against the real Caffe, layer by layer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from caffe_in_nets import distance, feeds_of, layer_values, net_text, seeded_blobs, write
from conftest import need_runtime

import hub
from importers.caffe.layers import LAYERS

IMAGE = (2, 6, 7, 10)
"""Batch 2, H and W differ."""

CASES: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {}


def case(name: str, layers: str, **inputs: tuple[int, ...]) -> None:
    assert name not in CASES
    CASES[name] = layers, inputs or {"x": IMAGE}


for kind in ("AbsVal", "BNLL", "TanH", "Sigmoid", "ReLU", "ELU", "PReLU", "Dropout", "Power", "Exp", "Threshold"):
    case(kind, f"y {kind} x")
    if kind != "AbsVal":  # Caffe has no form of it in place
        case(f"{kind} in place", f"a Power x -> a; power_param {{ scale: 0.7 }}\ny {kind} a -> a\nz Power a")
case("ReLU slope", "y ReLU x; relu_param { negative_slope: 0.1 }")
case("ELU alpha", "y ELU x; elu_param { alpha: 0.3 }")
case("PReLU shared", "y PReLU x; prelu_param { channel_shared: true }")
case("PReLU matrix", "y PReLU x", x=(2, 5))
case("Threshold 0.4", "y Threshold x; threshold_param { threshold: 0.4 }")
case("Swish", "y Swish x; swish_param { beta: 1.7 }")
for text in (
    "power: 2",
    "power: 3 scale: -0.5",
    "scale: 2 shift: 3",
    "shift: -1",
    "power: 0",
    "power: 2 scale: 0 shift: 3",
):
    case(f"Power {text}", f"y Power x; power_param {{ {text} }}")
case("Power of a root", "a AbsVal x\ny Power a; power_param { power: -0.5 shift: 0.01 }")
for text in ("base: 2", "base: 3 scale: 0.5 shift: 1", "shift: 0.5", "base: 0.5 shift: 2"):
    case(f"Exp {text}", f"y Exp x; exp_param {{ {text} }}")
for text in ("", "base: 2", "base: 10 scale: 3 shift: 0.5", "shift: 1"):
    case(f"Log {text}", f"a AbsVal x\nb Power a; power_param {{ shift: 0.1 }}\ny Log b; log_param {{ {text} }}")
case("Softmax", "y Softmax x")
for axis in (0, 2, 3, -1, -2):
    case(f"Softmax axis {axis}", f"y Softmax x; softmax_param {{ axis: {axis} }}")

for text in (
    "kernel_size: 3", "kernel_size: 3 pad: 1 stride: 2", "kernel_size: 1", "kernel_h: 3 kernel_w: 1 pad_h: 1",
    "kernel_size: 3 kernel_size: 5 pad: 1 pad: 2 stride: 1 stride: 2", "kernel_size: 3 group: 2",
    "kernel_size: 3 group: 2 bias_term: false", "kernel_size: 3 dilation: 2 pad: 2", "kernel_size: 2 stride: 3",
    "kernel_size: 2 stride_h: 1 stride_w: 2", "kernel_size: 2 dilation: 1 dilation: 3",
    "kernel_size: 3 axis: -3 pad: 1",
):  # fmt: skip
    case(f"Convolution {text}", f"y Convolution x; convolution_param {{ num_output: 4 {text} }}")
    case(f"Deconvolution {text}", f"y Deconvolution x; convolution_param {{ num_output: 4 {text} }}")
    if "group" not in text and "bias" not in text:
        case(f"Im2col {text}", f"y Im2col x; convolution_param {{ {text} }}")
case("Convolution depthwise", "y Convolution x; convolution_param { num_output: 6 group: 6 kernel_size: 3 pad: 1 }")
case("Convolution 1-D", "y Convolution x; convolution_param { num_output: 3 kernel_size: 3 stride: 2 }", x=(2, 4, 9))
case("Convolution 3-D", "y Convolution x; convolution_param { num_output: 3 kernel_size: 2 pad: 1 }", x=(2, 2, 4, 5, 3))
case(
    "Convolution of two bottoms",
    "c Convolution a b -> c d; convolution_param { num_output: 4 kernel_size: 3 }\ny Eltwise c d",
    a=IMAGE, b=IMAGE,
)  # fmt: skip

for text, shape in {
    "": IMAGE, "axis: 2": IMAGE, "axis: -1": IMAGE, "axis: 0": (2, 3), "transpose: true": IMAGE,
    "transpose: true axis: 2": (2, 3, 4), "bias_term: false": (2, 5), "axis: 2 bias_term: false": (2, 3, 4),
    "axis: 3": IMAGE,
}.items():  # fmt: skip
    case(f"InnerProduct {text}", f"y InnerProduct x; inner_product_param {{ num_output: 5 {text} }}", x=shape)

for size in (7, 8, 9, 10):
    for k, s, p in ((2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 1, 1), (2, 3, 0), (4, 3, 1), (3, 3, 2), (5, 2, 2)):
        for pool in ("MAX", "AVE") if s <= k else ("MAX",):
            case(
                f"Pooling {pool} {size} k{k} s{s} p{p}",
                f"y Pooling x; pooling_param {{ pool: {pool} kernel_size: {k} stride: {s} pad: {p} }}",
                x=(2, 3, size, 11 if size % 2 else 6),
            )
for pool in ("MAX", "AVE"):
    for text in (
        "kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1",
        "kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 0",
        "global_pooling: true", "kernel_size: 7", "kernel_size: 1 stride: 2",
        "kernel_size: 3 stride: 2 pad_h: 0 pad_w: 2",
        "kernel_size: 3 stride: 2 pad_h: 1 pad_w: 0", "kernel_h: 1 kernel_w: 3 stride: 3 pad_h: 0 pad_w: 1",
    ):  # fmt: skip
        case(f"Pooling {pool} {text}", f"y Pooling x; pooling_param {{ pool: {pool} {text} }}", x=(2, 3, 7, 9))
case("Pooling MAX behind the image", "y Pooling x; pooling_param { kernel_size: 1 stride: 2 }", x=(2, 3, 8, 9))
case("Pooling MAX far behind", "y Pooling x; pooling_param { kernel_size: 2 stride: 4 }", x=(2, 3, 11, 12))
case("Pooling round_mode", "y Pooling x; pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", x=(2, 3, 8, 10))
case(
    "Pooling round_mode AVE",
    "y Pooling x; pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }",
    x=(2, 3, 8, 10),
)
case("Pooling mask", "y Pooling x -> y m; pooling_param { kernel_size: 3 stride: 2 }\nz Power m")
case("Pooling mask padded", "y Pooling x -> y m; pooling_param { kernel_size: 3 stride: 2 pad: 1 }\nz Power m")
for height in (1, 2, 3):
    for pool in ("MAX", "AVE"):
        case(
            f"SPP {pool} {height}", f"y SPP x; spp_param {{ pyramid_height: {height} pool: {pool} }}", x=(2, 3, 11, 14)
        )

case("BatchNorm", "y BatchNorm x")
case("BatchNorm eps", "y BatchNorm x; batch_norm_param { eps: 0.1 use_global_stats: true }")
case(
    "BatchNorm in place",
    "a Power x; power_param { scale: 2 }\ny BatchNorm a -> a\n"
    "s Scale a -> a; scale_param { bias_term: true }\nz ReLU a -> a",
)
case("BatchNorm matrix", "y BatchNorm x", x=(2, 5))
for text in ("", "bias_term: true", "axis: 0", "axis: 2 bias_term: true", "axis: 1 num_axes: 2", "num_axes: -1",
             "num_axes: 0 bias_term: true", "axis: -1", "axis: 0 num_axes: -1"):  # fmt: skip
    case(f"Scale {text}", f"y Scale x; scale_param {{ {text} }}")
    if "bias" not in text:
        case(f"Bias {text}", f"y Bias x; bias_param {{ {text} }}")
for kind, param in (("Scale", "scale_param"), ("Bias", "bias_param")):
    case(f"{kind} two bottoms", f"y {kind} x b; {param} {{ axis: 0 }}", x=IMAGE, b=(2, 6))
    case(f"{kind} second bottom of channels", f"y {kind} x b", x=IMAGE, b=(6,))
    case(f"{kind} second bottom at the end", f"y {kind} x b; {param} {{ axis: 2 }}", x=IMAGE, b=(7, 10))
    case(f"{kind} second bottom whole", f"y {kind} x b; {param} {{ axis: 0 }}", x=IMAGE, b=IMAGE)
case("Scale two bottoms and a bias", "y Scale x b; scale_param { axis: 0 bias_term: true }", x=IMAGE, b=(2, 6))
for text in ("", "local_size: 3 alpha: 0.5 beta: 0.6", "k: 2 alpha: 2", "norm_region: WITHIN_CHANNEL",
             "norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2 k: 3", "local_size: 1"):  # fmt: skip
    case(f"LRN {text}", f"y LRN x; lrn_param {{ {text} }}")
for text in ("", "normalize_variance: false", "across_channels: true", "eps: 0.1", "across_channels: true eps: 0.5"):
    case(f"MVN {text}", f"y MVN x; mvn_param {{ {text} }}")
case("MVN matrix", "y MVN x; mvn_param { across_channels: true eps: 0.1 }", x=(2, 7))
case("MVN 3 axes", "y MVN x; mvn_param { normalize_variance: false }", x=(2, 3, 7))

for text in ("", "operation: PROD", "operation: MAX", "coeff: 1 coeff: -1", "coeff: 0.5 coeff: 2"):
    case(f"Eltwise {text}", f"y Eltwise a b; eltwise_param {{ {text} }}", a=IMAGE, b=IMAGE)
for text in ("", "operation: PROD", "operation: MAX", "coeff: 1 coeff: -1 coeff: 0.3"):
    case(f"Eltwise of three {text}", f"y Eltwise a b c; eltwise_param {{ {text} }}", a=IMAGE, b=IMAGE, c=IMAGE)
case("Eltwise of one and itself", "y Eltwise x x; eltwise_param { operation: PROD }")
case(
    "Eltwise in place",
    "p Power a\nq Power b\ny Eltwise p q -> p; eltwise_param { operation: PROD }\nz ReLU p -> p",
    a=IMAGE, b=IMAGE,
)  # fmt: skip
for kind in ("Softmax", "MVN", "Bias", "Scale", "Swish", "Threshold", "BatchNorm"):
    case(f"{kind} in the place of its bottom", f"p TanH x\ny {kind} p -> p\nz TanH p")
case("Concat", "y Concat a b", a=(2, 3, 4, 5), b=(2, 6, 4, 5))
case("Concat axis", "y Concat a b; concat_param { axis: -1 }", a=(2, 3, 4), b=(2, 3, 5))
case("Concat dim", "y Concat a b; concat_param { concat_dim: 0 }", a=(2, 3), b=(4, 3))
case("Concat of one", "y Concat x\nz ReLU y")
for text in ("", "slice_point: 2", "axis: 3", "slice_dim: 3", "axis: -1 slice_point: 7"):
    case(f"Slice {text}", f"s Slice x -> a b; slice_param {{ {text} }}\ny ReLU a\nz TanH b")
case(
    "Slice of three",
    "s Slice x -> a b c; slice_param { slice_point: 1 slice_point: 5 }\ny ReLU b\n"
    'layer { type: "Silence" bottom: "a" bottom: "c" }',
)
case("Split", "s Split x -> a b\ny ReLU a\nz TanH b")
case("a blob several times", "a ReLU x\nb TanH a\nc Sigmoid a\ny Eltwise b c a")

for text in ("", "axis: 2", "axis: 1 end_axis: 2", "axis: 0 end_axis: 1", "axis: -2", "axis: 0", "axis: 2 end_axis: 2"):
    case(f"Flatten {text}", f"y Flatten x; flatten_param {{ {text} }}")
for text in (
    "dim: 0 dim: -1", "dim: 2 dim: 3 dim: 140",
    "dim: 0 dim: 0 dim: 70", "dim: -1 dim: 7 dim: 10", "dim: 4 dim: -1 dim: 10",
    "dim: -1", "dim: 0 dim: 0 dim: -1 dim: 5", "dim: 1 dim: -1",
):  # fmt: skip
    case(f"Reshape {text}", f"y Reshape x; reshape_param {{ shape {{ {text} }} }}")
for text in (
    "shape { dim: 2 dim: 3 } axis: 1 num_axes: 1", "shape { dim: -1 } axis: 2", "shape { } axis: 0 num_axes: 0",
    "shape { dim: 1 } axis: -1 num_axes: 0", "shape { dim: 0 dim: -1 dim: 2 } axis: 1",
):  # fmt: skip
    case(f"Reshape {text}", f"y Reshape x; reshape_param {{ {text} }}")
case(
    "Reshape a scalar away",
    "a Reduction x; reduction_param { axis: 1 }\ny Reshape a; reshape_param { shape { dim: 2 dim: 1 dim: 1 } }",
)
for text in ("order: 0 order: 2 order: 3 order: 1", "order: 1", "order: 3 order: 1", "order: 0"):
    case(f"Permute {text}", f"y Permute x; permute_param {{ {text} }}")
case("Crop", "y Crop a b", a=(2, 3, 8, 9), b=(2, 5, 4, 6))
case("Crop offset", "y Crop a b; crop_param { axis: 2 offset: 1 offset: 3 }", a=(2, 3, 8, 9), b=(2, 5, 4, 6))
case("Crop all", "y Crop a b; crop_param { axis: 1 offset: 1 }", a=(2, 4, 8, 9), b=(2, 2, 4, 6))
case("Crop the last", "y Crop a b; crop_param { axis: -1 offset: 2 }", a=(2, 4, 8, 9), b=(2, 2, 4, 6))
for text in ("tiles: 2", "axis: 0 tiles: 3", "axis: -1 tiles: 2"):
    case(f"Tile {text}", f"y Tile x; tile_param {{ {text} }}")
for operation in ("SUM", "ASUM", "SUMSQ", "MEAN"):
    for text in ("", "axis: 1 coeff: 0.5", "axis: -1", "axis: 2"):
        case(f"Reduction {operation} {text}", f"y Reduction x; reduction_param {{ operation: {operation} {text} }}")
for text in ("", "top_k: 3", "axis: 1", "axis: 1 top_k: 2", "axis: -1 out_max_val: true", "out_max_val: true top_k: 2",
             "axis: 2 top_k: 4 out_max_val: true"):  # fmt: skip
    case(f"ArgMax {text}", f"y ArgMax x; argmax_param {{ {text} }}")
    case(f"ArgMax ties {text}", f"a Threshold x\ny ArgMax a; argmax_param {{ {text} }}")
case("ArgMax matrix", "y ArgMax x; argmax_param { top_k: 2 out_max_val: true }", x=(2, 5))
case("Embed", "a Threshold x\ny Embed a; embed_param { num_output: 4 input_dim: 3 }", x=(2, 5))
case(
    "Embed without bias",
    "a Threshold x\ny Embed a; embed_param { num_output: 4 input_dim: 3 bias_term: false }",
    x=(2, 5),
)
case("BatchReindex", "a Threshold i\ny BatchReindex x a", x=(3, 4, 5), i=(6,))
case("Filter", "s Threshold i\nf Filter a b s -> c d\ny Power c\nz Power d", a=(6, 4, 5), b=(6, 3), i=(6, 1))
case(
    "DummyData",
    "d DummyData -> d e; dummy_data_param { shape { dim: 2 dim: 6 dim: 7 dim: 10 } data_filler { value: 2.5 } }\n"
    "y Eltwise x d e",
)
case("DummyData of old", "d DummyData; dummy_data_param { num: 2 channels: 6 height: 7 width: 10 }\ny Eltwise x d")
case("Parameter", "p Parameter; parameter_param { shape { dim: 6 } }\ny Scale x p")
case(
    "Input of several",
    'layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } } }\ny Eltwise a b x',
    x=(2, 3),
)

STATIC = {"x": (5, 2, 3), "cont": (5, 2), "fixed": (2, 4)}
for kind in ("LSTM", "RNN"):
    case(f"{kind}", f"k Threshold cont\ny {kind} x k; recurrent_param {{ num_output: 4 }}", x=(5, 2, 3), cont=(5, 2))
    case(
        f"{kind} one step",
        f"k Threshold cont\ny {kind} x k; recurrent_param {{ num_output: 4 }}",
        x=(1, 2, 3),
        cont=(1, 2),
    )
    case(
        f"{kind} images",
        f"k Threshold cont\ny {kind} x k; recurrent_param {{ num_output: 3 }}",
        x=(4, 2, 3, 2),
        cont=(4, 2),
    )
    case(f"{kind} static", f"k Threshold cont\ny {kind} x k fixed; recurrent_param {{ num_output: 4 }}", **STATIC)
case(
    "RNN exposed",
    "k Threshold cont\ny RNN x k h -> y ht; recurrent_param { num_output: 4 expose_hidden: true }\nz Power ht",
    x=(5, 2, 3), cont=(5, 2), h=(1, 2, 4),
)  # fmt: skip
case(
    "LSTM exposed",
    "k Threshold cont\ny LSTM x k c h -> y t u; recurrent_param { num_output: 4 expose_hidden: true }\n"
    "z Power t\nw Power u",
    x=(5, 2, 3), cont=(5, 2), c=(1, 2, 4), h=(1, 2, 4),
)  # fmt: skip
case(
    "LSTM exposed static",
    "k Threshold cont\ny LSTM x k fixed c h -> y t u; recurrent_param { num_output: 4 expose_hidden: true }\n"
    "z Power t\nw Power u",
    **STATIC, c=(1, 2, 4), h=(1, 2, 4),
)  # fmt: skip

ELSEWHERE = {
    "Axpy", "Clip", "ConvolutionDepthwise", "DepthwiseConvolution", "DetectionOutput", "Interp", "Normalize",
    "PriorBox", "ReLU6", "Reorg", "ShuffleChannel", "Upsample",
}  # fmt: skip
"""Layers that the real Caffe here does not know: test_caffe_in_forks.py."""


@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_that_of_caffe(name: str, tmp_path: Path) -> None:
    need_runtime("caffe")
    from parity.runners.caffe import open as open_caffe

    layers, inputs = CASES[name]
    text = net_text(layers, **inputs)
    path = write(tmp_path, text, seeded_blobs(text))
    model = hub.load(path)
    feeds = feeds_of(model)
    values = layer_values(model, feeds)
    outputs = model.run(feeds)
    runner = open_caffe(path)
    try:
        expected = runner.run(feeds, [f"layer:{layer}" for layer in runner.layers])
    finally:
        runner.close()
    assert set(outputs) == {key for key in expected if not key.startswith("layer:")}
    for key, array in outputs.items():
        assert distance(expected[key], array) < 1e-5, key
    compared = [layer for layer in runner.layers if f"layer:{layer}" in expected and layer in values]
    for layer in compared:
        assert distance(expected[f"layer:{layer}"], values[layer]) < 1e-5, layer
    several = {node.name for node in model.ir.graph if len(node.outputs) > 1}
    assert {name for name in runner.layers if f"layer:{name}" in expected} <= {*compared, *several}, (
        "a layer is missing"
    )


def test_every_registered_layer_has_a_case() -> None:
    used = {
        word for layers, _ in CASES.values() for line in layers.splitlines() for word in re.split(r"[ ;]+", line)[1:2]
    }
    assert set(LAYERS) - used == ELSEWHERE


def test_an_average_behind_the_image_is_refused(tmp_path: Path) -> None:
    """Caffe divides by zero there."""
    text = net_text("y Pooling x; pooling_param { pool: AVE kernel_size: 1 stride: 2 }", x=(2, 3, 8, 9))
    with pytest.raises(hub.UnsupportedOps, match="divides by zero"):
        hub.load(write(tmp_path, text))


@pytest.mark.parametrize(
    "layer", ["Eltwise p q", "Eltwise p q; eltwise_param { operation: MAX }", "LRN p", "Flatten p"]
)
def test_what_caffe_cannot_do_in_place_is_refused(layer: str, tmp_path: Path) -> None:
    """The real one gives the second bottom alone for a sum in the place of the first, for example."""
    head, _, fields = layer.partition(";")
    kind, *bottoms = head.split()
    text = net_text(f"p TanH a\nq TanH b\ny {kind} {' '.join(bottoms)} -> p;{fields}", a=(2, 3, 4, 5), b=(2, 3, 4, 5))
    with pytest.raises(hub.UnsupportedOps, match=r"in place of its bottom[\s\S]*y \(line 6\)"):
        hub.load(write(tmp_path, text))


SHARED = """
f {kind} x -> f; {fields}
r ReLU f -> f
d TanH x
y Eltwise x d
"""


@pytest.mark.parametrize(
    ("kind", "fields"), [("Flatten", ""), ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"), ("Split", "")]
)
def test_what_was_written_over_in_the_same_memory_is_not_read_again(kind: str, fields: str, tmp_path: Path) -> None:
    """The real Caffe gives d the numbers that r has changed: f is x under another name."""
    text = net_text(SHARED.format(kind=kind, fields=fields), x=(2, 3, 4))
    path = write(tmp_path, text)
    with pytest.raises(hub.UnsupportedOps, match=r"TanH x1: it reads 'x' after layer 'r' \(ReLU, line 4\)"):
        hub.load(path)
    before = text.replace('name: "r" type: "ReLU" bottom: "f" top: "f"', 'name: "r" type: "ReLU" bottom: "f" top: "r"')
    assert hub.load(write(tmp_path, before)).layers == ["f", "r", "d", "y"]
    need_runtime("caffe")
    from parity.runners.caffe import open as open_caffe

    path.write_text(text)
    x = -np.ones((2, 3, 4), np.float32)
    runner = open_caffe(path)
    try:
        assert not runner.run({"x": x}, ["layer:d"])["layer:d"].any()
    finally:
        runner.close()
