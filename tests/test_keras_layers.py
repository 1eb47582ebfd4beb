"""Every Keras layer that is registered, in its configurations, against Keras itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import need

need("keras", "tensorflow")

import numpy as np  # noqa: E402
from keras_cases import CASES, Case, built  # noqa: E402
from keras_nets import agree, feeds, outputs_of  # noqa: E402

import hub  # noqa: E402
from importers.keras.layers import LAYERS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

ALIASES = {
    "AvgPool1D", "AvgPool2D", "AvgPool3D", "MaxPool1D", "MaxPool2D", "MaxPool3D",
    "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D",
    "GroupQueryAttention",
}  # fmt: skip
"""Names under which Keras exports a layer whose class has another."""

OLD = {
    "Convolution1D", "Convolution2D", "Convolution3D", "Deconvolution2D",
    "SeparableConvolution1D", "SeparableConvolution2D", "ThresholdedReLU",
}  # fmt: skip
"""Layers of earlier versions of Keras: test_keras_old.py."""


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_a_layer_is_right_or_refused_by_name(case: Case, tmp_path: Path) -> None:
    model = built(case)
    paths = [tmp_path / "model.keras", tmp_path / "model.h5"]
    for path in paths:
        model.save(path)
    if case.refused is not None:
        for path in paths:
            with pytest.raises(hub.UnsupportedOps) as caught:
                hub.load(path)
            assert case.refused in str(caught.value)
            assert model.layers[-1].name in str(caught.value), "the refusal does not name the layer"
        return
    arrays = feeds(model, case.sizes)
    expected = outputs_of(model, arrays)
    for path in paths:
        got = list(hub.load(path).run(arrays).values())
        assert len(got) == len(expected)
        for e, g in zip(expected, got, strict=True):
            agree(e, g)


def test_every_registered_layer_has_a_case() -> None:
    used = {type(layer).__name__ for case in CASES.values() if not case.refused for layer in built(case).layers}
    assert set(LAYERS) - used == ALIASES | OLD


@pytest.mark.parametrize("config", [{}, {"threshold": 0.5}, {"max_value": 0.5, "negative_slope": 0.2}])
def test_relu_at_the_edges(config: dict[str, Any], tmp_path: Path) -> None:
    import keras

    x = keras.Input((5,), name="x")
    model = keras.Model(x, keras.layers.ReLU(**config)(x))
    model.save(tmp_path / "model.keras")
    edges = np.array([[-0.5, 0.0, 0.5, -1.0, 1.0], [-0.0, 6.0, 7.0, 0.49999997, 0.50000006]], np.float32)
    got = hub.load(tmp_path / "model.keras").run(edges)
    agree(outputs_of(model, [edges])[0], next(iter(got.values())), 1e-6)
