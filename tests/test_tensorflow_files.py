"""TensorFlow files of every kind, good and bad, converted in the child in which they always are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need, written_by

import hub
from hub.errors import HubError, InvalidModel, UnknownFormat, UnsupportedOps, UsageError
from hub.model import Model

pytestmark = pytest.mark.slow
need("tensorflow", "tf2onnx")

MAKER = Path(__file__).with_name("tensorflow_files.py")
Read = Callable[..., Model]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all of them, moved away from where they were written."""
    folder = tmp_path_factory.mktemp("tensorflow")
    return written_by(MAKER, folder / "made").rename(folder / "moved")


@pytest.fixture(scope="module")
def read() -> Iterator[Read]:
    """The reader, with one child for all files; a new one where that died."""
    from importers.tensorflow.read import converted, options_of, started

    process = [started()]

    def once(path: Path, inputs: Any = None, outputs: Any = None, tag: Any = None, signature: Any = None) -> Model:
        if not process[0].alive:
            process[0].close()
            process[0] = started()
        return converted(process[0], path, options_of(inputs, outputs, tag, signature))

    yield once
    process[0].close()


# -- what is right ------------------------------------------------------------------------------------


def test_a_saved_model_with_two_inputs_and_two_outputs(files: Path) -> None:
    """All of the way: converted in a child, believed after TensorFlow gave the same numbers on batches of 2 and 3."""
    stages: list[str] = []
    model = hub.load(files / "saved", progress=stages.append)
    assert stages == ["opening it in TensorFlow", "tf2onnx converts it", "checking what was read"]
    expected = np.load(files / "saved.npz")
    assert [str(info) for info in model.inputs] == ["bias: float32[N, 4]", "image: float32[N, 12, 10, 3] NHWC"]
    assert [str(info) for info in model.outputs] == ["logits: float32[N, 4]", "scores: float32[N, 4]"]
    assert model.warnings == []
    assert model.variant == "SavedModel"
    found = model.run({"image": expected["image"], "bias": expected["bias"]})
    for name in ("logits", "scores"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert [node.op_type for node in model.ir.graph].count("Transpose") == 1
    assert "conv" in model.layers


def test_a_while_loop(files: Path, read: Read) -> None:
    expected = np.load(files / "steps.npz")
    model = read(files / "steps" / "saved_model.pb")
    np.testing.assert_allclose(model.run(expected["x"])["state"], expected["state"], atol=1e-6)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("two", {"inputs": {"keep_prob": 1.0}, "outputs": ["y"]}),
        ("two/model.ckpt", {"inputs": {"keep_prob": 1.0}, "outputs": ["y:0"]}),
        ("two/model.ckpt.meta", {"inputs": {"keep_prob:0": 1}, "outputs": ["y"]}),
        ("two/checkpoint", {"inputs": {"keep_prob": np.float32(1)}, "outputs": ["y"]}),
        ("nameless", {"inputs": {"keep_prob": 1.0}, "outputs": ["y"]}),
        ("nameless/.meta", {"inputs": {"keep_prob": 1.0}, "outputs": ["y"]}),
        ("tags", {"inputs": {"keep": 1.0}, "tag": "serve"}),
        ("tags/saved_model.pb", {"inputs": {"keep": 1.0}, "tag": "serve,other", "signature": "predict"}),
    ],
)
def test_old_files_under_all_of_their_names(files: Path, read: Read, path: str, options: dict[str, Any]) -> None:
    """Dropout that keeps everything is nothing; `checkpoint` names a place that is not there, or no name."""
    expected = np.load(files / "old.npz")
    model = read(files / path, **options)
    assert [node.op_type for node in model.ir.graph] == ["MatMul", "Relu", "Mul"]
    (found,) = model.run(expected["x"]).values()
    np.testing.assert_allclose(found, expected["y"], atol=1e-6)


