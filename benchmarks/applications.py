"""python -m benchmarks.applications [--only NAME] [--write FILE]: every model of keras.applications, proved.

Each model is built with seeded weights (normalisation statistics, biases and layer scales randomised so
that they matter), an image with H != W and batch 2, converted to ONNX and to PyTorch code, and run in
Keras, ONNX Runtime and PyTorch. Errors are relative to the spread of Keras's output, before and after
the softmax.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import measure

MODELS = """VGG16 VGG19 ResNet50 ResNet101 ResNet152 ResNet50V2 ResNet101V2 ResNet152V2 InceptionV3 InceptionResNetV2
Xception MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large DenseNet121 DenseNet169 DenseNet201 NASNetMobile
NASNetLarge EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2S EfficientNetV2M
EfficientNetV2L ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge""".split()

ONE = """
import collections, importlib.util, json, sys
import keras, numpy as np, torch
import hub
from hub.model import session
name, folder = sys.argv[1:]
keras.utils.set_random_seed(1)
model = getattr(keras.applications, name)(weights=None, input_shape=(96, 128, 3), classes=100)
rng = np.random.default_rng(2)
for layer in model._flatten_layers():
    new = []
    for variable in layer.weights if not layer._layers else []:
        value = variable.numpy()
        kind = variable.name
        if kind == "moving_variance":
            value = rng.uniform(0.5, 1.5, value.shape)
        elif kind in ("moving_mean", "beta", "bias"):
            value = rng.normal(0, 0.1, value.shape)
        elif kind == "gamma":
            value = rng.uniform(0.5, 1.0, value.shape) * (0.3 if type(layer).__name__ == "LayerScale" else 1)
        new.append(value.astype("float32"))
    if new and len(new) == len(layer.weights) and type(layer).__name__ != "Normalization":
        layer.set_weights(new)
path = f"{folder}/{name}.keras"
model.save(path)
x = rng.uniform(0, 255 if name.startswith(("Eff", "MobileNetV3", "ConvNeXt")) else 1, (2, 96, 128, 3)).astype("float32")
after = model.predict(x, verbose=0)
model.layers[-1].activation = keras.activations.linear
before = keras.Model(model.input, model.output).predict(x, verbose=0)
canonical = hub.load(path)
graph = canonical.ir.graph
source = graph.outputs[0].producer()
tap = source.inputs[0].name if source.op_type == "Softmax" else None
opened = session(canonical.ir, taps=[tap] if tap else [])
got = dict(zip([o.name for o in opened.get_outputs()], opened.run(None, {canonical.inputs[0].name: x})))
hub.save(canonical, f"{folder}/net.py")
spec = importlib.util.spec_from_file_location("net", f"{folder}/net.py")
module = importlib.util.module_from_spec(spec)
sys.modules["net"] = module
spec.loader.exec_module(module)
with torch.no_grad():
    twin = module.load()(torch.from_numpy(x)).numpy()
error = lambda a, b: float(np.abs(a.reshape(b.shape) - b).max() / (b.max() - b.min()))
counts = collections.Counter(node.op_type for node in graph)
print("RESULT" + json.dumps({
    "name": name, "parameters": model.count_params(), "layers": len(model.layers), "nodes": graph.num_nodes(),
    "transposes": counts["Transpose"], "logits": error(got[tap or graph.outputs[0].name], before),
    "output": error(got[graph.outputs[0].name], after), "torch": error(twin, after),
    "lines": len(open(f"{folder}/net.py").read().splitlines()),
}))
"""


def row(name: str) -> str:
    """The line of one model, from a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hub-apps-") as folder:
        done = measure(ONE, name, folder)
    found = [line for line in done.output.splitlines() if line.startswith("RESULT")]
    if done.code or not found:
        return f"| {name} | **failed**: {done.output.strip().splitlines()[-1][:200]} |"
    r = json.loads(found[0].removeprefix("RESULT"))
    errors = " | ".join(f"{r[key]:.1e}" for key in ("logits", "output", "torch"))
    return f"| {name} | {r['parameters'] / 1e6:.1f} | {r['nodes']} | {r['transposes']} | {errors} | {r['lines']} |"


def main() -> None:
    """Run all models and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    lines = [
        "# keras.applications",
        "",
        "Made by `python -m benchmarks.applications --write docs/applications.md`; not edited by hand.",
        "",
        "Seeded weights with randomised normalisation statistics, images of 96 x 128, batch 2. Errors are the largest",
        "difference from Keras by the spread of Keras's output; the promise is 1e-4.",
        "",
        "| model | M parameters | nodes | Transposes | before softmax | ONNX output | PyTorch output | PyTorch lines |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in MODELS if arguments.only is None else [arguments.only]:
        lines.append(row(name))
        print(lines[-1], file=sys.stderr, flush=True)
    page = "\n".join(lines) + "\n"
    if arguments.write:
        arguments.write.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
