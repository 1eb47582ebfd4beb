"""Files that Keras 1.2, Keras 2.2 and tf.keras wrote themselves, against the outputs they recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_nets import agree

import hub

FIXTURES = Path(__file__).parent / "fixtures" / "keras"

FILES = sorted(path for path in FIXTURES.iterdir() if path.suffix in (".h5", ".keras") and ".weights" not in path.name)
REFUSED = {"tf_keras_slicing": "__operators__.getitem"}


def recorded(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return [arrays[k] for k in sorted(arrays) if k[0] == "x"], [arrays[k] for k in sorted(arrays) if k[0] == "y"]


def check(model: hub.Model, name: str) -> None:
    xs, ys = recorded(name)
    got = list(model.run(xs).values())
    assert len(got) == len(ys)
    for expected, value in zip(ys, got, strict=True):
        agree(expected, value)


def test_the_fixtures_are_there_and_small() -> None:
    assert len(FILES) >= 18
    assert all(path.stat().st_size < 100_000 for path in FIXTURES.iterdir() if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_an_old_keras(path: Path) -> None:
    if path.stem in REFUSED:
        with pytest.raises(hub.UnsupportedOps, match=REFUSED[path.stem]):
            hub.load(path)
        return
    check(hub.load(path), path.stem)


@pytest.mark.parametrize("weights", ["keras2_pair.weights.h5", "keras2_pair.h5"])
def test_a_pair_of_keras_2(weights: str) -> None:
    check(hub.load((FIXTURES / "keras2_pair.json", FIXTURES / weights)), "keras2_pair")


def test_names_are_those_of_the_source() -> None:
    assert hub.load(FIXTURES / "keras1_tensorflow_graph.h5").layers[:2] == ["conv", "atrous"]
    merged = hub.load(FIXTURES / "keras1_theano_merged.h5")
    assert [info.name for info in merged.inputs] == ["convolution1d_1_input", "convolution1d_2_input"]


def test_the_backend_of_keras_1_is_told_by_its_names_and_can_be_given() -> None:
    """Theano's kernels are turned; the other reading gives other numbers."""
    path = FIXTURES / "keras1_theano_sequential_tf.h5"
    check(hub.load(path, backend="theano"), path.stem)
    with pytest.raises(AssertionError, match="largest error"):
        check(hub.load(path, backend="tensorflow"), path.stem)
    with pytest.raises(hub.UsageError, match="backend"):
        hub.load(path, backend="caffe")


def changed(tmp_path: Path, name: str, **attributes: str) -> Path:
    path = tmp_path / f"{name}.h5"
    shutil.copy(FIXTURES / f"{name}.h5", path)
    with h5py.File(path, "r+") as file:
        for group in (file, file["model_weights"]):
            group.attrs.update({key: value for key, value in attributes.items() if key in group.attrs})
    return path


def test_hard_sigmoid_is_that_of_the_version(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="largest error"):
        check(hub.load(changed(tmp_path, "keras2_layers", keras_version="3.5.0")), "keras2_layers")


def test_bilinear_interpolation_is_that_of_the_version(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="largest error"):
        check(hub.load(changed(tmp_path, "keras2_bilinear", keras_version="2.4.0")), "keras2_bilinear")
    with pytest.raises(hub.UnsupportedOps, match="TensorFlow 1 and another"):
        hub.load(changed(tmp_path, "keras2_bilinear", keras_version="2.2.4-tf"))


def reconfigured(tmp_path: Path, name: str, old: str, new: str) -> Path:
    path = tmp_path / f"{name}.h5"
    shutil.copy(FIXTURES / f"{name}.h5", path)
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        text = config.decode() if isinstance(config, bytes) else config
        assert old in text
        file.attrs["model_config"] = text.replace(old, new)
        json.loads(file.attrs["model_config"])
    return path


def test_what_keras_1_does_not_say_is_refused(tmp_path: Path) -> None:
    """Padding layers do not record which axes are the image's; with two answers in the model there is none."""
    last = '"name": "gmp", "trainable": true, "dim_ordering": "tf"'
    path = reconfigured(tmp_path, "keras1_tensorflow_graph", last, last.replace('"tf"', '"th"'))
    with pytest.raises(hub.UnsupportedOps, match=r"did not record.*pad"):
        hub.load(path)


@pytest.mark.parametrize("mode", ["dot", "cos"])
def test_other_merges_of_keras_1_are_refused_by_name(mode: str, tmp_path: Path) -> None:
    path = reconfigured(tmp_path, "keras1_tensorflow_graph", '"mode": "sum"', f'"mode": "{mode}"')
    with pytest.raises(hub.UnsupportedOps, match=rf"Merge\(mode='{mode}'\).*sum"):
        hub.load(path)


def test_batch_statistics_at_test_time_are_refused(tmp_path: Path) -> None:
    path = reconfigured(tmp_path, "keras1_tensorflow_sequential_tf", '"mode": 0', '"mode": 2')
    with pytest.raises(hub.UnsupportedOps, match="mode=2"):
        hub.load(path)


def test_pooling_same_of_theano_is_refused(tmp_path: Path) -> None:
    path = reconfigured(
        tmp_path, "keras1_theano_sequential_tf", '"pool_size": [2, 2], "border_mode": "valid"',
        '"pool_size": [2, 2], "border_mode": "same"',
    )  # fmt: skip
    with pytest.raises(hub.UnsupportedOps, match="Theano"):
        hub.load(path)
