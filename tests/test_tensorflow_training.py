"""Training graphs of slim's years: pruned to what is run, in every form, and onwards to every target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need, need_runtime, written_by

import hub
from hub.errors import UnsupportedOps
from hub.model import Model

pytestmark = pytest.mark.slow
need("tensorflow", "tf2onnx")

MAKER = Path(__file__).with_name("tensorflow_slim.py")
PROBABILITIES = "Predictions/Softmax"
CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "inception_v1": ("", {"inputs": {"is_training": False}}),
    "resnet_v2_50": ("model.ckpt-100.meta", {}),
    "mobilenet_v1": (
        "model.ckpt-100",
        {"inputs": {"is_training": False, "IteratorGetNext": [None, 64, 80, 3]}, "outputs": [PROBABILITIES]},
    ),
}
NODES = {
    "inception_v1": {"Conv": 58, "BatchNormalization": 57, "Relu": 57, "MaxPool": 13, "Concat": 9},
    "resnet_v2_50": {"Conv": 54, "BatchNormalization": 49, "Relu": 49, "Add": 16, "MaxPool": 4},
    "mobilenet_v1": {"Conv": 28, "BatchNormalization": 27, "Clip": 27},
}
END = {"Transpose": 1, "ReduceMean": 1, "Squeeze": 1, "Softmax": 1}
TARGETS = {"torch": "net.py", "caffe": "net.prototxt", "cntk": "net.dnn", "coreml": "net.mlpackage"}


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all of them, moved away from where they were written."""
    folder = tmp_path_factory.mktemp("slim")
    return written_by(MAKER, folder / "made").rename(folder / "moved")


@pytest.fixture(scope="module")
def loaded(slim: Path) -> dict[str, Model]:
    """Each of them from its checkpoint, believed after TensorFlow's session gave the same."""
    return {name: hub.load(slim / name / path, **options) for name, (path, options) in CHECKPOINTS.items()}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_training_graph_becomes_its_inference(slim: Path, loaded: dict[str, Model], name: str) -> None:
    """No node of training is left, none of its conditions, no Cast; and the numbers are TensorFlow's own."""
    expected = np.load(slim / "expected.npz")
    model = loaded[name]
    assert [info.name for info in model.outputs] == [PROBABILITIES]
    assert [(info.shape, info.layout) for info in model.inputs] == [(("N", 64, 80, 3), "NHWC")]
    assert model.outputs[0].shape == ("N", 10)
    assert model.to_dict()["nodes"] == NODES[name] | END
    (found,) = model.run(expected[f"{name}/input"]).values()
    want = expected[f"{name}/prob"]
    np.testing.assert_allclose(found, want, atol=1e-4 * np.ptp(want))
    kept = [warning for warning in model.warnings if "keeps its default, False" in warning]
    assert len(model.warnings) == len(kept) == (1 if name == "resnet_v2_50" else 0)


def test_layers_have_the_names_of_the_source(loaded: dict[str, Model]) -> None:
    layers = loaded["inception_v1"].layers
    assert "InceptionV1/Mixed_3/Branch_1/Conv2d_0b_3x3/Conv2D" in layers
    assert "InceptionV1/Logits/SpatialSqueeze" in layers
    weights = [
        name for name in loaded["inception_v1"].ir.graph.initializers if "Mixed_3/Branch_1/Conv2d_0b_3x3" in name
    ]
    assert weights


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("target", TARGETS)
def test_onwards(loaded: dict[str, Model], tmp_path: Path, name: str, target: str) -> None:
    if target in ("caffe", "cntk"):
        need_runtime(target)
    written = hub.save(loaded[name], tmp_path / TARGETS[target], to=target)
    report = hub.check(loaded[name], tuple(written[:2]) if target in ("caffe", "torch") else written[0])
    assert report.ok, str(report)


@pytest.fixture(scope="module")
def process() -> Iterator[Any]:
    from importers.tensorflow.read import started

    child = started()
    yield child
    child.close()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_frozen(slim: Path, process: Any, name: str) -> None:
    from importers.tensorflow.read import converted, options_of

    expected = np.load(slim / "expected.npz")
    model = converted(process, slim / name / "frozen.pb", options_of(None, None))
    assert [info.name for info in model.inputs] == ["input"]
    assert model.to_dict()["nodes"] == NODES[name] | END
    found = model.run(expected[f"{name}/input"])[PROBABILITIES]
    np.testing.assert_allclose(found, expected[f"{name}/prob"], atol=1e-4 * np.ptp(expected[f"{name}/prob"]))


def test_a_graph_that_is_frozen_goes_all_of_the_way(slim: Path, tmp_path: Path) -> None:
    need_runtime("caffe")
    done = hub.convert(
        slim / "mobilenet_v1" / "frozen.pb", tmp_path / "net.prototxt", outputs=["MobilenetV1/Logits/SpatialSqueeze"]
    )
    assert done.report is not None
    assert done.report.ok
    assert {row.between.split(",")[0] for row in done.report.rows} == {
        "ONNX against TensorFlow source", "Caffe target against ONNX"}  # fmt: skip


def test_what_training_needs_is_named(slim: Path, process: Any) -> None:
    """The input pipeline, with the way out; and the dropout where it is left open whether this is training."""
    from importers.tensorflow.read import converted, options_of

    with pytest.raises(UnsupportedOps, match=r"IteratorGetNext x1(.|\n)*inputs=\{\"IteratorGetNext:0\"") as caught:
        converted(process, slim / "mobilenet_v1", options_of({"is_training": False}, [PROBABILITIES]))
    assert len(caught.value.ops) == 1
    with pytest.raises(UnsupportedOps, match=r'inputs=\{"is_training": False\}'):
        converted(process, slim / "inception_v1", options_of(None, None))
