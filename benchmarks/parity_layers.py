"""Every value of two ONNX models compared: `hub.check(layers=True)` against Polygraphy's `mark all`."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.large_onnx import MAKE
from benchmarks.measure import Cost, measure

SUITES = Path(__file__).resolve().parent.parent / ".suites"
PACKAGES = (SUITES / "polygraphy",)

NETWORK = """
import sys, keras, hub
keras.utils.set_random_seed(0)
name, file = sys.argv[1:]
model = getattr(keras.applications, name)(weights=None)
model.save(file + ".keras")
given = {model.layers[0].name: [2, *model.input_shape[1:]]}
hub.save(hub.load(file + ".keras", inputs=given), file, opset=13)
"""

HUB = """
import sys, hub
report = hub.check(sys.argv[1], sys.argv[2], layers=True, memory=int(sys.argv[3]))
print(report.verdict)
raise SystemExit(not report.ok)
"""

PEER = """
import sys
from polygraphy.tools import main
sys.argv = ["polygraphy", "run", sys.argv[1], "--onnxrt", "--onnxrt", "--onnx-outputs", "mark", "all",
            "--rtol", "1e-4", "--atol", "1e-4", *sys.argv[2:]]
raise SystemExit(main())
"""


def run(folder: Path) -> str:
    """The table as Markdown."""
    lines = ["| model | tool | CPU s | wall s | peak MB | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for name in ("ResNet50", "VGG16"):
        first, second = folder / f"{name}.onnx", folder / f"{name}_2.onnx"
        _made(measure(NETWORK, name, str(first)))
        shutil.copy(first, second)
        lines += _rows(name, first, second, [])
        first.unlink()
        second.unlink()
    first, second = folder / "large.onnx", folder / "large_2.onnx"
    _made(measure(MAKE, str(first), "46", "4096"))
    shutil.copy(first, second)
    shapes = ["--input-shapes", "x0:[2,4096]"]
    lines += _rows("3.09 GB of weights", first, second, shapes)
    for path in folder.glob("large*"):
        path.unlink()
    return "\n".join(lines)


def _rows(name: str, first: Path, second: Path, words: list[str]) -> list[str]:
    whole = measure(HUB, str(first), str(second), str(1 << 30))
    parts = measure(HUB, str(first), str(second), str(1 << 26))
    peer = measure(PEER, str(first), *words, packages=PACKAGES)
    tools = [("hub, 1 GB of values at a time", whole), ("hub, 64 MB of values at a time", parts)]
    rows = [f"| {name} | {tool} | {_cells(cost)} | {_outcome(cost)} |" for tool, cost in tools]
    return [*rows, f"| {name} | Polygraphy | {_cells(peer)} | {_outcome(peer)} |"]


def _cells(cost: Cost) -> str:
    return f"{cost.cpu:.1f} | {cost.wall:.1f} | {cost.peak:.0f}"


def _outcome(cost: Cost) -> str:
    return "" if cost.code == 0 else f"ends with {cost.code}: {cost.output.strip().splitlines()[-1][:90]}"


def _made(cost: Cost) -> None:
    if cost.code:
        raise SystemExit(cost.output)
