"""python -m benchmarks [--write FILE] [--only keras|files|coreml|parity|large]: the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import keras_to_files, keras_to_onnx, large_onnx, onnx_to_coreml, parity_layers

PARTS = {
    "keras": (
        "Keras files to ONNX",
        "`hub.convert(src, dst, check=False)` against `tf2onnx.convert.from_keras` and "
        '`keras.Model.export(format="onnx")`, loading included. hub: the median of three runs; peers: one run.\n'
        "Each run is a fresh process; CPU is its user and system time, peak its largest resident set.\n"
        "The peers are never run on VGG16, for which they need 23 GB.",
        keras_to_onnx.run,
    ),
    "files": (
        "Keras files to Caffe and CNTK",
        "`hub.convert(src, dst, check=False)` to a `.prototxt` and a `.caffemodel`, and to a `.dnn`, from the `.keras` "
        "file. The peers write neither: what is measured is the first leg of a route through them, to ONNX.\n"
        "Measured as above.",
        keras_to_files.run,
    ),
    "coreml": (
        "ONNX files to Core ML",
        '`hub.convert(src, dst, batch=1, check=False)` to an `.mlpackage` for iOS16, with `precision="fp16"` where it '
        "says so, against onnx2torch 1.5.15, `torch.jit.trace` and `coremltools.convert` of the same precision.\n"
        "hub: the median of three runs; the peer: of two, in turns. Measured as above; user is the user time alone.\n"
        "ResNet50 and MobileNetV2 come from `keras.applications`; the ViT has 12 blocks of width 384, patches of 16 x "
        "16 pixels and images of 224 x 224.\n"
        "The peer gets an empty torchvision, which onnx2torch imports and does not use here, and NumPy below 2.4, "
        "which coremltools' PyTorch frontend needs. It runs as if TensorFlow and scikit-learn were not installed: "
        "coremltools would import them, hub keeps it from that by itself; one row shows it with them.\n"
        "In half precision hub also runs the network twice, to say what that does to it; the peer does not.\n"
        "Last, every file was read by hub's own reader and run by ONNX Runtime against the source: the largest "
        "difference of the output before its softmax, by its spread. Nothing was executed by Core ML.",
        onnx_to_coreml.run,
    ),
    "parity": (
        "Two ONNX models, every value compared",
        "`hub.check(first, second, layers=True)` against `polygraphy run first --onnxrt --onnxrt --onnx-outputs mark "
        "all` (0.53.6), which compares a model with itself. A batch of two images; each run is a fresh process.",
        parity_layers.run,
    ),
    "large": (
        "A model over 2 GB",
        "Matrix multiplications with 4096 x 4096 weights in external data, opset 13 to the canonical opset and back "
        "to disk. The resident set does not grow with the weights.",
        large_onnx.run,
    ),
}


def main() -> None:
    """Run the parts and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()
    packages = ("onnx-ir", "onnx", "keras", "tensorflow-cpu", "tf2onnx", "coremltools", "torch")
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench` (`python -m benchmarks --write docs/benchmarks.md`); not edited by hand.",
        "",
        f"Python {platform.python_version()}, {', '.join(f'{p} {version(p)}' for p in packages)}; 2 cores.",
        "Figures of a shared machine: compare them within one table, not across runs.",
    ]
    for key, (title, text, run) in PARTS.items():
        if arguments.only in (None, key):
            with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
                lines += ["", f"## {title}", "", text, "", run(Path(folder))]
    page = "\n".join(lines) + "\n"
    if arguments.write:
        arguments.write.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
