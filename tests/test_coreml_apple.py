"""A part of Apple's own suites, by chance: nothing fails without a reason, and predictions are made."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import missing, need

from tests.apple.suites import OLD_NUMPY, PACKAGES, run
from tests.apple.table import unexplained

need("coremltools", "torch")

LEAST = {"mil": 228, "torch": 268}
"""Predictions of 300 cases: 231 and 272, of which a few may be missing, as the cases draw their numbers anew. The
others test errors, or the graph before it is a file, or are skipped by Apple."""


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["mil", "torch"])
def test_a_sample(suite: str, tmp_path: Path) -> None:
    if not (OLD_NUMPY.is_dir() and PACKAGES.is_dir()):
        missing("what Apple's tests import is not in .suites: make .suites/installed")
    result = run(suite, tmp_path / "log.jsonl", {"sample": 300, "seed": 11})
    assert len(result.cases) == 300
    assert [(case.id, case.message) for case in unexplained(result)] == []
    assert result.predictions >= LEAST[suite]


@pytest.mark.slow
def test_layers_of_networks(tmp_path: Path) -> None:
    if not (OLD_NUMPY.is_dir() and PACKAGES.is_dir()):
        missing("what Apple's tests import is not in .suites: make .suites/installed")
    result = run("nn", tmp_path / "log.jsonl", {"sample": 60, "seed": 11})
    assert [(case.id, case.message) for case in unexplained(result)] == []
    assert result.predictions >= 500
