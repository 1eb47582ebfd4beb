"""Caffe to ONNX to Caffe is the same network again: layers, parameters, connections, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from conftest import need_runtime

need_runtime("caffe")

import hub  # noqa: E402
from hub.schemas import messages  # noqa: E402
from hub.schemas.caffe import dialect_of  # noqa: E402

TRAINING = {"weight_filler", "bias_filler", "filler", "use_global_stats", "engine", "moving_average_fraction"}


def read(path: Path) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(), messages("caffe").NetParameter())


def parameters(layer: Any) -> dict[str, Any]:
    """What is set, and matters at inference, by field; a value that is the default is not set."""
    defaults = {"pad": [0], "stride": [1], "dilation": [1]}
    found = {}
    for field, message in layer.ListFields():
        if not field.name.endswith("_param") or field.name == "input_param":
            continue
        for inner, value in message.ListFields():
            plain = list(value) if isinstance(value, type(layer.top)) or hasattr(value, "append") else value
            if inner.name in TRAINING or plain in (defaults.get(inner.name), inner.default_value):
                continue
            found[f"{field.name}.{inner.name}"] = str(plain)
    return found


def connections(net: Any) -> dict[str, list[str]]:
    """For each layer the layers that made what it reads, whatever the blobs are called."""
    writers: dict[str, str] = {}
    result = {}
    for layer in net.layer:
        result[layer.name] = [writers[bottom] for bottom in layer.bottom if bottom in writers]
        writers.update(dict.fromkeys(layer.top, layer.name))
    return result


def weights(path: Path) -> dict[str, list[Any]]:
    net = messages("caffe").NetParameter.FromString(path.read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float32).reshape(-1) for blob in layer.blobs]
        for layer in net.layer
        if layer.blobs
    }


def test_open_nsfw_and_back(nsfw: tuple[Path, Path], tmp_path: Path) -> None:
    prototxt, caffemodel = hub.save(hub.load(nsfw), tmp_path / "again.prototxt")
    before, after = read(nsfw[0]), read(prototxt)

    assert {layer.name: layer.type for layer in before.layer} == {layer.name: layer.type for layer in after.layer}
    assert {x.name: parameters(x) for x in before.layer} == {x.name: parameters(x) for x in after.layer}
    assert connections(before) == connections(after)
    assert dialect_of(after) == "caffe"

    ours, theirs = weights(caffemodel), weights(nsfw[1])
    for name, blobs in ours.items():
        if len(blobs) == 3:  # BatchNorm: the factor is 1 here
            theirs[name] = [blob / theirs[name][2] for blob in theirs[name]]
        for blob, expected in zip(blobs, theirs[name], strict=True):
            np.testing.assert_allclose(blob, expected, rtol=2e-7)

    report = hub.check(nsfw, prototxt, layers=True)
    assert report.ok
    assert len([row for row in report.rows if row.kind == "layer"]) == len(before.layer) - 1
    once_more = hub.save(hub.load((prototxt, caffemodel)), tmp_path / "more.prototxt")
    assert [path.read_bytes() for path in once_more] == [prototxt.read_bytes(), caffemodel.read_bytes()]
