"""python -m benchmarks.networks [--only NAME] [--write FILE]: networks in other frameworks, layer by layer.

Each is built with seeded weights, calibrated so that no layer's numbers vanish or grow, for images with H != W and
batch 2, and converted. Every layer that both sides know by name is compared with ONNX Runtime's value, by its own
spread; outputs before the softmax.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import measure

MODELS = """VGG16 VGG19 InceptionV3 ResNet50 DenseNet121 Xception MobileNet MobileNetV2 NASNetMobile
InceptionResNetV2 EfficientNetB0 ConvNeXtTiny""".split()

TARGETS = {
    "Caffe": ("net.prototxt", None, "{}"),
    "CNTK": ("net.dnn", None, "{}"),
    "CNTK code": ("net.py", "cntk", "{}"),
    "Core ML": ("net.mlpackage", None, "{}"),
    "Core ML, fp16": ("net.mlpackage", None, '{"precision": "fp16"}'),
    "Core ML network": ("net.mlmodel", None, "{}"),
}

ONE = """
import json, sys
sys.path.insert(0, "tests")
import hub
from keras_nets import application, images
from pathlib import Path
name, folder, file, to, options = sys.argv[1:]
network = application(name)
network.save(f"{folder}/net.keras")
model = hub.load(f"{folder}/net.keras")
try:
    paths = hub.save(model, f"{folder}/{file}", to=to or None, **json.loads(options))
except hub.UnsupportedOps as error:
    print("RESULT" + json.dumps({"refused": [op.op for op in error.ops]}))
    raise SystemExit
report = hub.check(model, paths[0], layers=True, inputs=images(network))
layers = [row.of_spread for row in report.rows if row.kind == "layer" and row.of_spread is not None]
outputs = [row.of_spread for row in report.rows if row.kind == "before activation"]
print("RESULT" + json.dumps({
    "ok": report.ok, "after": [row.of_spread for row in report.mismatches if row.kind == "output"],
    "apart": len(report.mismatches), "layers": len(layers), "worst": max(layers), "output": max(outputs),
    "lines": len(paths[0].read_text().splitlines()) if paths[0].suffix == ".py" else 0,
    "size": sum(p.stat().st_size for path in paths for p in [path, *path.rglob("*")] if p.is_file()) / 1e6,
}))
"""


def row(name: str, target: str) -> str:
    """The line of one model in one target, from a process of its own."""
    file, to, options = TARGETS[target]
    with tempfile.TemporaryDirectory(prefix="hub-nets-") as folder:
        done = measure(ONE, name, folder, file, to or "", options)
    found = [line for line in done.output.splitlines() if line.startswith("RESULT")]
    if done.code or not found:
        return f"| {name} | {target} | **failed**: {done.output.strip().splitlines()[-1][:200]} |"
    r = json.loads(found[0].removeprefix("RESULT"))
    if "refused" in r:
        return f"| {name} | {target} | refused: {', '.join(r['refused'])} |"
    verdict = "ok" if r["ok"] else f"{r['apart']} values beyond"
    verdict = f"**differs**, after the softmax {r['after'][0]:.1e}" if r["after"] else verdict
    code = r["lines"] or ""
    cells = [name, target, verdict, r["layers"], f"{r['worst']:.1e}", f"{r['output']:.1e}", code, f"{r['size']:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Run all models and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    lines = [
        "# Networks in Caffe, CNTK and Core ML",
        "",
        "Made by `python -m benchmarks.networks --write docs/networks.md`; not edited by hand.",
        "",
        "Networks of `keras.applications` with seeded weights, calibrated on a seeded batch so that the numbers of",
        "every layer are of unit scale; images of 96 x 128, batch 2; run by the real Caffe 1.0 and the real CNTK 2.7.",
        "Files of Core ML were read by hub's own reader and run by ONNX Runtime, half precision with every result",
        "rounded to it: they were not executed by Core ML. Every layer that has the same name on both sides is",
        "compared with ONNX Runtime; errors are the largest difference by the spread of the layer, those of the",
        "output before the softmax. The promise is 1e-4, of half precision 1e-2, of the outputs; layers beyond it are",
        "counted. What a target could not say exactly would be refused, and stand here as such.",
        "",
        "| model | target | verdict | layers | worst layer | output | lines of code | MB |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in MODELS if arguments.only is None else [arguments.only]:
        for target in TARGETS if arguments.target is None else [arguments.target]:
            lines.append(row(name, target))
            print(lines[-1], file=sys.stderr, flush=True)
    page = "\n".join(lines) + "\n"
    if arguments.write:
        arguments.write.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
