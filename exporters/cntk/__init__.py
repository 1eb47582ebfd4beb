"""ONNX to CNTK: code with its weights (`net.py`, `net.npz`) and the native model (`net.dnn`), without CNTK."""

from exporters.cntk.write import write

__all__ = ["write"]