def test_a_checkpoint_is_proved_by_its_own_session(files: Path) -> None:
    model = hub.load(files / "nameless", inputs={"keep_prob": 1.0, "x": ["rows", 8]}, outputs=["z", "y"])
    assert model.warnings == []
    assert [str(info) for info in model.inputs] == ["x: float32[rows, 8]"]
    assert [str(info) for info in model.outputs] == ["z: float32[rows]", "y: float32[rows, 5]"]


def test_a_tensor_within_the_graph_becomes_an_input(files: Path, read: Read) -> None:
    model = read(files / "two", inputs={"hidden": ["rows", 5], "keep_prob": 1.0}, outputs=["y"])
    assert [str(info) for info in model.inputs] == ["hidden: float32[rows, 5]"]
    np.testing.assert_allclose(model.run(np.ones((2, 5), np.float32))["y"], np.full((2, 5), 0.5))


@pytest.mark.parametrize(("name", "bound"), [("float", 1e-5), ("mixed", 0.05), ("int8", 0.05)])
def test_tflite(files: Path, read: Read, name: str, bound: float) -> None:
    """Against TensorFlow's interpreter as users have it, with its delegate; integers within their quantisation."""
    expected = np.load(files / "lite.npz")
    model = read(files / f"{name}.tflite")
    (found,) = model.run(expected[f"{name}/x"]).values()
    want = expected[f"{name}/y"].astype(np.float64)
    assert found.dtype == expected[f"{name}/y"].dtype
    assert np.abs(found - want).max() <= max(bound * np.ptp(want), 1.0 if name == "int8" else 0.0)


def test_integers_are_compared_as_what_they_stand_for(files: Path) -> None:
    assert hub.load(files / "int8.tflite").warnings == []


# -- what is refused ----------------------------------------------------------------------------------


def test_python_is_not_called_and_files_are_not_touched(files: Path, read: Read) -> None:
    with pytest.raises(UnsupportedOps) as caught:
        read(files / "python")
    assert [op.op for op in caught.value.ops] == ["PyFunc"]
    with pytest.raises(UnsupportedOps) as caught:
        read(files / "writes")
    assert sorted(op.op for op in caught.value.ops) == ["ReadFile", "WriteFile"]
    assert not (files / "written").exists()
    from parity.runners import LoadFailed, find

    for name, op in (("python", "PyFunc"), ("writes", "WriteFile")):
        with pytest.raises(LoadFailed, match=op):
            find("parity.runners.tensorflow").open(files / name)
    assert not (files / "written").exists()


def test_a_custom_operator_of_tflite_is_refused_by_name(files: Path, read: Read) -> None:
    with pytest.raises(UnsupportedOps) as caught:
        read(files / "custom.tflite")
    assert [(op.op, len(op.layers)) for op in caught.value.ops] == [("Digamma", 2)]


WRONG: list[tuple[str, dict[str, Any], type[HubError], str]] = [
    ("saved", {"signature": "duble"}, UsageError, "did you mean 'double'"),
    ("saved", {"tag": "serv"}, UsageError, "did you mean 'serve'"),
    ("unnamed", {}, UsageError, "several signatures.*'first', 'second'"),
    ("tags", {"tag": "gpu"}, UsageError, "'other,serve'"),
    ("two", {}, UsageError, r"outputs=.*y: float32\[\?, 5\], z: float32\[\?\]"),
    ("two", {"outputs": ["hiden"]}, UsageError, "near are hidden"),
    ("two", {"outputs": ["y"], "inputs": {"keep": 1.0}}, UsageError, "near are keep_prob"),
    ("two", {"outputs": ["y"], "inputs": {"keep_prob": True}}, UsageError, "not one of type float32"),
    ("two", {"outputs": ["y"], "inputs": {"x": [None, 7]}}, UsageError, "cannot have"),
    ("two", {"outputs": ["hidden"], "inputs": {"y": [None, 5]}}, UsageError, "do not depend on the input 'y'"),
    ("two", {"outputs": ["y"], "inputs": {"keep_prob": 0.5}}, UnsupportedOps, "random(.|\n)*is_training"),
    ("two", {"outputs": ["y"]}, UnsupportedOps, "random(.|\n)*keep_prob"),
    ("two/missing.meta", {}, UsageError, "does not exist"),
    ("float.tflite", {"signature": "serving_default"}, UsageError, "are of SavedModels"),
    ("float.tflite", {"inputs": {"image": [None, 9, 9, 3]}}, UsageError, "cannot have the shape"),
    ("float.tflite", {"outputs": ["scores"]}, UsageError, "there is no output 'scores'"),
]


