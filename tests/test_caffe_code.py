"""The text that the Caffe exporter writes: read it here as a user would."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need_runtime
from out_nets import agrees, network, text_of

import hub
from hub.builder import GraphBuilder
from hub.model import Model
from hub.schemas import messages
from hub.schemas.caffe import DIALECTS, LAYER_TYPES, dialect_of, lint

need_runtime("caffe")

Array = np.ndarray[Any, Any]
Shape = list[int | str]


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


class Net:
    """A network, layer by layer."""

    def __init__(self, *shapes: Shape, names: tuple[str, ...] = ("data",)) -> None:
        self.graph = GraphBuilder("net")
        self.x = [self.graph.input(n, ir.DataType.FLOAT, s) for n, s in zip(names, shapes, strict=True)]

    def __call__(self, layer: str, op: str, *inputs: Any, **attributes: Any) -> Any:
        with self.graph.layer(layer, op):
            given = [self.graph.constant(v, "w") if isinstance(v, np.ndarray) else v for v in inputs]
            return self.graph.op(op, *given, **attributes)

    def model(self, *outputs: Any, names: tuple[str, ...] = ("prob",)) -> Model:
        for value, name in zip(outputs, names, strict=True):
            self.graph.output(value, name)
        return Model(self.graph.model())


def body(model: Model, folder: Path, **options: Any) -> str:
    """The layers after the Input, each of their fields on one line."""
    text = text_of(model, folder, **options)
    layers = text.split("layer {\n")[2:]
    return "\n".join(re.sub(r"\s+", " ", layer.rsplit("}", 1)[0]).strip() for layer in layers)


def test_a_small_classifier_as_it_is_written(tmp_path: Path) -> None:
    net = Net(["N", 3, 8, 8])
    y = net("conv1", "Conv", net.x[0], ones(4, 3, 3, 3), ones(4), pads=[1] * 4, strides=[2, 2])
    y = net("relu1", "Relu", y)
    y = net("pool1", "MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net("flatten", "Flatten", y)
    y = net("fc", "Gemm", y, ones(16, 5), ones(5))
    paths = hub.save(net.model(net("prob", "Softmax", y, axis=1)), tmp_path / "net.prototxt")
    lines = paths[0].read_text().splitlines(True)
    assert "".join(line for line in lines if not line.startswith("#")) == (
        """name: "net"
layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param {
    shape {
      dim: 1
      dim: 3
      dim: 8
      dim: 8
    }
  }
}
layer {
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  convolution_param {
    num_output: 4
    pad: 1
    kernel_size: 3
    stride: 2
  }
}
layer {
  name: "relu1"
  type: "ReLU"
  bottom: "conv1"
  top: "conv1"
}
layer {
  name: "pool1"
  type: "Pooling"
  bottom: "conv1"
  top: "pool1"
  pooling_param {
    pool: MAX
    kernel_size: 2
    stride: 2
  }
}
layer {
  name: "fc"
  type: "InnerProduct"
  bottom: "pool1"
  top: "fc"
  inner_product_param {
    num_output: 5
  }
}
layer {
  name: "prob"
  type: "Softmax"
  bottom: "fc"
  top: "prob"
}
"""
    )
    head = "".join(line for line in lines if line.startswith("#"))
    assert "Caffe 1.0" in head
    assert '# hub: {"inputs": {"data": {"shape": ["N", 3, 8, 8]}}, "outputs": {"prob": {"shape": ["N", 5]}}}' in head


def test_a_normalization_is_two_layers_in_place(tmp_path: Path) -> None:
    net = Net(["N", 3, 8, 8])
    y = net("conv", "Conv", net.x[0], ones(4, 3, 1, 1))
    y = net("bn", "BatchNormalization", y, ones(4) * 2, ones(4), ones(4), ones(4), epsilon=1e-3)
    model = net.model(net("relu", "Relu", y))
    assert body(model, tmp_path) == (
        'name: "conv" type: "Convolution" bottom: "data" top: "prob" '
        "convolution_param { num_output: 4 bias_term: false kernel_size: 1 }\n"
        'name: "bn" type: "BatchNorm" bottom: "prob" top: "prob" batch_norm_param { eps: 0.001 }\n'
        'name: "bn/scale" type: "Scale" bottom: "prob" top: "prob" scale_param { bias_term: true }\n'
        'name: "relu" type: "ReLU" bottom: "prob" top: "prob"'
    )
    assert body(model, tmp_path, fold=True) == (
        'name: "conv" type: "Convolution" bottom: "data" top: "prob" '
        "convolution_param { num_output: 4 kernel_size: 1 }\n"
        'name: "relu" type: "ReLU" bottom: "prob" top: "prob"'
    )


def test_a_normalization_that_only_normalizes_is_one_layer(tmp_path: Path) -> None:
    net = Net(["N", 4, 8, 8])
    y = net("bn", "BatchNormalization", net.x[0], ones(4), 0 * ones(4), ones(4), ones(4))
    assert body(net.model(y), tmp_path) == 'name: "bn" type: "BatchNorm" bottom: "data" top: "prob"'


def test_same_padding_of_an_even_size(tmp_path: Path) -> None:
    net = Net(["N", 3, 8, 8])
    y = net("conv", "Conv", net.x[0], ones(4, 3, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
    text = body(net.model(y), tmp_path)
    assert 'name: "conv" type: "Convolution"' in text
    assert set(re.findall(r'type: "(\w+)"', text)) <= {"Convolution", "Slice", "Silence"}
    net = Net(["N", 1, 8, 8])  # few enough channels for a larger kernel
    y = net("conv", "Conv", net.x[0], ones(4, 1, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
    assert body(net.model(y), tmp_path) == (
        'name: "conv" type: "Convolution" bottom: "data" top: "prob" '
        "convolution_param { num_output: 4 bias_term: false pad: 1 kernel_size: 4 stride: 2 }"
    )


def test_a_bounded_relu(tmp_path: Path) -> None:
    net = Net(["N", 3])
    y = net("relu6", "Clip", net.x[0], np.array(0, np.float32), np.array(6, np.float32))
    model = net.model(y)
    types = re.findall(r'type: "(\w+)"', body(model, tmp_path))
    assert types == ["ReLU", "Power", "Power", "Eltwise", "Power"]
    assert body(model, tmp_path, dialect="bvlc") == (
        'name: "relu6" type: "Clip" bottom: "data" top: "prob" clip_param { min: 0.0 max: 6.0 }'
    )


def test_a_dense_layer_is_one_layer(tmp_path: Path) -> None:
    net = Net(["N", 4, 3])
    with net.graph.layer("dense", "Dense"):
        product = net.graph.op("MatMul", net.x[0], net.graph.constant(ones(3, 2), "kernel"))
        y = net.graph.op("Add", product, net.graph.constant(ones(2), "bias"))
    assert body(net.model(y), tmp_path) == (
        'name: "dense" type: "InnerProduct" bottom: "data" top: "prob" inner_product_param { num_output: 2 axis: 2 }'
    )


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def build(g: Any, x: Any) -> Any:
        y = g.op("Conv", x[0], g.constant(rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32), "w"))
        a, b = g.ops("Split", y, g.ints([1, 3], "s"), outputs=2, axis=1)
        return [g.op("Gelu", a), g.op("Softmax", g.op("Concat", b, a, axis=1), axis=1)]

    model = network(build, ["N", 3, 8, 8])
    first, second = (
        [path.read_bytes() for path in hub.save(model, tmp_path / f"{name}.prototxt")] for name in ("first", "second")
    )
    assert first == second


HOSTILE = {
    "quotes": "a\"b'c",
    "a newline": 'a\nlayer { name: "injected" type: "HDF5Output" }\n# ',
    "carriage return": "a\rb",
    "a backslash": "a\\n\\",
    "other scripts": "свёртка/畳み込み/\U0001f600",
    "a separator of lines": "a\u2028b\x85c",
    "a null": "a\x00b",
    "very long": "x" * 5000,
    "a comment": "# hub: {}",
    "braces": "}}} {",
    "empty": "",
    "spaces": "  ",
    "a helper's": "conv/abs",
    "silence": "silence",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_layers_and_values(name: str, tmp_path: Path) -> None:
    text = HOSTILE[name]
    net = Net(["N", 3, 6, 7], names=(f"in {text}",))
    y = net(text, "Transpose", net("first", "Abs", net.x[0]), perm=[0, 2, 3, 1])
    y = net(text, "Gelu", net("conv", "Sigmoid", y))
    z = net(text + "2", "Softmax", y, axis=1)
    model = net.model(z, net("conv", "Abs", y), names=(f"out {text}", f"out2 {text}"))
    agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (2, 3, 6, 7)).astype(np.float32))
    from google.protobuf import text_format

    parsed = text_format.Parse((tmp_path / "net.prototxt").read_text(), messages("caffe").NetParameter())
    assert {layer.type for layer in parsed.layer} <= LAYER_TYPES - {"HDF5Output"}
    names = [layer.name for layer in parsed.layer]
    assert len(names) == len(set(names))
    assert {f"in {text}", *filter(None, [text]), text + "2"} <= set(names)


COLLISIONS: dict[str, Callable[[Net], Any]] = {
    "a role": lambda n: n("a/abs", "Relu", n("a", "Gelu", n.x[0])),
    "the first number": lambda n: n("a_2", "Relu", n("a", "Tanh", n("a", "Abs", n("a", "Relu", n.x[0])))),
    "the input": lambda n: n("data", "Relu", n("data", "Gelu", n.x[0])),
    "the output": lambda n: n("last", "Relu", n("prob", "Gelu", n("prob", "Abs", n.x[0]))),
    "a constant": lambda n: n("constant", "Add", n("a/constant", "Relu", n.x[0]), n("a", "Sigmoid", ones(2, 3))),
    "a silence": lambda n: n("silence", "Relu", n("b", "Slice", n.x[0], *(np.array([i]) for i in (1, 3, 1)))),
}


@pytest.mark.parametrize("name", COLLISIONS)
def test_names_that_collide(name: str, tmp_path: Path) -> None:
    net = Net([2, 3])
    model = net.model(COLLISIONS[name](net))
    agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (2, 3)).astype(np.float32))
    report = hub.check(model, tmp_path / "net.prototxt", layers=True)
    assert report.ok, str(report)


def test_names_of_layers_are_those_of_the_source(tmp_path: Path) -> None:
    net = Net(["N", 3, 6, 6])
    y = net("block/conv", "Conv", net.x[0], ones(4, 3, 3, 3))
    y = net("block/act", "Gelu", y)
    y = net("norm", "LayerNormalization", y, ones(4), axis=-1)
    y = net("soft max", "Softmax", y, axis=1)
    names = re.findall(r'^  name: "(.*)"', text_of(net.model(y), tmp_path), re.MULTILINE)
    assert {"block/conv", "block/act", "norm", "soft max"} <= set(names)
    assert all(n.startswith(("data", "block/conv", "block/act", "norm", "soft max", "silence")) for n in names)


def test_what_is_read_again_is_not_overwritten(tmp_path: Path) -> None:
    net = Net(["N", 4])
    x = net.x[0]
    relu = net("relu", "Relu", x)  # the input stays what it was given
    tanh = net("tanh", "Tanh", relu)  # read twice
    shape = net("reshape", "Reshape", tanh, np.array([0, 2, 2]))
    sigmoid = net("sigmoid", "Sigmoid", shape)  # in Caffe, a Reshape is the memory of what it reshapes
    flat = net("flat", "Flatten", sigmoid)
    total = net("sum", "Sum", net("elu", "Elu", flat), tanh, net("abs", "Relu", net("neg", "Neg", x)))
    model = net.model(total, sigmoid, names=("prob", "middle"))
    agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32))
    in_place = [
        layer
        for layer in re.findall(r"layer {.*?\n}", text_of(model, tmp_path), re.DOTALL)
        if re.findall(r'bottom: "(.*)"', layer)[:1] == re.findall(r'top: "(.*)"', layer)[:1]
    ]
    assert [re.findall(r'name: "(.*)"', layer)[0] for layer in in_place] == ["tanh", "abs"]


def test_every_file_is_of_its_dialect(tmp_path: Path) -> None:
    """Networks of what the dialects differ in."""

    def build(g: Any, x: Any) -> Any:
        y = g.op("MaxPool", x[0], kernel_shape=[3, 3], strides=[2, 2])
        y = g.op("Clip", y, g.constant(np.float32(0), "low"), g.constant(np.float32(6), "high"))
        y = g.op("Mul", y, g.op("Sigmoid", y))
        return g.op("Tanh", g.op("Transpose", y, perm=[0, 2, 3, 1]))

    from google.protobuf import text_format

    model = network(build, ["N", 3, 8, 10])
    for dialect in DIALECTS:
        text = text_of(model, tmp_path, dialect=dialect)
        parsed = text_format.Parse(text, messages("caffe").NetParameter())
        assert dialect_of(parsed) == dialect
        assert {beyond.dialect for beyond in lint(parsed)} <= {dialect}
    with pytest.raises(hub.UsageError, match="it is one of caffe, bvlc, ssd"):
        hub.save(model, tmp_path / "other.prototxt", dialect="brocolli")


def test_a_file_that_needs_more_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = importlib.import_module("exporters.caffe.write")
    monkeypatch.setattr(writer, "dialect_of", lambda net: "ssd")
    model = network(lambda g, x: g.op("Relu", x[0]), ["N", 3])
    with pytest.raises(hub.HubError, match="it needs the SSD family"):
        hub.save(model, tmp_path / "net.prototxt")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exporters.caffe import files

    model = network(lambda g, x: g.op("Gemm", x[0], g.constant(ones(3, 4), "w")), ["N", 3])
    monkeypatch.setattr(files, "LIMIT", 40)
    with pytest.raises(hub.HubError, match="Caffe reads files of at most 40"):
        hub.save(model, tmp_path / "net.prototxt")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    kept = hub.save(model, tmp_path / "net.prototxt")
    before = [path.read_bytes() for path in kept]
    with pytest.raises(hub.UnsupportedOps):
        hub.save(network(lambda g, x: g.op("Sin", x[0]), ["N", 3]), tmp_path / "net.prototxt")
    assert [path.read_bytes() for path in kept] == before


def test_the_weights_alone_make_the_net(tmp_path: Path) -> None:
    """A `.caffemodel` holds the whole net, as those of Caffe do."""
    net = Net(["N", 3])
    path = hub.save(net.model(net("fc", "Gemm", net.x[0], ones(3, 4), ones(4))), tmp_path / "net.caffemodel")[0]
    parsed = messages("caffe").NetParameter.FromString(path.read_bytes())
    assert [layer.name for layer in parsed.layer] == ["data", "fc"]
    assert [tuple(blob.shape.dim) for blob in parsed.layer[1].blobs] == [(4, 3), (4,)]
