"""A synthetic 3 GB model through load, canonicalise and save: memory must not grow with the weights."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import measure

MAKE = """
import sys, numpy as np, onnx
from onnx import TensorProto, helper
path, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
nodes, initializers = [], []
rng = np.random.default_rng(0)
block = rng.standard_normal((size, size), dtype=np.float32) / np.float32(np.sqrt(size))
with open(path + ".data", "wb") as data:
    for i in range(count):
        data.write(block.tobytes())
        weight = TensorProto(name=f"w{i}", data_type=1, dims=[size, size], data_location=TensorProto.EXTERNAL)
        place = {"location": path.split("/")[-1] + ".data", "offset": i * block.nbytes, "length": block.nbytes}
        for key, value in place.items():
            weight.external_data.add(key=key, value=str(value))
        initializers.append(weight)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"m{i}"))
info = lambda name: helper.make_tensor_value_info(name, 1, ["N", size])
graph = helper.make_graph(nodes, "large", [info("x0")], [info(f"x{count}")], initializers)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
"""

HUB = """
import sys, hub
hub.save(hub.load(sys.argv[1]), sys.argv[2])
"""

PEER = """
import sys, onnx
onnx.save(onnx.load(sys.argv[1]), sys.argv[2], save_as_external_data=True, location="peer.data")
"""


def run(folder: Path) -> str:
    """The table as Markdown: 3 GB, and a tenth of it for comparison."""
    lines = ["| weights | tool | CPU s | wall s | peak MB |", "| ---: | --- | ---: | ---: | ---: |"]
    for count in (5, 46):
        source = folder / "large.onnx"
        made = measure(MAKE, str(source), str(count), "4096")
        if made.code:
            raise SystemExit(made.output)
        for tool, code in (("hub: load, canonicalise, save", HUB), ("onnx: load, save (no change of opset)", PEER)):
            target = folder / "out" / "large.onnx"
            target.parent.mkdir(exist_ok=True)
            cost = measure(code, str(source), str(target))
            if cost.code:
                raise SystemExit(cost.output)
            gigabytes = count * 4096 * 4096 * 4 / 1e9
            lines.append(f"| {gigabytes:.2f} GB | {tool} | {cost.cpu:.1f} | {cost.wall:.1f} | {cost.peak:.0f} |")
            for path in target.parent.iterdir():
                path.unlink()
        source.unlink()
        source.with_name("large.onnx.data").unlink()
    return "\n".join(lines)
