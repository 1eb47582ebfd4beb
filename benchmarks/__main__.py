"""python -m benchmarks [--write FILE] [--only keras|files|large]: the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import keras_to_files, keras_to_onnx, large_onnx

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
    packages = ("onnx-ir", "onnx", "keras", "tensorflow-cpu", "tf2onnx")
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
