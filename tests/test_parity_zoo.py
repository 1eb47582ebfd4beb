"""Right conversions are not failed: networks in Keras, ONNX and PyTorch code on many seeded inputs.

HUB_ZOO_DRAWS=40 gives each network 40 sets of inputs in each target, 400 runs in all.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import need

need("keras", "tensorflow", "torch")

from keras_nets import application, images  # noqa: E402

import hub  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

DRAWS = int(os.environ.get("HUB_ZOO_DRAWS", "4"))
NETWORKS = ("MobileNet", "MobileNetV2", "EfficientNetB0", "DenseNet121", "ResNet50")


@pytest.mark.parametrize("name", NETWORKS if DRAWS > 4 else NETWORKS[:3])
def test_a_right_conversion_is_not_failed(name: str, tmp_path: Path) -> None:
    network = application(name, (64, 96), classes=40, seed=7)
    network.save(tmp_path / "net.keras")
    for target in ("net.onnx", "net.py"):
        hub.convert(tmp_path / "net.keras", tmp_path / target, check=False)
        report = hub.check(
            tmp_path / "net.keras",
            tmp_path / target,
            inputs=lambda draw: images(network, draw, (2, 1, 3)[draw % 3]),
            draws=DRAWS,
        )
        assert report.ok, report
        assert not report.mismatches
