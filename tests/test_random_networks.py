"""Random Keras models, and random rows of almost equal blocks in ONNX: right everywhere, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import need, need_runtime

need_runtime("caffe")
need_runtime("cntk")
need("keras", "tensorflow", "torch", "safetensors")

from random_graphs import random_graph  # noqa: E402
from random_networks import compare, load_code, run_code  # noqa: E402

import hub  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def _networks(seeds: range, folder: Path) -> None:
    outcomes = {seed: compare(seed, folder) for seed in seeds}
    assert {seed: o.wrong for seed, o in outcomes.items() if o.wrong} == {}
    assert sum(o.compared for o in outcomes.values()) >= 2 * len(seeds)
    assert sum(bool(o.refused) for o in outcomes.values()) <= len(seeds) // 4
    for runtime in ("caffe", "cntk"):
        assert sum(runtime in o.refused_by for o in outcomes.values()) <= len(seeds) // 4


def test_random_keras_models(tmp_path: Path) -> None:
    _networks(range(6), tmp_path)


@pytest.mark.slow
def test_more_random_keras_models(tmp_path: Path) -> None:
    _networks(range(100, 140), tmp_path)


@pytest.mark.parametrize("seed", range(30))
def test_random_rows_of_blocks_as_code(seed: int, tmp_path: Path) -> None:
    graph, x = random_graph(seed)
    model = hub.load(graph)
    expected = list(model.run(x).values())
    hub.save(model, tmp_path / "net.py")
    for e, g in zip(expected, run_code(load_code(tmp_path / "net.py", "net"), [x]), strict=True):
        assert e.shape == g.shape
        assert np.abs(g - e).max() <= 1e-4 * max(float(np.ptp(e)), 1e-3 * float(np.abs(e).max()), 1e-6)
