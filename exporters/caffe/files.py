"""The two files of a net: the text of its layers, and its weights as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from exporters.caffe.net import Layer
from exporters.constants import Constant
from hub.errors import HubError
from hub.schemas import messages
from hub.wire import delimited

__all__ = ["net_message", "write_prototxt", "write_weights"]

LIMIT = (1 << 31) - 1
"""Caffe reads files of weights up to this size."""

_LAYER, _BLOBS, _DATA = 100, 7, 5


def net_message(name: str, layers: Iterable[Layer]) -> Any:
    """The `NetParameter` without weights."""
    net = messages("caffe").NetParameter(name=name)
    for layer in layers:
        net.layer.add(
            name=layer.name,
            type=layer.type,
            bottom=[blob.name for blob in layer.bottoms],
            top=[blob.name for blob in layer.tops],
            **layer.parameters,
        )
    return net


def write_prototxt(path: Path, net: Any, comments: Sequence[str]) -> None:
    """Write the net as text, after lines of comments."""
    from google.protobuf import text_format

    lines = [f"# {line}".rstrip() for line in comments]
    text = text_format.MessageToString(net, as_utf8=True)
    path.write_text("\n".join([*lines, text]), encoding="utf-8")


def write_weights(path: Path, net: Any, layers: Sequence[Layer]) -> None:
    """Write the net with its weights, one block of one weight in memory at a time.

    Raises:
        HubError: they are more than Caffe can read from one file.
    """
    head = messages("caffe").NetParameter(name=net.name).SerializeToString()
    parts = []
    total = len(head)
    for message, layer in zip(net.layer, layers, strict=True):
        fixed = message.SerializeToString(deterministic=True)
        blobs = [(_blob_head(blob), blob) for blob in layer.blobs]
        size = len(fixed) + sum(len(delimited(_BLOBS, n)) + n for n in (len(h) + 4 * b.size for h, b in blobs))
        parts.append((delimited(_LAYER, size), fixed, blobs))
        total += len(parts[-1][0]) + size
    if total > LIMIT:
        raise HubError(f"the weights need {total} bytes; Caffe reads files of at most {LIMIT}")
    with open(path, "wb") as file:
        file.write(head)
        for tag, fixed, blobs in parts:
            file.write(tag + fixed)
            for blob_head, blob in blobs:
                file.write(delimited(_BLOBS, len(blob_head) + 4 * blob.size) + blob_head)
                blob.write(file)


def _blob_head(blob: Constant) -> bytes:
    """A BlobProto up to its data: the shape, then the tag of the packed floats."""
    shape: bytes = messages("caffe").BlobProto(shape={"dim": list(blob.shape)}).SerializeToString()
    return shape + delimited(_DATA, 4 * blob.size)
