"""Caffe models from prototxt and caffemodel, or both; without Caffe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import InvalidModel, UsageError, blaming
from hub.formats import resolve
from hub.model import Model
from hub.schemas.caffe import needs
from importers.caffe import graph, text
from importers.caffe.layers import Weights
from importers.caffe.net import Layer, State, filtered, layers_of
from importers.caffe.wire import Blob, WeightFile, blob

__all__ = ["read"]

PROTOTXT, CAFFEMODEL = ".prototxt", ".caffemodel"


def read(
    src: Any,
    *,
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
    weights: str | None = None,
    level: int = 0,
    stages: Sequence[str] = (),
) -> Model:
    """Read a Caffe net at TEST: a `.prototxt`, a `.caffemodel`, or the pair of them in either order.

    Of one file the other is taken where it has the same stem and lies beside it. Nothing in a file is
    executed, with or without `trust`.

    Args:
        inputs: shapes by blob, for what the net does not say, or where another batch is wanted (a name or
            None leaves a size open).
        outputs: blobs or layers that are given out instead of the outputs; what they do not need is not read.
        weights: "random" for seeded numbers where weights are missing: the structure alone.
        level, stages: the state of the net, for layers that include or exclude themselves by it.

    Raises:
        UnsupportedOps: naming every layer that has no form yet.
        InvalidModel: a file is damaged, hostile or no Caffe model, or weights are missing.
    """
    if weights not in (None, "random"):
        raise UsageError(
            f"weights={weights!r}: it is 'random', or the file is given as the pair (prototxt, caffemodel)"
        )
    structure, file = _paths(src)
    opened = None
    if file is not None:
        with blaming(str(file)):
            opened = WeightFile(file)
    with blaming(str(structure or file)):
        if structure is not None:
            net = text.parse(structure)
            everything = layers_of(net, text.layer_lines(structure))
        else:
            assert opened is not None
            net = opened.net
            everything = layers_of(net, older=[layer.message for layer in opened.layers])
        state = State(level, frozenset([*stages, *net.state.stage]))
        layers = filtered(everything, state)
        store = Weights(random=weights == "random")
        warnings = _fill(store, layers, opened)
        inside = set(layers)
        others = [layer for layer in everything if layer not in inside]
        name = net.name or (opened.net.name if opened is not None else "") or (structure or file or Path()).stem
        model = graph.build(name, layers, others, store, dict(inputs or {}), outputs or ())
        model.warnings += warnings
        model.variant = needs(layer.message for layer in everything)
        return model


def _paths(src: Any) -> tuple[Path | None, Path | None]:
    """The prototxt and the caffemodel of a source; None for what there is not."""
    parts = list(src) if isinstance(src, tuple | list) else [src]
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, str | Path) for part in parts):
        raise UsageError("a Caffe source is a .prototxt, a .caffemodel, or the pair of them")
    paths = [_checked(resolve(part)) for part in parts]
    binary = [_is_binary(path) for path in paths]
    if len(paths) == 2:
        if binary[0] == binary[1]:
            raise UsageError(f"{paths[0]} and {paths[1]} are both {'caffemodels' if binary[0] else 'prototxts'}")
        return (paths[1], paths[0]) if binary[0] else (paths[0], paths[1])
    other = paths[0].with_suffix(PROTOTXT if binary[0] else CAFFEMODEL)
    beside = other if other.is_file() else None
    return (beside, paths[0]) if binary[0] else (paths[0], beside)


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise InvalidModel(f"{path} is a directory; a Caffe model is a .prototxt and a .caffemodel")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read: {error.strerror}") from error
    return path


def _is_binary(path: Path) -> bool:
    """By suffix where it is one of the two, otherwise by content: text has no control characters."""
    suffix = path.suffix.lower()
    if suffix in (PROTOTXT, CAFFEMODEL):
        return suffix == CAFFEMODEL
    with open(path, "rb") as file:
        start = file.read(4096)
    return any(byte < 32 and byte not in b"\t\n\r\f" for byte in start)


def _fill(store: Weights, layers: Sequence[Layer], opened: WeightFile | None) -> list[str]:
    """Give the store the blobs of the net's layers, and who shares what; returns warnings."""
    counts = Counter(layer.name for layer in layers)
    store.ambiguous = {name for name, count in counts.items() if count > 1}
    for layer in layers:
        for number, param in enumerate(layer.message.param):
            if param.name:
                store.shared.setdefault(param.name, []).append((layer.name, number))
        if layer.message.blobs:
            blobs = [_from_text(message, f"{layer}: blob {i}") for i, message in enumerate(layer.message.blobs)]
            store.by_layer[layer.name] = (-1, blobs)
    if opened is None:
        return []
    unknown = []
    seen: set[str] = set()
    for index, raw in enumerate(opened.layers):
        name = raw.message.name or f"layer{index}"
        if not raw.blobs:
            continue
        if name not in counts:
            unknown.append(name)
            continue
        if name in seen:
            store.ambiguous.add(name)
        seen.add(name)
        with blaming(f"{opened.path}: layer {name[:100]!r}"):
            store.by_layer[name] = (index, opened.blobs(raw))
    if not unknown:
        return []
    shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return [f"{len(unknown)} layers of {opened.path.name} are not in the net and were left out: {shown}"]


def _from_text(message: Any, where: str) -> Blob:
    numbers = np.array(message.double_data or message.data, np.float64 if message.double_data else np.float32)
    if not numbers.size and message.raw_data:
        raise InvalidModel(f"{where}: raw_data in text is not supported")
    return blob(message, numbers, where)
