"""Random models through an exporter: right in the target's real runtime, layer by layer, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from out_nets import opened, saved
from random_models import random_model

import hub

__all__ = ["TOLERANCE", "Outcome", "difference", "judged"]

Array = npt.NDArray[Any]
TOLERANCE = 2e-4
"""Of the spread of an output: graphs are deep and some of what is in them is ill-conditioned."""


def difference(expected: Array, got: Array) -> float | None:
    """The largest difference relative to the spread; None where the expected output says nothing."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return float("inf")
    if not expected.size or not np.isfinite(expected).all():
        return None
    a, b = got.astype(np.float64), expected.astype(np.float64)
    spread = max(float(np.ptp(b)), 1e-2 * float(np.abs(b).max()))
    if spread < 1e-4 or spread > 1e6:
        return None
    return float(np.nan_to_num(np.abs(a - b), nan=np.inf).max()) / spread


@dataclass
class Outcome:
    """What came of one model."""

    compared: int = 0
    refused: str = ""
    wrong: list[str] = field(default_factory=list)


def judged(seed: int, folder: Path, layers: bool = False, target: str = "caffe", **options: Any) -> Outcome:
    """One random model in the real runtime of a target."""
    outcome = Outcome()
    model, batch = random_model(seed)
    rng = np.random.default_rng(seed + 1)
    if not isinstance(batch, str):
        options.pop("batch", None)  # it is fixed already
    try:
        path = saved(model, folder, target, **options)
    except hub.UnsupportedOps as error:
        outcome.refused = str(error)
        return outcome
    runner = opened(path, target)
    try:
        fixed = options.get("batch", batch)
        for size in (2, 3) if isinstance(fixed, str) else (fixed,):
            feeds = {}
            for info in model.inputs:
                shape = [d if isinstance(d, int) else size for d in info.shape]
                feeds[info.name] = rng.uniform(-2, 2, shape).astype(np.float32)
            got = runner.run(feeds)
            for name, expected in model.run(feeds).items():
                off = difference(expected, got[name])
                if off is not None and off > TOLERANCE:
                    outcome.wrong.append(f"{name}: {off:.3g} of the spread, {got[name].shape} for {expected.shape}")
                outcome.compared += off is not None
    finally:
        runner.close()
    if layers:
        report = hub.check(model, path, layers=True)
        outcome.wrong += [f"{row}" for row in report.mismatches]
    return outcome
