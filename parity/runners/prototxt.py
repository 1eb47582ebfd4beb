"""A Caffe model as the user names it: its two files, what must not run, and the interface of its source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.runners import LoadFailed, single_line
from parity.runners.interface import Interface

__all__ = ["Prototxt", "open_prototxt"]

_REFUSED = {
    "Python": "executes code",
    "Data": "reads a database",
    "ImageData": "reads files",
    "HDF5Data": "reads files",
    "WindowData": "reads files",
    "MemoryData": "takes its data from a program",
    "HDF5Output": "writes a file",
    "InfogainLoss": "reads a file",
}
_REFUSED_V1 = {
    5: "Data",
    9: "HDF5Data",
    10: "HDF5Output",
    12: "ImageData",
    13: "InfogainLoss",
    24: "WindowData",
    29: "MemoryData",
}
_TRAIN = 0


@dataclass(frozen=True)
class Prototxt:
    """A checked model: its text, its `NetParameter`, its weights if it has any, and its interface."""

    path: Path
    text: str
    net: Any
    weights: Path | None
    interface: Interface


def open_prototxt(source: Any) -> Prototxt:
    """The model that `source` names: a `.prototxt` or a `.caffemodel`, with the other of the same stem beside
    it, or both in either order.

    Raises:
        LoadFailed: a file is missing or is no prototxt, the net has layers that read files or execute code, or
            the line `# hub: {...}` is malformed.
    """
    path, weights = _files(source)
    try:
        # Comments may be in any encoding; Caffe gets the same bytes.
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {single_line(error)}") from error
    net = _parse(path, text)
    _refuse(net)
    return Prototxt(path, text, net, weights, Interface.read(text))


def _files(source: Any) -> tuple[Path, Path | None]:
    parts = [Path(source)] if isinstance(source, (str, os.PathLike)) else [Path(part) for part in source]
    weights = [part for part in parts if part.suffix.lower() in (".caffemodel", ".h5")]
    structures = [part for part in parts if part not in weights]
    if len(structures) > 1 or len(weights) > 1:
        raise LoadFailed(f"a prototxt and a caffemodel are expected, not {' and '.join(p.name for p in parts)}")
    for part in parts:
        if not part.is_file():
            raise LoadFailed(f"{part} does not exist")
    if not structures:
        structures = [weights[0].with_suffix(".prototxt")]
        if not structures[0].is_file():
            raise LoadFailed(
                f"{weights[0].name} holds weights, and {structures[0].name} is not beside it; give both files"
            )
    beside = structures[0].with_suffix(".caffemodel")
    found = weights[0] if weights else beside if beside.is_file() else None
    return structures[0].resolve(), found.resolve() if found else None


def _parse(path: Path, text: str) -> Any:
    from google.protobuf import text_format

    from hub.schemas import messages

    net = messages("caffe").NetParameter()
    try:
        # What this schema does not know is for Caffe to judge.
        text_format.Parse(text, net, allow_unknown_field=True)
    except (text_format.ParseError, RecursionError, UnicodeError) as error:
        raise LoadFailed(f"{path.name} is not a prototxt: {single_line(error)}") from error
    return net


def _refuse(net: Any) -> None:
    """Raise for layers that read files or execute code, unless they are there for training only."""
    layers = [(layer.name, layer.type, layer.include) for layer in net.layer]
    for layer in net.layers:
        if not layer.type:  # NONE: the fields of the first format are unknown to the schema
            raise LoadFailed(f"the layer {layer.name!r} is of Caffe's first format or has no type; it is not run")
        layers.append((layer.name, _REFUSED_V1.get(layer.type, ""), layer.include))
    for name, kind, rules in layers:
        training = len(rules) > 0 and all(rule.HasField("phase") and rule.phase == _TRAIN for rule in rules)
        if kind in _REFUSED and not training:
            raise LoadFailed(f"the layer {name!r} of type {kind} {_REFUSED[kind]}; nets with it are not run")
