"""Small ONNX networks through an exporter into the target's real runtime, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import hub
from hub.builder import GraphBuilder
from hub.model import Model
from parity.runners import find

__all__ = ["FILES", "Build", "agrees", "network", "opened", "saved", "text_of"]

Array = np.ndarray[Any, Any]
Build = Callable[[GraphBuilder, Sequence[ir.Value]], ir.Value | Sequence[ir.Value]]
TOLERANCE = 1e-5
"""Of the spread of an output."""

FILES = {
    "caffe": ("net.prototxt", None),
    "cntk": ("net.dnn", None),
    "cntk code": ("net.py", "cntk"),
    "coremlread": ("net.mlpackage", None),
    "coremlread network": ("net.mlmodel", None),
}
"""By target: the file to write, and the format where its suffix does not say it."""


def saved(model: Model, folder: Path, target: str, **options: Any) -> Path:
    """The main file of a model for a target."""
    name, to = FILES[target]
    return hub.save(model, folder / name, to=to, **options)[0]


def opened(path: Path, target: str) -> Any:
    """The file in the target's real runtime."""
    return find(target.split()[0]).open(path)


def network(build: Build, *shapes: Sequence[int | str], dtype: ir.DataType = ir.DataType.FLOAT) -> Model:
    """A model of inputs x0, x1, ... and outputs y0, y1, ..."""
    graph = GraphBuilder("net")
    inputs = [graph.input(f"x{i}", dtype, list(shape)) for i, shape in enumerate(shapes)]
    with graph.layer("layer", "Test"):
        results = build(graph, inputs)
    for i, result in enumerate([results] if isinstance(results, ir.Value) else results):
        graph.output(result, f"y{i}")
    return Model(graph.model())


def text_of(model: Model, folder: Path, **options: Any) -> str:
    """The prototxt of a model, without its comments."""
    path = hub.save(model, folder / "net.prototxt", **options)[0]
    return "".join(line for line in path.read_text().splitlines(True) if not line.startswith("#"))


def agrees(
    model: Model, folder: Path, *feeds: Array, tolerance: float = TOLERANCE, target: str = "caffe", **options: Any
) -> None:
    """The written files in the real runtime give what ONNX Runtime gives: shapes, types and numbers."""
    path = saved(model, folder, target, **options)
    named = dict(zip((info.name for info in model.inputs), feeds, strict=True))
    expected = model.run(named)
    runner = opened(path, target)
    try:
        got = runner.run(named)
    finally:
        runner.close()
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].shape == array.shape, name
        assert got[name].dtype == array.dtype, name
        a, b = got[name].astype(np.float64), array.astype(np.float64)
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        np.testing.assert_array_equal(a[~np.isfinite(a)], b[~np.isfinite(b)])
        finite = np.isfinite(b)
        if finite.any():
            spread = max(float(np.ptp(b[finite])), float(np.abs(b[finite]).max()) * 1e-1, 1e-30)
            assert np.abs(a - b)[finite].max() <= tolerance * spread, name
