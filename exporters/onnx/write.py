"""Writes the canonical model as an ONNX file, at the canonical opset or at an earlier one."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

import hub
from exporters.onnx.opset import lower
from hub import onnxfile
from hub.model import Model

__all__ = ["build", "write"]


def write(model: Model, dst: Path, *, opset: int | None = None, external_data: bool | None = None) -> list[Path]:
    """Write `dst`, and `<dst>.data` with the weights above 2 GB or if `external_data` is True.

    `opset`: an earlier opset than the canonical one, honoured where every operator's meaning allows.
    """
    return onnxfile.save(build(model, opset=opset), dst, external_data=external_data)


def build(model: Model, *, opset: int | None = None) -> ir.Model:
    """The `onnx_ir.Model` that `write` writes; it shares its weights with `model`."""
    result = model.ir if opset is None else lower(model.ir, opset)
    result.producer_name = "hub"
    result.producer_version = hub.__version__
    result.metadata_props["hub.source"] = model.source
    return result
