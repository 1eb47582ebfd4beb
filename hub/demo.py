"""The main job on the sample that ships in the package: Keras to ONNX and to PyTorch code, proved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.convert import check, convert

if TYPE_CHECKING:
    from parity.report import Report

__all__ = ["SAMPLES", "Demo", "demo"]

SAMPLES = Path(__file__).resolve().parent / "samples"
"""`digits.keras`, `digits.h5` (the same network), `digits.npz` (recorded outputs), `digits.json` (what it is)."""


@dataclass
class Demo:
    """What `demo` wrote, what it proved, and what the network says of the first images."""

    about: dict[str, Any]
    paths: list[Path]
    report: Report
    code_report: Report
    predicted: list[str]
    expected: list[str]

    def __str__(self) -> str:
        right = sum(a == b for a, b in zip(self.predicted, self.expected, strict=True))
        lines = [
            f"{self.about['description']},",
            f"trained on {self.about['data']}; test accuracy {self.about['test_accuracy']:.1%}",
            "",
            *(f"wrote {path} ({path.stat().st_size / 1000:,.0f} kB)" for path in self.paths),
            "",
            f"images    {' '.join(self.expected)}",
            f"network   {' '.join(self.predicted)}   ({right} of {len(self.expected)} right)",
            "",
            str(self.code_report),
            "",
            str(self.report),
        ]
        return "\n".join(lines)


def demo(folder: str | Path) -> Demo:
    """Convert the sample to `digits.onnx`, `digits.py` and `digits.safetensors` in `folder`.

    The ONNX file is compared with outputs that Keras itself gave for 32 test images, so the proof
    needs neither Keras nor TensorFlow. So is the PyTorch code, where PyTorch is installed. The folder
    is made if it is not there.
    """
    import numpy as np

    from hub.convert import load

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = json.loads((SAMPLES / "digits.json").read_text("utf-8"))
    source = SAMPLES / "digits.keras"
    paths = [
        path for name in ("digits.onnx", "digits.py") for path in convert(source, folder / name, check=False).paths
    ]
    recording = SAMPLES / "digits.npz"
    report, code_report = check(recording, paths[0]), check(recording, paths[1])
    with np.load(recording) as recorded:
        images = recorded["inputs/image"]
    scores = next(iter(load(paths[0]).run(images).values()))
    labels = about["labels"]
    return Demo(
        about,
        paths,
        report,
        code_report,
        [labels[int(i)] for i in scores.argmax(1)],
        [labels[i] for i in about["recorded"]],
    )
