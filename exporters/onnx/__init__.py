"""ONNX files from the canonical model."""

from exporters.onnx.write import build, write

__all__ = ["build", "write"]
