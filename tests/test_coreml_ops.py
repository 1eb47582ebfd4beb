"""Every construction of the Core ML exporter on random cases: both kinds of file, run by hub's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import need
from op_cases import CASES, SEEDS, drawn
from out_nets import agrees, saved
from out_random import judged

import hub

need("coremltools")

BEYOND = "Core ML at most 5"
"""Axes, of which some cases have more."""

KINDS = ("coremlread", "coremlread network")


def beyond(model: hub.Model, folder: Path, kind: str) -> bool:
    """Whether a model is refused for that."""
    try:
        saved(model, folder, kind)
    except hub.UnsupportedOps as error:
        return all(BEYOND in op.reason for op in error.ops)
    return False


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_a_random_case(name: str, seed: int, tmp_path: Path) -> None:
    for kind in KINDS if seed % 3 == 0 else KINDS[:1]:
        model, shape, rng = drawn(name, seed)
        if beyond(model, tmp_path, kind):
            continue
        for batch in (1, 3):
            agrees(model, tmp_path, rng.normal(-0.5, 2, [batch, *shape]).astype(np.float32), target=kind)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_are_right_or_refused(seed: int, tmp_path: Path) -> None:
    outcome = judged(seed, tmp_path, layers=True, target="coremlread")
    assert not outcome.wrong
