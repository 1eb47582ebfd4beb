"""Networks of keras.applications as PyTorch code: short, formatted, trainable, and with the same numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import need
from torch_nets import module

import hub

need("keras", "tensorflow")

LINES = {"ResNet50": 250, "MobileNetV2": 200, "DenseNet121": 200, "EfficientNetB0": 250, "InceptionV3": 250}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_keras_application(tmp_path: Path, name: str) -> None:
    import keras
    import torch

    rng = np.random.default_rng(0)
    size = 96
    network = getattr(keras.applications, name)(weights=None, input_shape=(size, size + 32, 3), classes=50)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            *affine, mean, variance = layer.get_weights()
            affine = [w + rng.normal(0, 0.1, w.shape) for w in affine]
            layer.set_weights([*affine, rng.normal(0, 0.1, mean.shape), rng.uniform(0.5, 1.5, variance.shape)])
    network.save(tmp_path / "model.keras")
    model = hub.load(tmp_path / "model.keras")
    generated = module(model, tmp_path).load()

    image = rng.uniform(0, 255 if name.startswith("Efficient") else 1, (2, size, size + 32, 3)).astype(np.float32)
    (expected,) = model.run(image).values()
    with torch.no_grad():
        actual = generated(torch.from_numpy(image)).numpy()
    for a, e in ((actual, expected), (np.log(actual), np.log(expected))):  # after and before the softmax
        assert np.abs(a - e).max() <= 1e-4 * (e.max() - e.min())

    text = (tmp_path / "model.py").read_text()
    assert len(text.splitlines()) < LINES[name]
    command = [sys.executable, "-m", "ruff", "format", "--check", "--isolated", "--line-length", "100"]
    done = subprocess.run([*command, str(tmp_path / "model.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

    generated.train()
    generated(torch.from_numpy(image)).log().sum().backward()
    assert all(p.grad is not None for p in generated.parameters())
