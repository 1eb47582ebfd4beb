"""ONNX models of opset 7 and later, from a file, a `ModelProto` or an `onnx_ir.Model`."""

from importers.onnx.read import read

__all__ = ["read"]
