"""Keras files to ONNX: hub against tf2onnx and Keras's own export, each in processes of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.measure import Cost, measure, median

MODELS = ("ResNet50", "MobileNetV2", "DenseNet121", "EfficientNetB0", "ConvNeXtTiny")

MAKE = """
import sys, keras
keras.utils.set_random_seed(0)
model = getattr(keras.applications, sys.argv[1])(weights=None)
model.save(sys.argv[2] + ".keras")
if sys.argv[1] != "VGG16":
    model.save(sys.argv[2] + ".h5")
"""

HUB = """
import sys, hub
hub.convert(sys.argv[1], sys.argv[2], check=False)
"""

TF2ONNX = """
import sys, keras, tensorflow as tf, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
tf2onnx.convert.from_keras(model, output_path=sys.argv[2])
"""

EXPORT = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
model(np.zeros((1, *model.input_shape[1:]), "float32"))  # a loaded model cannot be exported before it is called
model.export(sys.argv[2], format="onnx", verbose=False)
"""

VALID = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
onnxruntime.InferenceSession(sys.argv[1], options)
"""

TOOLS = {
    "hub, .keras": (HUB, ".keras", 3),
    "hub, .h5": (HUB, ".h5", 3),
    "tf2onnx": (TF2ONNX, ".keras", 1),
    "keras export": (EXPORT, ".keras", 1),
}


def run(folder: Path) -> str:
    """The table as Markdown. VGG16 is hub's alone: the peers need 23 GB for it."""
    lines = [
        "| model | tool | CPU s | wall s | peak MB | CPU / hub | wall / hub | memory / hub | runs in ONNX Runtime |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for model in (*MODELS, "VGG16"):
        base = folder / model
        made = measure(MAKE, model, str(base))
        if made.code:
            raise SystemExit(f"{model} could not be made:\n{made.output}")
        tools = TOOLS if model != "VGG16" else {"hub, .keras": TOOLS["hub, .keras"]}
        own: Cost | None = None
        for tool, (code, suffix, runs) in tools.items():
            print(model, tool, file=sys.stderr, flush=True)
            target = folder / "out.onnx"
            cost = median([measure(code, f"{base}{suffix}", str(target)) for _ in range(runs)])
            own = own or cost
            valid = "no file" if cost.code or not target.exists() else _valid(target)
            size = f" (file: {target.stat().st_size / 1e6:.0f})" if target.exists() and cost == own else ""
            ratios = f"{cost.cpu / own.cpu:.1f} | {cost.wall / own.wall:.1f} | {cost.peak / own.peak:.1f}"
            figures = f"{cost.cpu:.2f} | {cost.wall:.2f} | {cost.peak:.0f}{size}"
            lines.append(f"| {model} | {tool} | {figures} | {ratios} | {valid} |")
            if target.exists():
                os.remove(target)
        for suffix in (".keras", ".h5"):
            Path(f"{base}{suffix}").unlink(missing_ok=True)
    return "\n".join(lines)


def _valid(path: Path) -> str:
    return "yes" if measure(VALID, str(path)).code == 0 else "**no, the graph is invalid**"
