"""Keras files to Caffe and CNTK: hub all the way, against what peers need for the first leg, to ONNX."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.keras_to_onnx import EXPORT, HUB, MAKE, TF2ONNX
from benchmarks.measure import Cost, measure, median

MODELS = ("ResNet50", "VGG16")

TOOLS = {
    "hub, to Caffe": (HUB, ".prototxt", 3),
    "hub, to CNTK": (HUB, ".dnn", 3),
    "tf2onnx, to ONNX only": (TF2ONNX, ".onnx", 1),
    "keras export, to ONNX only": (EXPORT, ".onnx", 1),
}


def run(folder: Path) -> str:
    """The table as Markdown. VGG16 is hub's alone: the peers need 23 GB for it."""
    lines = [
        "| model | tool | CPU s | wall s | peak MB | CPU / hub | wall / hub | memory / hub |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for model in MODELS:
        base = folder / model
        made = measure(MAKE, model, str(base))
        if made.code:
            raise SystemExit(f"{model} could not be made:\n{made.output}")
        own: Cost | None = None
        for tool, (code, suffix, runs) in TOOLS.items():
            if model == "VGG16" and code != HUB:
                break
            print(model, tool, file=sys.stderr, flush=True)
            target = folder / f"out{suffix}"
            cost = median([measure(code, f"{base}.keras", str(target)) for _ in range(runs)])
            if cost.code:
                raise SystemExit(f"{tool} failed on {model}:\n{cost.output}")
            own = own or cost
            weights = target.with_suffix(".caffemodel") if suffix == ".prototxt" else target
            size = f" (file: {weights.stat().st_size / 1e6:.0f})" if code == HUB else ""
            ratios = f"{cost.cpu / own.cpu:.1f} | {cost.wall / own.wall:.1f} | {cost.peak / own.peak:.1f}"
            lines.append(f"| {model} | {tool} | {cost.cpu:.2f} | {cost.wall:.2f} | {cost.peak:.0f}{size} | {ratios} |")
            for path in (target, weights):
                path.unlink(missing_ok=True)
        for suffix in (".keras", ".h5"):
            Path(f"{base}{suffix}").unlink(missing_ok=True)
    return "\n".join(lines)
