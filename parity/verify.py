"""Models in a repository, each against the recording beside it."""

from __future__ import annotations

from pathlib import Path

import hub
from hub.errors import HubError
from parity.check import check
from parity.report import NotCompared, Report

__all__ = ["recording_of", "verify"]


def recording_of(model: Path) -> Path:
    """Where the recording of a model is: `net.golden.npz` beside `net.onnx`."""
    return model.with_name(f"{model.stem}.golden.npz")


def verify(model: str | Path) -> Report:
    """Compare a model with the recording beside it; without one, see that it can be read at all.

    Raises:
        HubError: it cannot be read.
    """
    path = Path(model)
    recorded = recording_of(path)
    if recorded.is_file():
        return check(recorded, path)
    found = hub.inspect(path)
    if not found.ok:
        raise HubError(f"{path}: {found}")
    reason = f"there is no {recorded.name} beside it: hub check {path} --save {recorded}"
    return Report(path.name, skipped=[NotCompared(path.name, reason, "no information")])
