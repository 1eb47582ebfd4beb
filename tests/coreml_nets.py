"""What tests of Core ML share: small models, and what is in a written file, by its schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.model import Model
from hub.schemas import messages
from importers.coreml.bundle import Bundle

__all__ = ["classifier", "operations", "specification"]


def classifier(layout: str | None = None, size: int | str = "N") -> Model:
    """An image through a convolution, a mean and a product to four probabilities."""
    rng = np.random.default_rng(0)
    graph = GraphBuilder("net")
    shape = [size, 3, 6, 8] if layout is None else [size, 6, 8, 3]
    x = graph.input("image", ir.DataType.FLOAT, shape, layout)
    with graph.layer("front", "Transpose"):
        value = x if layout is None else graph.op("Transpose", x, perm=[0, 3, 1, 2])
    with graph.layer("conv/one", "Conv"):
        kernel = graph.constant(rng.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32), "kernel", "weight")
        value = graph.op("Conv", value, kernel, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        value = graph.op("Relu", value)
    with graph.layer("pool", "GlobalAveragePool"):
        value = graph.op("Flatten", graph.op("GlobalAveragePool", value))
    with graph.layer("dense", "Gemm"):
        matrix = graph.constant(rng.normal(0, 1, (5, 4)).astype(np.float32), "matrix", "weight")
        value = graph.op("Gemm", value, matrix)
    with graph.layer("probs", "Softmax"):
        value = graph.op("Softmax", value, axis=1)
    graph.output(value, "probs")
    return Model(graph.model())


def specification(path: Path) -> Any:
    """The message of a written file."""
    return Bundle(path).model


def operations(path: Path) -> list[Any]:
    """The operations of an ML Program, without constants."""
    program = messages("mil").Program.FromString(specification(path).mlProgram)
    (function,) = program.functions.values()
    (block,) = function.block_specializations.values()
    return [operation for operation in block.operations if operation.type != "const"]
