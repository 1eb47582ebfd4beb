"""Core ML models from an `.mlpackage` or an `.mlmodel`; without coremltools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.errors import Refusal, UnsupportedOps, UsageError, blaming
from hub.formats import resolve
from hub.model import Model
from importers.coreml.bundle import Bundle

__all__ = ["read"]

NETWORKS = frozenset(
    """neuralNetwork neuralNetworkClassifier neuralNetworkRegressor pipeline pipelineClassifier
    pipelineRegressor""".split()
)
"""What `importers.coreml.neuralnetwork` reads."""

FP16 = ("keep", "upcast", "emulate")


def read(
    src: Any,
    *,
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
    function: str | None = None,
    fp16: str = "keep",
) -> Model:
    """Read a Core ML model: an ML Program, a neural network, or a pipeline. Nothing in it is executed.

    Args:
        inputs: shapes by input, for sizes that the model leaves open (a name or None leaves them so).
        outputs: values or operations that are given out instead of the outputs.
        function: which function of an ML Program with several.
        fp16: what becomes of half precision: "keep" it as the file says; "upcast" all of it to float32; "emulate"
            it, which is float32 with every result rounded to float16: ONNX Runtime, which computes half precision in
            float32 and does not overflow, then shows what Core ML does.

    Raises:
        UnsupportedOps: naming every operation that has no form, or the type of the model.
        InvalidModel: a file is damaged, hostile, missing, or no Core ML model.
        UsageError: an option names something that is not there.
    """
    if not isinstance(src, str | Path):
        raise UsageError("a Core ML source is the path of an .mlpackage or .mlmodel")
    if fp16 not in FP16:
        raise UsageError(f"fp16={fp16!r}: it is one of {', '.join(FP16)}")
    path = resolve(src)
    with blaming(str(path), RecursionError):
        bundle = Bundle(path)
        kind = bundle.kind
        if kind == "mlProgram":
            from importers.coreml.program import build as build_program

            return build_program(bundle, dict(inputs or {}), outputs or (), function, fp16)
        if function is not None:
            raise UsageError(f"function={function!r}: the model is a {kind}, and has no functions")
        if kind in NETWORKS:
            from importers.coreml.neuralnetwork import build as build_network

            return build_network(bundle.model, bundle, dict(inputs or {}), outputs or (), fp16)
        refusal = Refusal("it is no neural network", "only ML Programs, neural networks and pipelines of them are read")
        raise UnsupportedOps.collect(
            f"{path}: a Core ML model of this type is not supported:", [(kind, path.stem, refusal)]
        )
