"""A trained network that its authors publish in two formats: basic-pitch as an ML Program and as ONNX."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import packaged

import hub

pytestmark = pytest.mark.slow

PAIRS = {"Identity": "StatefulPartitionedCall:0", "Identity_1": "StatefulPartitionedCall:1",
         "Identity_2": "StatefulPartitionedCall:2"}  # fmt: skip


def test_basic_pitch_is_what_its_authors_publish_in_onnx() -> None:
    package = packaged("basic-pitch", "nmp.mlpackage/Manifest.json").parent
    ours = hub.load(package)
    theirs = hub.load(packaged("basic-pitch", "icassp_2022/nmp.onnx"))
    assert ours.variant == "ML Program, iOS15"
    assert len(ours.layers) == 113
    rng = np.random.default_rng(0)
    seconds = np.arange(43844)[None, :, None] / 22050
    for number in range(3):
        tone = np.sin(2 * np.pi * 110 * 2**number * seconds) * 0.3
        x = (tone + rng.normal(size=seconds.shape) * 0.05).astype(np.float32)
        found, expected = ours.run(x), theirs.run(x)
        for name, other in PAIRS.items():
            assert expected[other].max() > 0.1
            np.testing.assert_allclose(found[name], expected[other], rtol=0, atol=1e-5)
