"""Facts of Caffe's format beside its messages: which layer types and fields belong to which dialect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["DIALECTS", "LAYER_TYPES", "Beyond", "dialect_of", "lint", "needs"]

LAYER_TYPES = frozenset(
    """AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Concat ContrastiveLoss Convolution Crop Data
    Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output
    HingeLoss Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData
    MultinomialLogisticLoss PReLU Parameter Pooling Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid
    SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss Split TanH Threshold Tile WindowData""".split()
)
"""The 59 layer types of Caffe 1.0."""

DIALECTS = {
    "caffe": "Caffe 1.0",
    "bvlc": "BVLC's Caffe after 1.0",
    "ssd": "the SSD family of Caffe forks",
}
"""Dialects by the name of the option, plain Caffe first."""

_ADDED = {
    "bvlc": frozenset({"Clip", "Swish"}),
    "ssd": frozenset({"Permute", "Normalize", "PriorBox", "DetectionOutput"}),
}


@dataclass(frozen=True)
class Beyond:
    """Something in a file that plain Caffe 1.0 does not know; `dialect` is None where no dialect here has it."""

    layer: str
    what: str
    dialect: str | None


def lint(net: Any) -> Iterator[Beyond]:
    """Everything in a `NetParameter` (of `layer`, not of the older `layers`) that is not plain Caffe 1.0."""
    return _beyond(net.layer)


def _beyond(layers: Iterable[Any]) -> Iterator[Beyond]:
    for layer in layers:
        if layer.type not in LAYER_TYPES:
            dialect = next((name for name, types in _ADDED.items() if layer.type in types), None)
            yield Beyond(layer.name, f"layer type {layer.type}", dialect)
        if layer.HasField("pooling_param") and layer.pooling_param.HasField("round_mode"):
            yield Beyond(layer.name, "pooling_param.round_mode", "bvlc")


def dialect_of(net: Any) -> str | None:
    """The dialect that a net needs: "caffe" if it is plain Caffe 1.0, None if no single one has all of it."""
    return _single(lint(net))


def _single(found: Iterable[Beyond]) -> str | None:
    needed = {beyond.dialect for beyond in found}
    if not needed:
        return "caffe"
    return needed.pop() if len(needed) == 1 else None


def needs(layers: Iterable[Any]) -> str:
    """Which Caffe knows all of these `LayerParameter`s, in a few words."""
    found = list(_beyond(layers))
    dialect = _single(found)
    if dialect == "caffe":
        return f"plain {DIALECTS[dialect]}"
    names = list(dict.fromkeys(beyond.what.removeprefix("layer type ") for beyond in found))
    shown = ", ".join(name[:40] for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"needs {shown}: {DIALECTS[dialect] if dialect is not None else 'another fork of Caffe'}"
