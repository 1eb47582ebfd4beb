"""Keras as a runtime: live in this process, files in a child."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need
from parity_models import Weights, keras_model, onnx_model, weights

from parity.check import check
from parity.report import Report

need("keras", "tensorflow")

import keras  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def w() -> Weights:
    return weights()


@pytest.fixture(scope="module")
def model(w: Weights) -> Any:
    return keras_model(w)


def checked(report: Report) -> set[str]:
    return {f"{row.kind} {row.name}" for row in report.rows if row.verdict == "ok"}


ALL = {"output probs", "before activation probs", "layer conv", "layer pool", "layer probs"}


def test_a_live_model_with_its_layers_and_untouched_afterwards(model: Any, w: Weights) -> None:
    report = check(model, onnx_model(w), layers=True)
    assert report.ok, report
    assert checked(report) == ALL
    for layer in model.layers:
        assert "call" not in vars(layer)
    assert model.get_layer("probs").activation is keras.activations.softmax
    wrong = {name: value.copy() for name, value in w.items()}
    wrong["conv/bias"][1] += 0.1
    bad = check(model, onnx_model(wrong), layers=True)
    assert {f"{row.kind} {row.name}" for row in bad.mismatches} == ALL
    (found,) = bad.divergences
    assert str(found) == "conv (Conv2D); its inputs agree"


@pytest.mark.parametrize("form", ["model.keras", "model.h5", "pair"])
def test_files(form: str, model: Any, w: Weights, tmp_path: Path) -> None:
    source: Any = tmp_path / form
    if form == "pair":
        source = (tmp_path / "model.json", tmp_path / "model.weights.h5")
        source[0].write_text(model.to_json())
        model.save_weights(source[1])
    else:
        model.save(source)
    report = check(source, onnx_model(w), layers=True)
    assert report.ok, report
    assert checked(report) == ALL
    assert report.versions["keras"] == keras.__version__


def test_a_file_that_keras_cannot_load_is_not_compared(model: Any, w: Weights, tmp_path: Path) -> None:
    model.save(tmp_path / "model.h5")
    data = (tmp_path / "model.h5").read_bytes()
    (tmp_path / "model.h5").write_bytes(data[: len(data) // 2])
    report = check(tmp_path / "model.h5", onnx_model(w))
    assert not report.ok
    assert not report.mismatches
    (item,) = report.not_compared
    assert item.why == "not loadable"
    assert "truncated" in item.reason


@pytest.mark.parametrize("form", ["model.keras", "model.h5", "pair"])
def test_a_lambda_is_not_executed(form: str, w: Weights, tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    image = keras.Input((9, 7, 3), name="image")
    # The default argument makes the path part of the function that is saved.
    layer = keras.layers.Lambda(lambda x, path=str(witness): (open(path, "w").close(), x)[1], output_shape=(9, 7, 3))
    hostile = keras.Model(image, layer(image))
    hostile(np.zeros((1, 9, 7, 3), np.float32))
    witness.unlink()  # it was there: running the layer executes the function
    source: Any = tmp_path / form
    if form == "pair":
        source = (tmp_path / "model.json", tmp_path / "model.weights.h5")
        source[0].write_text(hostile.to_json())
        hostile.save_weights(source[1])
    else:
        hostile.save(source)
    report = check(source, onnx_model(w))
    assert not report.ok
    assert not witness.exists()
    assert report.not_compared[0].why == "not loadable"


def test_nested_models_shared_layers_and_dictionaries(w: Weights) -> None:
    """The spies follow a nested model; a layer that is called twice has no single output."""
    from parity.runners.keras import KerasRunner

    inner_in = keras.Input((4,), name="inner_in")
    inner = keras.Model(inner_in, keras.layers.Dense(3, activation="sigmoid", name="inside")(inner_in), name="inner")
    shared = keras.layers.Dense(4, name="shared")
    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((4,), name="a")}
    outer = keras.Model(inputs, inner(shared(inputs["a"]) + shared(inputs["b"])))
    runner = KerasRunner(outer)
    feeds = {port.name: np.random.default_rng(0).standard_normal((2, 4), dtype=np.float32) for port in runner.inputs}
    values = runner.run(feeds, ["before:*", "layer:inside", "layer:shared", "layer:nothing"])
    before = [value for name, value in values.items() if name.startswith("before:")]
    assert len(before) == 1
    assert np.allclose(1 / (1 + np.exp(-before[0])), values["layer:inside"], atol=1e-6)
    assert "layer:shared" not in values
    kernel, bias = shared.get_weights()
    weight, offset = inner.get_layer("inside").get_weights()
    assert np.allclose(before[0], ((feeds["a"] + feeds["b"]) @ kernel + 2 * bias) @ weight + offset, atol=1e-5)


def test_the_report_of_a_real_check_is_json(model: Any, w: Weights) -> None:
    assert json.dumps(check(model, onnx_model(w)).to_dict(), allow_nan=False)
