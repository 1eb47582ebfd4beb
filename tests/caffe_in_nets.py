"""Small Caffe nets for tests: written from text, with seeded weights, and compared with the real Caffe by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

import hub
from hub.schemas import messages

Shapes = Sequence[Sequence[int]]
Feeds = Mapping[str, np.ndarray]


def net_text(layers: str, **inputs: Sequence[int]) -> str:
    """A prototxt: an Input layer for each of `inputs`, then `layers`, each `NAME TYPE BOTTOMS -> TOPS; FIELDS`,
    or text of a prototxt as it is. Without tops, the layer's name is its top."""
    lines = ['name: "net"']
    for blob, shape in inputs.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        lines.append(f'layer {{ name: "{blob}" type: "Input" top: "{blob}" input_param {{ shape {{ {dims} }} }} }}')
    for line in layers.strip().splitlines():
        line = line.strip()
        if not line or re.match(r"layers?\s*\{|[a-z_]+:|[}\s]", line):
            lines.append(line)
            continue
        head, _, fields = line.partition(";")
        left, _, right = head.partition("->")
        name, kind, *bottoms = left.split()
        tops = right.split() or [name]
        ends = [f'bottom: "{blob}"' for blob in bottoms] + [f'top: "{blob}"' for blob in tops]
        lines.append(f'layer {{ name: "{name}" type: "{kind}" {" ".join(ends)} {fields} }}')
    return "\n".join(lines) + "\n"


def numbers(shape: Sequence[int], seed: int, kind: str = "") -> np.ndarray:
    """Seeded weights; `positive` ones for variances."""
    rng = np.random.default_rng(seed)
    if kind == "positive":
        return rng.uniform(0.5, 1.5, tuple(shape)).astype(np.float32)
    if kind == "factor":
        return np.full(tuple(shape), 2.5, np.float32)
    return (rng.standard_normal(tuple(shape)) * 0.5).astype(np.float32)


def fill(blob: Any, array: np.ndarray, form: str = "") -> None:
    """Put an array into a BlobProto: as of today, `legacy` with four sizes, `half`, `double`."""
    if form == "legacy":
        sizes = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = sizes
    else:
        blob.shape.dim.extend(array.shape)
    if form == "half":
        blob.raw_data_type = blob.FLOAT16
        blob.raw_data = array.astype("<f2").tobytes()
    elif form == "double":
        blob.double_data.extend(array.astype(np.float64).reshape(-1).tolist())
    else:
        blob.data.extend(array.reshape(-1).tolist())


def weights_message(blobs: Mapping[str, Sequence[np.ndarray]], form: str = "") -> Any:
    """A caffemodel: of each layer only name and blobs, which is all that Caffe takes from it."""
    net = messages("caffe").NetParameter(name="net")
    for name, arrays in blobs.items():
        layer = net.layer.add(name=name)
        for array in arrays:
            fill(layer.blobs.add(), array, form)
    return net


def write(folder: Path, text: str, blobs: Mapping[str, Sequence[np.ndarray]] | None = None, form: str = "") -> Path:
    """`net.prototxt`, and `net.caffemodel` beside it if there are blobs."""
    path = folder / "net.prototxt"
    path.write_text(text)
    if blobs:
        path.with_suffix(".caffemodel").write_bytes(weights_message(blobs, form).SerializeToString())
    return path


def parsed(text: str) -> Any:
    net = messages("caffe").NetParameter()
    text_format.Parse(text, net)
    return net


def layer_values(model: hub.Model, feeds: Feeds) -> dict[str, np.ndarray]:
    """What every layer of one top gives, in ONNX Runtime."""
    from hub.model import session

    made: dict[str, str] = {}
    for node in model.ir.graph:
        layer = node.metadata_props["hub.layer"]
        if node.name == layer and len(node.outputs) == 1:
            made[layer] = str(node.outputs[0].name)
    opened = session(model.ir, taps=list(made.values()))
    names = [value.name for value in opened.get_outputs()]
    values = dict(zip(names, opened.run(None, dict(feeds)), strict=True))
    return {key: values[name] for key, name in made.items() if name in values}


def feeds_of(model: hub.Model, seed: int = 0, batch: int = 2) -> dict[str, np.ndarray]:
    """Seeded inputs."""
    rng = np.random.default_rng(seed)
    result = {}
    for info in model.inputs:
        shape = [size if isinstance(size, int) else batch for size in info.shape]
        result[info.name] = rng.standard_normal(shape).astype(np.float32)
    return result


def distance(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference, relative to the spread of what is expected."""
    assert expected.shape == got.shape, f"{got.shape}, not {expected.shape}"
    if expected.size == 0:
        return 0.0
    spread = max(float(np.ptp(expected)), float(np.abs(expected).max()), 1e-30)
    return float(np.abs(expected.astype(np.float64) - got).max() / spread)


def blob_shapes(text: str) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """What blobs the importer wants of each layer: found by reading the net with random weights."""
    import tempfile

    from importers.caffe.layers import Context

    wanted: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    original = Context.blobs

    def spy(self: Context, **shapes: Any) -> Any:
        found = original(self, **shapes)
        wanted[self.layer.name] = [(name, tuple(shape)) for name, shape in shapes.items() if shape is not None]
        return found

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text(text)
        Context.blobs = spy  # type: ignore[method-assign]
        try:
            hub.load(path, weights="random")
        finally:
            Context.blobs = original  # type: ignore[method-assign]
    return {name: blobs for name, blobs in wanted.items() if blobs}


def seeded_blobs(text: str, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Seeded blobs for a net; that they have the shapes Caffe wants, Caffe itself says when it loads them."""
    result: dict[str, list[np.ndarray]] = {}
    for name, blobs in blob_shapes(text).items():
        result[name] = []
        for number, (blob, shape) in enumerate(blobs):
            kind = "positive" if blob == "variance" else "factor" if blob == "factor" else ""
            result[name].append(numbers(shape, seed + 17 * number + len(name), kind))
    return result
