"""ONNX files to Core ML: hub against onnx2torch, a trace and coremltools, each in processes of its own."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from benchmarks.measure import Cost, measure, median

MODELS = ("ResNet50", "MobileNetV2", "ViT")

SUITES = Path(__file__).resolve().parent.parent / ".suites"
PACKAGES = (SUITES / "numpy", SUITES / "onnx2torch")
"""What only the peer imports: NumPy below 2.4, which coremltools' PyTorch frontend needs, and onnx2torch."""

FROM_KERAS = """
import sys, keras, hub
keras.utils.set_random_seed(0)
name, file = sys.argv[1:]
model = getattr(keras.applications, name)(weights=None)
model.save(file + ".keras")
given = {model.layers[0].name: [1, *model.input_shape[1:]]}
hub.save(hub.load(file + ".keras", inputs=given), file + ".onnx", opset=13)
"""

VIT = """
import sys, torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        split = lambda y: y.reshape(y.shape[0], y.shape[1], self.heads, self.size).transpose(1, 2)
        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = (query @ key.transpose(2, 3) * self.size**-0.5).softmax(-1)
        return self.out((scores @ value).transpose(1, 2).reshape(x.shape))

class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

class ViT(nn.Module):
    def __init__(self, width=384, heads=6, blocks=12):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 197, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])

torch.manual_seed(0)
names = {"input_names": ["image"], "output_names": ["logits"]}
file = sys.argv[2] + ".onnx"
torch.onnx.export(ViT().eval(), (torch.zeros(1, 3, 224, 224),), file, dynamo=False, opset_version=17, **names)
"""

HUB = """
import sys, hub
hub.convert(sys.argv[1], sys.argv[2], batch=1, check=False, precision=sys.argv[3])
"""

PEER = """
import sys, types
import torch
operators = types.ModuleType("torchvision.ops")
operators.nms = operators.box_convert = operators.roi_align = None
torchvision = types.ModuleType("torchvision")
torchvision.ops = operators
sys.modules.update({"torchvision": torchvision, "torchvision.ops": operators})
import onnx, onnx2torch
import coremltools as ct
model = onnx.load(sys.argv[1])
(given,), (result,) = model.graph.input, model.graph.output
shape = [size.dim_value for size in given.type.tensor_type.shape.dim]
network = torch.jit.trace(onnx2torch.convert(model).eval(), torch.zeros(shape))
ct.convert(
    network,
    inputs=[ct.TensorType(name=given.name, shape=shape)],
    outputs=[ct.TensorType(name=result.name)],
    convert_to="mlprogram",
    minimum_deployment_target=ct.target.iOS16,
    compute_precision={"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}[sys.argv[3]],
).save(sys.argv[2])
"""

ALONE = """
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "sklearn"]))  # not there, for what imports them
"""

CHECK = """
import json, sys, hub
report = hub.check(hub.load(sys.argv[1]), sys.argv[2], rtol={"fp32": 1e-4, "fp16": 1e-2}[sys.argv[3]])
last = [row for row in report.rows if row.kind == "before activation"] or [r for r in report.rows if r.kind == "output"]
print("RESULT" + json.dumps([report.ok, max(row.of_spread for row in last)]))
"""

TOOLS = {
    "hub": (HUB, 3),
    "onnx2torch, trace, coremltools": (ALONE + PEER, 2),
    "the same, TensorFlow installed": (PEER, 1),
}


def run(folder: Path) -> str:
    """The table as Markdown."""
    lines = [
        "| model | tool | user s | CPU s | wall s | peak MB | user / hub | CPU / hub | wall / hub | memory / hub "
        "| against ONNX Runtime |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for model in MODELS:
        base = folder / model
        made = measure(VIT if model == "ViT" else FROM_KERAS, model, str(base))
        if made.code:
            raise SystemExit(f"{model} could not be made:\n{made.output}")
        for precision in ("fp32", "fp16") if model == "ResNet50" else ("fp32",):
            lines += _rows(base, precision)
        for suffix in (".keras", ".onnx"):
            Path(f"{base}{suffix}").unlink(missing_ok=True)
    return "\n".join(lines)


def _rows(base: Path, precision: str) -> list[str]:
    """The lines of one model in one precision. Tools take turns, so that what else the machine does meets them all."""
    rows = []
    target = base.with_name("out.mlpackage")
    tools = {t: v for t, v in TOOLS.items() if v[0] != PEER or (base.name, precision) == ("ResNet50", "fp32")}
    costs: dict[str, list[Cost]] = {tool: [] for tool in tools}
    said: dict[str, str] = {}
    for turn in range(max(runs for _, runs in tools.values())):
        for tool, (code, runs) in tools.items():
            if turn >= runs:
                continue
            print(base.name, precision, tool, file=sys.stderr, flush=True)
            shutil.rmtree(target, ignore_errors=True)
            paths = () if code == HUB else PACKAGES
            cost = measure(code, f"{base}.onnx", str(target), precision, packages=paths)
            costs[tool].append(cost)
            if not turn:
                last = (cost.output.strip().splitlines() or [""])[-1][:200]
                said[tool] = f"**no file**: {last}" if cost.code else _agrees(base, target, precision)
    shutil.rmtree(target, ignore_errors=True)
    own = median(costs["hub"])
    for tool in tools:
        cost = median(costs[tool])
        figures = f"{cost.user:.2f} | {cost.cpu:.2f} | {cost.wall:.2f} | {cost.peak:.0f}"
        ratios = [cost.user / own.user, cost.cpu / own.cpu, cost.wall / own.wall, cost.peak / own.peak]
        shown = " | ".join(f"{ratio:.1f}" for ratio in ratios)
        rows.append(f"| {base.name}, {precision} | {tool} | {figures} | {shown} | {said[tool]} |")
    return rows


def _agrees(base: Path, target: Path, precision: str) -> str:
    """What a check of the file says, by hub's own reader."""
    done = measure(CHECK, f"{base}.onnx", str(target), precision)
    found = [line for line in done.output.splitlines() if line.startswith("RESULT")]
    if done.code or not found:
        return f"not read: {done.output.strip().splitlines()[-1][:200]}"
    ok, apart = json.loads(found[0].removeprefix("RESULT"))
    return f"{'agrees' if ok else '**differs**'} {apart:.0e}"
