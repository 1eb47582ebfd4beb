"""What is done to a model before Caffe's op functions see it, in order, and why."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from exporters.caffe.ends import Port, take_off_transposes
from exporters.caffe.words import put
from exporters.rules.absorb_pads import absorb_pads
from exporters.rules.fold_batchnorm import fold_batchnorm
from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.hoist_transposes import hoist_transposes
from exporters.rules.static_shapes import static_shapes
from hub.canonical import infer_shapes
from hub.errors import UsageError
from hub.origin import Origin

__all__ = ["legalize"]


def legalize(
    model: ir.Model, *, batch: int | None, fold: bool, words: Sequence[Origin] = ()
) -> tuple[list[Port], list[Port]]:
    """Bring a copy of a canonical model to what Caffe can say; returns its inputs and outputs.

    `words`: layers that may be said in their own words, found in the model as it was read.

    Raises:
        UsageError: the batch is not open, and is not `batch`.
    """
    if batch is not None:
        _fix_batch(model, batch)  # first: constructions that work along the batch need its size
    put(model, words)  # before any rule changes the nodes that they stand for; of these no shape can be inferred
    fold_shapes(model)  # Caffe computes no shapes: some are known,
    static_shapes(model)  # others are known but for the batch
    hoist_transposes(model)  # networks that scale their pixels first
    ports = take_off_transposes(model.graph)  # Caffe's images are N, C, H, W
    absorb_pads(model)  # Caffe pads inside of its layers
    if fold:
        fold_batchnorm(model)  # as people do before they deploy
    return ports


def _fix_batch(model: ir.Model, batch: int) -> None:
    graph = model.graph
    inputs = [value for value in graph.inputs if value.shape is not None and len(value.shape)]
    sizes = [value.shape[0] for value in inputs if value.shape is not None]
    if sizes and all(isinstance(size, int) for size in sizes) and batch not in sizes:
        raise UsageError(f"batch={batch}: the model itself says {sizes[0]}")
    for value in inputs:
        if value.shape is not None and not isinstance(value.shape[0], int):
            value.shape = ir.Shape([batch, *value.shape[1:]])
    for node in graph:
        for value in node.outputs:
            value.shape = None
    infer_shapes(model)