@pytest.mark.parametrize(("path", "options", "kind", "words"), WRONG)
def test_what_is_not_there_is_said(
    files: Path, read: Read, path: str, options: dict[str, Any], kind: type[HubError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        read(files / path, **options)


DAMAGED = ["saved", "two/model.ckpt.meta", "float.tflite"]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(files: Path, tmp_path: Path, read: Read, name: str) -> None:
    """Cut short, and with bytes changed: an error of ours, or a model."""
    source = files / name
    folder = tmp_path / "copy"
    shutil.copytree(source if source.is_dir() else source.parent, folder)
    path = folder / ("saved_model.pb" if source.is_dir() else source.name)
    content = path.read_bytes()
    options: dict[str, Any] = {"outputs": ["hidden"]} if name.startswith("two") else {}
    for length in (0, 7, len(content) // 3, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises((InvalidModel, UnknownFormat, UsageError)):
            read(path, **options)
    random = np.random.default_rng(0)
    for _ in range(6):
        changed = bytearray(content)
        for place in random.integers(8, len(content), 12):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        with suppress(HubError):
            read(path, **options)


def test_variables_that_are_missing_or_damaged(files: Path, tmp_path: Path, read: Read) -> None:
    shutil.copytree(files / "saved", tmp_path / "saved")
    data = tmp_path / "saved" / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(InvalidModel, match="saved is damaged"):
        read(tmp_path / "saved")
    data.with_name("variables.index").unlink()
    with pytest.raises(InvalidModel, match="variables are missing"):
        read(tmp_path / "saved")
    (tmp_path / "graph").mkdir()
    shutil.copy(files / "two" / "model.ckpt.meta", tmp_path / "graph")
    with pytest.raises(InvalidModel, match="its weights are not"):
        read(tmp_path / "graph")
    (tmp_path / "weights").mkdir()
    shutil.copy(files / "two" / "model.ckpt.index", tmp_path / "weights")
    with pytest.raises(UsageError, match="has weights and no graph"):
        read(tmp_path / "weights" / "model.ckpt")


def test_a_file_of_another_name_or_kind(files: Path, tmp_path: Path, read: Read) -> None:
    shutil.copy(files / "saved" / "saved_model.pb", tmp_path / "net.pb")
    with pytest.raises(UsageError, match="is a SavedModel"):
        read(tmp_path / "net.pb")
    shutil.copy(files / "two" / "model.ckpt.meta", tmp_path / "graph.pb")
    with pytest.raises(UsageError, match="is a MetaGraphDef"):
        read(tmp_path / "graph.pb")
    (tmp_path / "text.pbtxt").write_text("node { name: 'x' op: ")
    with pytest.raises(InvalidModel, match=r"text\.pbtxt"):
        read(tmp_path / "text.pbtxt")
    (tmp_path / "loop.pb").write_bytes(b"\x0a\x03\x0a\x01x" * 3)
    with pytest.raises(InvalidModel):
        read(tmp_path / "loop.pb", outputs=["x"])


def test_options_that_say_nothing(files: Path) -> None:
    from importers.tensorflow import read as reader

    with pytest.raises(UsageError, match="by name"):
        reader(files / "saved", inputs=[[None, 4]])
    with pytest.raises(UsageError, match="sizes are numbers"):
        reader(files / "saved", inputs={"x": [0, 4]})
    with pytest.raises(UsageError, match="engine="):
        reader(files / "saved", engine="tensorflow-onnx")
    with pytest.raises(UsageError, match="one path"):
        reader((files / "saved", files / "two"))
