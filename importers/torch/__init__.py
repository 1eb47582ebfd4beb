"""PyTorch through torch.onnx: live modules and programs, `.pt2`, TorchScript, state dicts, pickled modules."""

from importers.torch.read import read

__all__ = ["read"]
