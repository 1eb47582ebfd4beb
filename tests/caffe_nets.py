"""Caffe files for tests, written through the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.schemas import messages

Blobs = Mapping[str, Sequence[np.ndarray[Any, Any]]]


def write(folder: Path, text: str, blobs: Blobs | None = None, name: str = "net") -> Path:
    """Write `name.prototxt`, and with `blobs` by layer `name.caffemodel`; the path of the former."""
    path = folder / f"{name}.prototxt"
    path.write_text(text, encoding="utf-8")
    if blobs is not None:
        net = messages("caffe").NetParameter()
        for layer, arrays in blobs.items():
            entry = net.layer.add(name=layer)
            for array in arrays:
                blob = entry.blobs.add()
                blob.shape.dim.extend(array.shape)
                blob.data.extend(array.astype(np.float32).ravel())
        path.with_suffix(".caffemodel").write_bytes(net.SerializeToString())
    return path


def layer(name: str, kind: str, bottoms: str, tops: str = "", rest: str = "") -> str:
    """One layer; `bottoms` and `tops` are blobs with spaces between, the top is called as the layer by default."""
    said = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in (tops or name).split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(said)} {rest} }}\n'


def source(name: str, *shape: int) -> str:
    """An input."""
    dims = " ".join(f"dim: {dim}" for dim in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
