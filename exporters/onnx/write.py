"""Writes the canonical model as an ONNX file, at an opset that most runtimes know where that is exact."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

import hub
from hub import onnxfile
from hub.model import Model
from hub.opset import compatible, lower

__all__ = ["build", "write"]


def write(model: Model, dst: Path, *, opset: int | None = None, external_data: bool | None = None) -> list[Path]:
    """Write `dst`, and `<dst>.data` with the weights above 2 GB or if `external_data` is True.

    `opset`: honoured where every operator's meaning allows; by default the earliest from 21 on that does.
    """
    return onnxfile.save(build(model, opset=opset), dst, external_data=external_data)


def build(model: Model, *, opset: int | None = None) -> ir.Model:
    """The `onnx_ir.Model` that `write` writes; it shares its weights with `model`."""
    result = lower(model.ir, compatible(model.ir) if opset is None else opset)
    result.producer_name = "hub"
    result.producer_version = hub.__version__
    result.metadata_props["hub.source"] = model.source
    return result
