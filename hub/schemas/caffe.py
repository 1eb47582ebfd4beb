"""Facts of Caffe's format beside its messages: which layer types and fields belong to which dialect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["DIALECTS", "LAYER_TYPES", "Beyond", "dialect_of", "lint"]

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
    for layer in net.layer:
        if layer.type not in LAYER_TYPES:
            dialect = next((name for name, types in _ADDED.items() if layer.type in types), None)
            yield Beyond(layer.name, f"layer type {layer.type}", dialect)
        if layer.HasField("pooling_param") and layer.pooling_param.HasField("round_mode"):
            yield Beyond(layer.name, "pooling_param.round_mode", "bvlc")


def dialect_of(net: Any) -> str | None:
    """The dialect that a net needs: "caffe" if it is plain Caffe 1.0, None if no single one has all of it."""
    needed = {beyond.dialect for beyond in lint(net)}
    if not needed:
        return "caffe"
    return needed.pop() if len(needed) == 1 else None
