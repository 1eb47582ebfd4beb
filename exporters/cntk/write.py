"""A model as `net.dnn`, or as `net.py` and `net.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from exporters.cntk.finish import finish
from exporters.cntk.lower import Lowering
from exporters.cntk.native import write_native
from exporters.cntk.network import Network
from exporters.cntk.source import source
from exporters.cntk.target import legalize
from exporters.cntk.weights import write_npz
from exporters.written import Written
from hub.errors import UnsupportedOps
from hub.formats import find

if TYPE_CHECKING:
    from hub.model import Model

__all__ = ["write"]


def write(model: Model, dst: Path) -> Written:
    """Write the native model to `dst` or, if that ends in `.py`, code with its weights beside it.

    Args:
        model: its sizes must be known but for the batch.
        dst: `.dnn`, `.model` or `.py`.

    Raises:
        UnsupportedOps: listing everything that CNTK cannot say exactly.
    """
    network = lower(model.ir)
    said = [*network.emit.said(), *network.changes()]
    if dst.suffix.lower() != ".py":
        write_native(dst, network)
        return Written([dst], said)
    weights = dst.with_suffix(".npz")
    dst.write_text(source(network, model.ir.graph.name or "", find(model.source).title), encoding="utf-8")
    write_npz(weights, network.emit.functions)
    return Written([dst, weights], said)


def lower(model: ir.Model) -> Network:
    """The network of a model.

    The first axis of the inputs is the batch, of which CNTK computes one sample by one. Where that is impossible
    and all sizes are fixed, it is an axis as any other.
    """
    refused: UnsupportedOps | None = None
    for batch in _ways(model):
        copied = model.clone()
        legalize(copied)
        emit = Lowering(copied, batch)
        try:
            tensors = emit.run()
        except UnsupportedOps as error:
            refused = refused or error
            continue
        names = [value.name or "" for value in copied.graph.outputs]
        outputs = [(name, tensor.variable) for name, tensor in zip(names, tensors, strict=True)]
        return Network(emit, finish(emit, outputs), copied.graph, tensors)
    assert refused is not None
    raise refused


def _ways(model: ir.Model) -> list[bool]:
    """With the batch apart, and without."""
    graph = model.graph
    shapes = [v.shape for v in graph.inputs if v.name not in graph.initializers and v.shape is not None]
    firsts = {d if isinstance(d, int) else "N" for d in (shape[0] for shape in shapes if len(shape))}
    fixed = all(isinstance(size, int) for shape in shapes for size in shape)
    apart = bool(shapes) and len(firsts) == 1 and all(len(shape) for shape in shapes)
    return [True] * (apart or not fixed) + [False] * fixed or [True]
